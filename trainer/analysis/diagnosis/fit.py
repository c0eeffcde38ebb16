"""Checks of the fit: what is learned at all, capacity, time, generalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.analysis.diagnosis.layers import narrow
from trainer.analysis.diagnosis.record import BRIEF, Finding, Record, number, short
from trainer.analysis.diagnosis.regularization import EXTREME_DECAY, decay_per_step, less_regularization
from trainer.analysis.diagnosis.schedule import still_falls
from trainer.history import better_is
from trainer.measurements import Branch

NORMED = 5  # images of a batch, from which batch norm is not the first cause to think of
COARSE = 12  # pixels, up to which images may be too small to tell what they show
FAR = 0.12  # between the accuracies on training and validation images, at which their losses need not be as far apart
LARGE = 10  # trained parameters for each training image, from which a network is not too small
FIT = 0.95  # validation accuracy, below which a good fit has something to gain
MILD = 1.7  # ratio of the losses on validation and training images, from which it overfits a little
FALLS = 0.9  # part of the training loss that is left of that in the middle of the run, below which it still fell
MEMORIZED = 0.995  # accuracy on the training images, from which a smaller difference of the losses tells
GAIN = 0.03  # part of the training loss by which a short training must lower it to tell a cause


def not_learning(r: Record) -> Finding | None:
    """Loss and accuracy are those of guessing."""
    if not r.rows or (len(r.rows) < 2 and r.steps < BRIEF) or r.learned or r.chance_loss is None:
        return None
    losses = r.column("validation_loss") or r.column("train_loss")
    if not r.classifies:
        return Finding(
            "not learning",
            f"after {r.rows[-1]['epoch']:g} epochs the lowest loss is {min(losses):.3f}; the best constant prediction has "
            f"{r.chance_loss:.3f}",
            "The predictions do not depend on the image: the learning rate may be far off, activations or gradients may vanish, "
            "or the labels may not match the images.",
            (r.higher_lr, r.lower_lr, "initialization=auto", "activation=relu"),
        )
    best = max(r.column("validation_accuracy") or r.column("train_accuracy"))
    return Finding(
        "not learning",
        f"after {r.trained:g} epoch{'s' * (r.trained != 1)} the loss is {losses[-1]:.3f} and the best accuracy {best:.3f}; "
        f"guessing gives {r.chance_loss:.3f} and {r.majority:.3f}",
        "The network does not separate the classes: the learning rate may be far off, activations or gradients may vanish, "
        "or the labels may not match the images.",
        (r.higher_lr, r.lower_lr, "initialization=auto", "activation=relu"),
    )


def underfitting(r: Record) -> Finding | None:
    """The training loss stays high."""
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if r.chance_loss is None or (r.probe is not None and r.steps < BRIEF):
        return None
    if r.probe is not None:
        used = r.probe["used"]
        ends = [number(used["loss"]), *([] if "validation_loss" not in used else [number(used.get("validation_loss"))])]
        fits = [number(b["loss"]) for b in r.branches("one_batch").values()]
        cannot = not r.learned and (narrow(r) > 0 or (bool(fits) and min(fits) > 0.5 * r.chance_loss))
        if not r.struggles or ends[0] < 0.3 * r.chance_loss or not (r.learned or cannot):
            return None
    else:
        if len(train) < 3 or not r.learned or r.dataset_info.get("mixed"):
            return None
        ends = [train[-1], *validation[-1:]]
        if min(ends) < 0.4 * r.chance_loss:
            return None
    if len(ends) > 1 and ends[1] > 1.5 * ends[0]:
        return None  # overfitting instead
    if still_falls(r):
        return None  # still improving instead
    validation_text = f", the validation loss {ends[1]:.3f}" if len(ends) > 1 else ""
    possible = _possible_causes(r)
    units = narrow(r)
    few = f"; a layer has {units} unit{'s' * (units > 1)}, by architecture.widths" if units else ""
    return Finding(
        "underfitting",
        f"the training loss is {ends[0]:.3f}{validation_text}; guessing gives {r.chance_loss:.3f}{few}",
        f"Not even the training images are learned: the network is {' or '.join(possible)}.",
        tuple(attempt for attempts in possible.values() for attempt in attempts),
    )


def _possible_causes(r: Record) -> dict[str, tuple[str, ...]]:
    """What may keep a network from fitting the training images, with what to try, without what the short trainings exclude."""
    causes: dict[str, tuple[str, ...]] = {}
    if narrow(r):
        causes["too small"] = (*_wider(r), "architecture=resnet20")
    if r.starts_trained:
        causes["trained too briefly, or at too low a learning rate"] = _further(r)
    size = r.dataset_info.get("batch_size") or NORMED
    if r.probe is not None and "loss_of_batch_statistics" in r.probe and size < NORMED:
        causes[f"normalized over batches of {size}"] = (f"batch_size={8 * size}", "architecture.norm=group")
    if r.frozen and not r.starts_trained:
        causes["frozen in layers that have not learned yet"] = ("recipe=scratch", "recipe.freeze=[]")
    pixels = r.setting("data", "size")
    if r.dataset_info.get("dropped_colors"):
        causes["given images without their colors"] = ("data.channels=3",)
    if isinstance(pixels, int) and pixels <= COARSE:
        causes["given images that are too small"] = (f"data.size={4 * pixels}",)
    if _large(r) and (_fell(r) or not r.starts_trained):
        causes["trained too briefly"] = (r.epochs(3), r.higher_lr)
    elif not r.starts_trained:
        causes.setdefault("too small", (*_wider(r), "architecture=resnet20"))
    own, start = r.branches("from_used").get(1.0), r.branches("from_start").get(1.0)
    free, fresh = r.branches("unregularized").get(1.0), r.branches("unregularized_start").get(1.0)
    longer, freed = r.branches("longer_start").get(1.0), r.branches("unregularized_longer_start").get(1.0)
    if freed is not None and longer is not None and not _no_gain(freed, longer):
        causes = {"too strongly regularized": less_regularization(r), **causes}
    elif not (_no_gain(free, own) and _no_gain(fresh, start)):
        causes["too strongly regularized"] = less_regularization(r)
    if r.setting("augmentation"):
        causes["given images that are augmented too strongly"] = ("augmentation=[]",)
    used = None if r.probe is None else r.probe["used"]["loss"]
    more = [number(b["loss"]) for b in r.branches("from_used").values()]
    briefly = used is None or not more or min(more) < (1 - GAIN) * number(used)
    if briefly and not r.starts_trained:
        causes.setdefault("trained too briefly", (r.epochs(2),))
    return causes


def _further(r: Record) -> tuple[str, ...]:
    """What trains a network further that was trained before: more epochs, a higher learning rate, all layers from the start."""
    peak = max((row.get("lr") or 0.0 for row in r.rows if row.get("phase") == r.rows[-1].get("phase")), default=0.0)
    higher = (f"recipe.lr={short(10 * peak)}",) if r.setting("recipe", "lr") is not None and peak else ()
    return (r.epochs(3), *higher, "recipe=scratch")


def _large(r: Record) -> bool:
    """Whether a network could hold all training images, so that it is not too small for them."""
    return r.dataset_info.get("parameters", 0) >= LARGE * max(r.dataset_info.get("train", 0), 1)


def _fell(r: Record) -> bool:
    """Whether the training loss still fell in the second half of the run, or the run had too few epochs to tell."""
    losses = r.column("train_loss")
    return len(losses) < 4 or losses[-1] < FALLS * losses[len(losses) // 2]


def _no_gain(changed: Branch | None, plain: Branch | None) -> bool:
    """Whether a short training reached a loss that is not lower than that of the other."""
    return changed is not None and plain is not None and number(changed["loss"]) > (1 - GAIN) * number(plain["loss"])


def _wider(r: Record) -> tuple[str, ...]:
    """Override for a wider network, if its widths are known: four times as wide, at least 32."""
    widths = r.widths
    if not widths:
        return ()
    wider = [max(32, 4 * width) for width in widths]
    return (f"architecture.widths=[{','.join(map(str, wider if len(wider) > 1 else [*wider, 2 * wider[0]]))}]",)


def overfitting(r: Record) -> Finding | None:
    """The validation loss is far above the training loss, or rises again; of labels and numbers, the main metric gets worse."""
    if r.probe is not None and r.classifies:
        return _overfitting_by_probe(r)
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or not r.learned:
        return None
    best = min(range(len(validation)), key=validation.__getitem__)
    gap = validation[-1] - train[-1]
    rises_again = validation[-1] > max(1.1 * validation[best], validation[best] + 0.03 * (r.chance_loss or 1.0))
    minimum = f"its minimum was {validation[best]:.3f}"
    if not r.classifies:
        metric = r.dataset_info.get("main_metric", "loss")
        values = r.column(f"validation_{metric}")
        if len(values) < len(validation):
            return None
        best, rises_again = worsened(values, better_is(metric) == "min")
        minimum = f"the {metric} of the validation images is {values[-1]:.4g}, its best was {values[best]:.4g}"
    wide = gap > 0.3 * max(r.chance_loss or 1.0, 0.5) and validation[-1] > 2 * train[-1]
    if not (wide or (rises_again and gap > 0 and train[-1] < train[best])):
        return None
    return _overfitting(
        r,
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}; {minimum} at epoch "
        f"{r.rows[best]['epoch']:g}",
    )


def _overfitting(r: Record, evidence: str) -> Finding:
    return Finding(
        "overfitting",
        evidence,
        "The network memorizes the training images: more images, augmentation or a regularizer would help more than longer "
        "training.",
        _against_overfitting(r),
    )


def _against_overfitting(r: Record) -> tuple[str, ...]:
    train = r.dataset_info.get("train", 0)
    more = (f"data.limit={4 * train}",) if train and r.setting("data", "limit") == train else ()  # others are left out
    regularizers = ("regularizer=[mixup]", "regularizer=[early_stopping,dropout,label_smoothing]")
    return (*more, "augmentation=[rotation]", *regularizers, "optimizer.weight_decay=0.005")


def worsened(values: Sequence[float], lower_is_better: bool) -> tuple[int, bool]:
    """Return the index of the best value and whether the last value is clearly worse than it.

    Clearly worse is a loss more than 10 percent above the best one, or an accuracy more than 0.03 below the best one.

    >>> worsened([0.5, 0.9, 0.8], lower_is_better=False), worsened([0.5, 0.2, 0.21], lower_is_better=True)
    ((1, True), (1, False))
    """
    best = min(range(len(values)), key=lambda i: values[i] if lower_is_better else -values[i])
    return best, values[-1] > 1.1 * values[best] if lower_is_better else values[-1] < values[best] - 0.03


def _overfitting_by_probe(r: Record) -> Finding | None:
    """The weights that are used fit the training images, without augmentation, far better than the validation images."""
    assert r.probe is not None
    used, chance = r.probe["used"], r.chance_loss
    train, validation = number(used["loss"]), used.get("validation_loss")
    if validation is None or chance is None or not r.learned:
        return None
    accuracy, held_out = used["accuracy"], used.get("validation_accuracy")
    gap = 0.0 if accuracy is None or held_out is None else accuracy - held_out
    ratio = 2.0 if gap < FAR else 1.5
    least = 0.09 if (accuracy or 0.0) >= MEMORIZED or gap >= FAR else 0.11
    if validation < ratio * train or validation - train < least * chance or gap < 0.06:
        return None
    return _overfitting(
        r,
        f"the training images have loss {train:.3f} and accuracy {100 * (accuracy or 0):.1f} %, the validation images "
        f"{validation:.3f} and {100 * (held_out or 0):.1f} %",
    )


def good_fit(r: Record) -> Finding | None:
    """Training and validation loss are low and close to each other."""
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or r.chance_loss is None:
        return None
    if r.probe is not None and r.weak:
        return None
    gap = validation[-1] - train[-1]
    accuracies = r.column("validation_accuracy")
    # A strong weight decay lets a network recognize the images with a loss that is not low.
    low = 0.35 if accuracies and accuracies[-1] >= 0.93 and decay_per_step(r) < EXTREME_DECAY else 0.15
    if validation[-1] > low * r.chance_loss or gap > 0.1 * r.chance_loss or validation[-1] > 1.1 * min(validation):
        return None
    finding = Finding(
        "good fit",
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}",
        "The network has learned the task and generalizes to unseen images.",
        kind="good",
    )
    if not accuracies or accuracies[-1] >= FIT or validation[-1] < MILD * train[-1]:
        return finding
    return replace(
        finding,
        evidence=f"{finding.evidence} (accuracy {100 * accuracies[-1]:.1f} %)",
        meaning=f"{finding.meaning} What is left is mild overfitting: it recognizes its training images better.",
        attempt=_against_overfitting(r),
    )
