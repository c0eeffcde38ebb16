"""Checks of what is trained and evaluated: frozen layers, tiny batches, averages that lag, order and scale of the images."""

from __future__ import annotations

import math
from statistics import median

from trainer.analysis.diagnosis.potential import other_inputs
from trainer.analysis.diagnosis.record import LONG, Finding, Record, number, short

SHIFTED, SCALED = 0.7, 1.6  # mean of normalized pixels and ratio of their standard deviation to 1, at most
WORSE = 0.03  # accuracy by which averaged weights are worse than those of the model, from which it is said
TINY_BATCH = 8  # images up to which a batch may be too small
LARGER = 32  # images of a batch, at most, with which a short training tells whether those of a run are
TIMES = 8  # as many images as in the batches of the run, likewise


def frozen_layers(r: Record) -> Finding | None:
    """Layers keep random weights, by the network itself, by the recipe or by ``recipe.freeze``, and the loss is high."""
    frozen = r.frozen
    if not frozen or r.dataset_info.get("pretrained"):
        return None
    total, by_config = frozen + len(r.snapshots[-1]["weights"]), bool(r.setting("recipe", "freeze"))
    text = f"{frozen} of {total} layers with weights do not require gradients, so they keep their initial weights"
    by_recipe = str(r.setting("recipe", "_target_")).rpartition(".")[2]
    if by_config or by_recipe == "Transfer":
        unfrozen = r.branches("unfrozen_start").get(1.0)
        if r.starts_trained or r.probe is None or r.chance_loss is None or not r.struggles:
            return None
        if unfrozen is None:  # left out, because it would have taken too long
            return _mostly_frozen(text, frozen, total, by_config)
        used, after = number(r.probe["used"]["loss"]), number(unfrozen["loss"])
        if after > used - 0.1 * r.chance_loss:
            return None
        return Finding(
            "frozen layers",
            f"{text}; with them trained, a training of no more steps than the run's leads to training loss "
            f"{after:.3g}, the run has {used:.3g}",
            "Layers that are frozen before they have learned anything are random: what follows them learns from noise.",
            _unfreezing(by_config),
        )
    stem = r.setting("architecture", "train_stem") is False
    if stem and frozen == 1 and r.setting("initialization", "rule") == "whitening":
        return None  # its filters are not random
    losses = r.column("validation_loss") or r.column("train_loss")
    high = not losses or losses[-1] > 0.1 * (r.chance_loss or 0.0)
    if not high or by_recipe in ("Finetune", "Gradual"):
        return None
    return Finding(
        "frozen layers",
        text,
        "No recipe of this run freezes layers: the network itself does.",
        ("architecture.train_stem=true",) if stem else ("set requires_grad of its parameters to True",),
    )


def _mostly_frozen(text: str, frozen: int, total: int, by_config: bool) -> Finding | None:
    if frozen < total / 2:
        return None
    return Finding(
        "frozen layers", text, "Most layers are random: what follows them learns from noise.", _unfreezing(by_config)
    )


def _unfreezing(by_config: bool) -> tuple[str, ...]:
    return ("recipe.freeze=[]",) if by_config else ("recipe=scratch",)


def tiny_batch_norm(r: Record) -> Finding | None:
    """The statistics of batch norm are those of very few images: evaluation differs from training."""
    micro = r.setting("micro_batch")
    size, probe = r.dataset_info.get("batch_size") or 0, r.probe
    size = min(micro, size) if isinstance(micro, int) else size
    if (
        probe is None
        or size > TINY_BATCH
        or "loss_of_batch_statistics" not in probe
        or r.chance_loss is None
        or not r.weak
    ):
        return None
    by_batch, used = number(probe["loss_of_batch_statistics"]), number(probe["used"]["loss"])
    if used - by_batch < 0.1 * r.chance_loss:
        return None
    return Finding(
        "batch norm of tiny batches",
        f"on the same training images, the loss is {used:.3g} with the running statistics, {by_batch:.3g} with those of batches "
        f"of {size}",
        "The mean and variance of so few images are noise, which the network has learned to live with.",
        ("micro_batch=null" if isinstance(micro, int) else "batch_size=32", "architecture.norm=group"),
    )


