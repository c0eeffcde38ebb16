"""Checks of the training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from trainer.analysis.diagnosis.record import Finding, Record
from trainer.analysis.intervals import proportion_half_width
from trainer.history import better_is


def nonfinite_loss(r: Record) -> Finding | None:
    """The loss, or a layer, became NaN or Inf."""
    snapshot = next((s for s in r.snapshots if not s["finite"] or s.get("first_nonfinite")), None)
    row = next((row for row in r.rows if not math.isfinite(row.get("train_loss", math.nan) or 0.0)), None)
    if snapshot is not None:
        where = f"step {snapshot['step']} or up to {snapshot['batches']} steps before"
        if layer := snapshot.get("first_nonfinite"):
            where += f"; the first layer with a NaN or Inf is {layer}"
    elif row is not None:
        where = f"the epoch that ended at {row['epoch']:g}"
    else:
        return None
    return Finding(
        "NaN or Inf loss",
        f"the loss was not finite at {where}",
        "Values overflowed, and training cannot recover. The usual cause is a learning rate too high for this network.",
        (r.lower_lr, "optimizer.clip_norm=1", "precision=float32"),
        "urgent",
    )


def exploding_loss(r: Record) -> Finding | None:
    """The training loss ends far above that of guessing."""
    losses, chance = r.column("train_loss"), r.chance_loss
    if not losses or chance is None:
        return None
    limit = 2.5 * max(chance, 0.5)
    first = r.snapshots[0]["batch_loss"] if r.snapshots and r.snapshots[0]["step"] == 1 else None
    lowest = min(losses if first is None else [*losses, float(first)])
    if losses[-1] < limit or losses[-1] < 1.5 * lowest:
        return None
    return Finding(
        "exploding loss",
        f"the training loss is {losses[-1]:.3g}; guessing gives {chance:.3g}",
        "Each step overshoots the minimum, so the network is worse than guessing.",
        (r.lower_lr, "optimizer.clip_norm=1", "schedule=[warmup,cosine]"),
        "urgent",
    )


def not_learning(r: Record) -> Finding | None:
    """Loss and accuracy are those of guessing."""
    if len(r.rows) < 2 or r.learned or r.chance_loss is None:
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
        f"after {r.rows[-1]['epoch']:g} epochs the loss is {losses[-1]:.3f} and the best accuracy {best:.3f}; "
        f"guessing gives {r.chance_loss:.3f} and {r.majority:.3f}",
        "The network does not separate the classes: the learning rate may be far off, activations or gradients may vanish, "
        "or the labels may not match the images.",
        (r.higher_lr, r.lower_lr, "initialization=auto", "activation=relu"),
    )


def lr_too_high(r: Record) -> Finding | None:
    """Steps are large relative to the weights, and the training loss rises or stays high."""
    ratios = _update_ratios(r)
    losses = r.column("train_loss")
    rises = sum(b > 1.02 * a for a, b in pairwise(losses))
    jumpy = len(losses) >= 4 and rises >= 0.3 * (len(losses) - 1)
    large = bool(ratios) and max(ratios) > 0.03
    if not (large and (jumpy or not r.learned or r.stuck)):
        return None
    return Finding(
        "learning rate too high",
        f"a step changes the weights of the median layer by {100 * max(ratios):.2g} % (about 0.1 % is usual); the training "
        f"loss rose in {rises} of {max(len(losses) - 1, 0)} epochs",
        "Steps of this size jump across the minimum instead of descending into it.",
        (r.lower_lr, "schedule=[warmup,cosine]"),
    )


def lr_too_low(r: Record) -> Finding | None:
    """Steps are tiny relative to the weights, and the training loss still falls."""
    ratios, losses = _update_ratios(r), r.column("train_loss")
    if not ratios or len(losses) < 3 or not 1e-8 < max(ratios) < 1e-4 or r.chance_loss is None:
        return None
    if losses[-1] < 0.5 * r.chance_loss and losses[-1] > 0.97 * losses[-2]:
        return None
    return Finding(
        "learning rate too low",
        f"a step changes the weights of the median layer by {100 * max(ratios):.2g} % (about 0.1 % is usual); the training "
        f"loss went from {losses[0]:.3f} to {losses[-1]:.3f}",
        "The loss falls, but the steps are too small to reach a minimum in this number of epochs.",
        (r.higher_lr, r.epochs(10)),
    )


def still_improving(r: Record) -> Finding | None:
    """The loss still falls at the end."""
    losses = r.column("validation_loss") or r.column("train_loss")
    if len(losses) < 3 or r.dataset_info.get("status") == "interrupted":
        return None
    part = max(1, len(losses) // 5)
    before, last = losses[-1 - part], losses[-1]
    gain = (before - last) / part
    if last > min(losses) or gain < 0.02 * max(losses[0] - last, 1e-9) or last < 0.01 or before <= last:
        return None
    return Finding(
        "still improving",
        f"the loss fell from {before:.3f} to {last:.3f} over the last {part} of {len(losses)} epochs",
        "The run ended before the loss had converged.",
        (r.epochs(2),),
        "hint",
    )


def overfitting(r: Record) -> Finding | None:
    """The validation loss is far above the training loss, or rises again; of labels and numbers, the main metric gets worse."""
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
    return Finding(
        "overfitting",
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}; {minimum} at epoch "
        f"{r.rows[best]['epoch']:g}",
        "The network memorizes the training images: more images, augmentation or a regularizer would help more than longer "
        "training.",
        (
            "augmentation=[crop,rotation]",
            "regularizer=[early_stopping,dropout,label_smoothing]",
            "regularizer=[mixup]",
            "optimizer.weight_decay=0.005",
        ),
    )


def worsened(values: Sequence[float], lower_is_better: bool) -> tuple[int, bool]:
    """Return the index of the best value, and whether the last one is a tenth worse, or 0.03 below the best fraction.

    >>> worsened([0.5, 0.9, 0.8], lower_is_better=False), worsened([0.5, 0.2, 0.21], lower_is_better=True)
    ((1, True), (1, False))
    """
    best = min(range(len(values)), key=lambda i: values[i] if lower_is_better else -values[i])
    return best, values[-1] > 1.1 * values[best] if lower_is_better else values[-1] < values[best] - 0.03


def underfitting(r: Record) -> Finding | None:
    """The training loss stays high."""
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(train) < 3 or r.chance_loss is None or not r.learned or r.dataset_info.get("mixed"):
        return None
    if train[-1] < 0.4 * r.chance_loss or (validation and validation[-1] < 0.4 * r.chance_loss):
        return None
    if validation and validation[-1] > 1.5 * train[-1]:
        return None  # overfitting instead
    validation_text = f", the validation loss {validation[-1]:.3f}" if validation else ""
    return Finding(
        "underfitting",
        f"the training loss is {train[-1]:.3f}{validation_text}; guessing gives {r.chance_loss:.3f}",
        "Not even the training images are learned: the network is too small, too strongly regularized, or trained too briefly.",
        ("architecture=resnet20", "regularizer=[]", r.epochs(2)),
    )


def good_fit(r: Record) -> Finding | None:
    """Training and validation loss are low and close to each other."""
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or r.chance_loss is None:
        return None
    gap = validation[-1] - train[-1]
    if validation[-1] > 0.35 * r.chance_loss or gap > 0.15 * r.chance_loss or validation[-1] > 1.1 * min(validation):
        return None
    return Finding(
        "good fit",
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}",
        "The network has learned the task and generalizes to unseen images.",
        kind="good",
    )


def noisy(r: Record) -> Finding | None:
    """The loss fluctuates from epoch to epoch; the snapshots tell how much of it the batch size explains."""
    losses, train = r.column("validation_loss") or r.column("train_loss"), r.column("train_loss")
    stds = [std for s in r.snapshots[1:] if s["batches"] >= 8 and (std := s["batch_loss_std"]) is not None]
    if len(losses) < 6 or not stds or not r.learned:
        return None
    late = losses[len(losses) // 2 :]
    roughness = _roughness(losses)
    if roughness < 0.2 * median(late) or max(late) < 0.05:
        return None
    size, steps = r.dataset_info.get("batch_size") or 1, r.dataset_info.get("steps_per_epoch") or 1
    measured, predicted = _roughness(train), stds[-1] / math.sqrt(steps)
    larger_batches = f"batch_size={min(8 * size, 1024)}"
    if measured < 3 * predicted:
        meaning = "The batch size explains the noise of the training curve: larger batches would reduce it."
        attempt = (larger_batches, r.lower_lr, "averaging=ema")
    else:
        meaning = "The curves are noisier than the batch size explains: the steps are too large."
        attempt = (r.lower_lr, "averaging=ema", larger_batches)
    return Finding(
        "noisy",
        f"the loss fluctuates by {roughness:.3f} from epoch to epoch, around {median(late):.3f}; the training loss "
        f"fluctuates by {measured:.3f}, batches of {size} images would explain {predicted:.3f}",
        meaning,
        attempt,
    )


def within_noise(r: Record) -> Finding | None:
    """The epochs differ by less in validation accuracy than chance explains."""
    values, n = r.column("validation_accuracy"), r.dataset_info.get("validation") or 0
    late = values[len(values) // 2 :]
    if len(late) < 4 or n == 0:
        return None
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(late, late[1:], late[2:], strict=False))
    if turns < 2:
        return None
    noise = proportion_half_width(max(late), n)
    if noise < 0.03 or max(late) - min(late) > 2 * noise:
        return None
    return Finding(
        "differences within noise",
        f"over the last {len(late)} epochs the validation accuracy is between {min(late):.4f} and {max(late):.4f}; on {n} "
        f"images chance alone explains ±{noise:.4f}",
        "Which of these epochs is best is decided by chance; runs that differ by less do not differ significantly.",
        (f"data.validation={min(4 * n, 5000)}", "-m seed=0,1,2,3,4"),
        "hint",
    )


def _roughness(values: Sequence[float]) -> float:
    """Median distance of the points in the second half of a curve from the line through their neighbors.

    >>> _roughness([3.0, 2.0, 1.0, 0.0]), _roughness([1.0, 2.0, 1.0, 2.0])
    (0.0, 1.0)
    """
    late = values[max(0, len(values) // 2 - 1) :]
    return median([abs(a - 2 * b + c) / 2 for a, b, c in zip(late, late[1:], late[2:], strict=False)] or [0.0])


def _update_ratios(r: Record) -> list[float]:
    """The median layer's update-to-weight ratio, while the learning rate is highest, as a list of at most one value.

    The first of more than two snapshots does not count, nor does a new head that trains alone: it starts near zero, where
    every step is large; nor do steps of less than half of the highest learning rate, as in a warm-up.
    """
    medians: list[float] = []
    peak = max([row.get("lr") or 0.0 for row in r.rows] + [s.get("lr", 0.0) for s in r.snapshots] + [0.0])
    snapshots = [s for s in r.snapshots if s.get("phase") != "head" and s.get("lr", peak) >= peak / 2]
    for snapshot in snapshots[1:] if len(snapshots) > 2 else snapshots:
        ratios = [layer["update_ratio"] for layer in snapshot["weights"] if layer["update_ratio"] is not None]
        if ratios:
            medians.append(median(ratios))
    highest = sorted(medians, reverse=True)[: max(1, len(medians) // 2)]
    return [median(highest)] if highest else []