def larger_batches(size: int, steps: int, least: int) -> tuple[int, int]:
    """Return the size of batches that are not tiny, and how many of them have the images of a run, within limits.

    Args:
        size: Of the batches of the run.
        steps: Of the run.
        least: How many of the larger batches at least.

    >>> larger_batches(2, 400, 20), larger_batches(1, 100, 20), larger_batches(8, 10_000, 100)
    ((16, 50), (8, 20), (32, 150))
    """
    larger = min(LARGER, TIMES * size)
    return larger, max(least, min(steps * size // larger, LONG))


def batches_too_small(r: Record) -> Finding | None:
    """No more images in larger batches, at the same learning rate, are learned better than in the whole run."""
    larger, size = r.branches("larger_batches").get(1.0), r.dataset_info.get("batch_size") or 0
    if r.probe is None or larger is None or r.chance_loss is None or not r.struggles:
        return None
    used, after = number(r.probe["used"]["loss"]), number(larger["loss"])
    if after > used - (0.1 if r.learned else 0.04) * r.chance_loss:
        return None
    lower = [number(b["loss"]) for factor, b in r.branches("from_start").items() if factor < 1]
    if min(lower, default=math.inf) < after + 0.05 * r.chance_loss:
        return None  # a lower learning rate helps as much, with batches of this size
    normed = "loss_of_batch_statistics" in r.probe
    images = "1 image" if size == 1 else f"{size} images"
    size, steps = larger_batches(size, r.steps, r.probe["steps"])
    return Finding(
        "batch norm of tiny batches" if normed else "batches too small",
        f"{steps} steps with batches of {size} from the initial weights reach training loss {after:.3g}; "
        f"the run, with batches of {images}, has {used:.3g} after {r.steps} steps",
        "The mean and variance of so few images are noise, with which the network cannot learn."
        if normed
        else "The gradient of so few images is mostly noise: at this learning rate the steps do not add up.",
        (f"batch_size={size}", "architecture.norm=group" if normed else r.lower_lr),
    )


def average_not_used(r: Record) -> Finding | None:
    """The averaged weights are far worse than the model's own, which are used instead."""
    own, averaged = r.column("validation_accuracy"), r.column("averaged_accuracy")
    if not own or not averaged or r.dataset_info.get("metric", "").startswith("averaged"):
        return None
    if own[-1] - averaged[-1] < WORSE:
        return None
    return Finding(
        "average not used",
        f"the averaged weights recognize {100 * averaged[-1]:.1f} % of the validation images, those of the model "
        f"{100 * own[-1]:.1f} %",
        f"The average reaches too far back for a run of {r.steps} steps, so the weights of the model are used.",
        (f"averaging.decay={short(shorter_average(r.steps))}", "averaging=none"),
        "hint",
    )


def shorter_average(steps: int) -> float:
    """Return the decay of an average over about a twentieth of the steps, at least half.

    >>> shorter_average(2000), shorter_average(0)
    (0.99, 0.5)
    """
    return 1 - min(0.5, 20 / max(steps, 1))


def lagging_average(r: Record) -> Finding | None:
    """The averaged weights are far worse than the model's own, because they still contain the beginning of training."""
    own, averaged = r.column("validation_loss"), r.column("averaged_loss")
    if not own or not averaged or r.chance_loss is None:
        return None
    if not r.dataset_info.get("metric", "averaged").startswith("averaged"):
        return None  # the averaged weights are used only where they are as good
    recognized, by_average = r.column("validation_accuracy"), r.column("averaged_accuracy")
    worse = bool(recognized and by_average) and recognized[-1] - by_average[-1] >= WORSE and averaged[-1] > own[-1]
    if not worse and (averaged[-1] < 1.5 * own[-1] or averaged[-1] - own[-1] < 0.05 * r.chance_loss):
        return None
    lower = f"averaging.decay={short(shorter_average(r.steps))}"
    return Finding(
        "lagging average",
        f"the validation loss of the averaged weights is {averaged[-1]:.3g}, that of the model {own[-1]:.3g}",
        f"The average reaches too far back for a run of {r.steps} steps: it still contains the weights of the beginning.",
        (lower, "averaging=none"),
    )


def few_classes_in_batches(r: Record) -> Finding | None:
    """Batches hold far fewer classes than as many random images would, and the network is not good."""
    size = r.dataset_info.get("batch_size") or 0
    counted = [(n, s.get("batch_images", size)) for s in r.snapshots if (n := s.get("batch_classes")) is not None]
    images = r.dataset_info.get("epoch_counts") or r.dataset_info.get("class_counts") or []
    total = sum(images)
    if not r.classifies or len(counted) < 3 or not total or not r.weak:
        return None
    expected = [sum(1 - (1 - n / total) ** drawn for n in images) for _, drawn in counted]
    if median(expected) < 2 or median([n / e for (n, _), e in zip(counted, expected, strict=True)]) > 0.5:
        return None
    return Finding(
        "sorted data",
        f"half of {len(counted)} batches have at most {median([n for n, _ in counted]):g} classes; as many random images have "
        f"{median(expected):.1f} on average",
        "The images come in an order that belongs to their classes: each step unlearns the classes that it does not see.",
        ("shuffle the training images in each epoch",),
    )


def other_normalization(r: Record) -> Finding | None:
    """Pretrained weights that are kept get images in another normalization than they were trained with, and the network is not
    good; where all layers are trained, they adapt.
    """
    if not r.weak or not other_inputs(r):
        return None
    mean, std = (None, None) if r.first is None else (r.first.get("input_mean"), r.first.get("input_std"))
    if mean is not None and std is not None and abs(mean) < SHIFTED and 1 / SCALED < std < SCALED:
        return None  # in another way than the weights', but normalized as well
    values = "" if mean is None or std is None else f": the pixels of the first batch have {mean:.2g} and {std:.2g}"
    return Finding(
        "other normalization than the pretrained weights",
        f"mean and standard deviation of the images are not those with which the pretrained weights were trained{values}",
        "Their first layers answer to other values than they have learned.",
        ("data.normalize=pretrained",),
    )
