"""What the curves of loss and accuracy say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from trainer.analysis.diagnosis.record import Finding, Record, short
from trainer.analysis.intervals import proportion_half_width


def not_finite(r: Record) -> Finding | None:
    bad = next((look for look in r.snapshots if not look["finite"] or look.get("first_nonfinite")), None)
    row = next((row for row in r.rows if not math.isfinite(row.get("train_loss", math.nan) or 0.0)), None)
    if bad is not None:
        where = f"step {bad['step']} or up to {bad['batches']} steps before"
        if bad.get("first_nonfinite"):
            where += f"; the first layer whose output is not finite is {bad['first_nonfinite']}"
    elif row is not None:
        where = f"the epoch that ended at {row['epoch']:g}"
    else:
        return None
    return Finding(
        "not a number", f"the loss was not finite at {where}",
        "The numbers overflowed; nothing learned after that is of use. A rate too high for this network is the usual cause.",
        (r.lower_rate, "optimizer.clip_norm=1", "precision=float32"), "urgent",
    )  # fmt: skip


def exploding(r: Record) -> Finding | None:
    losses, chance = r.column("train_loss"), r.chance
    if not losses or chance is None:
        return None
    limit = 2.5 * max(chance, 0.5)
    first = r.snapshots[0]["batch_loss"] if r.snapshots and r.snapshots[0]["step"] == 1 else None
    least = min(losses if first is None else [*losses, float(first)])
    if losses[-1] < limit or losses[-1] < 1.5 * least:
        return None
    return Finding(
        "exploding loss", f"the training loss is {losses[-1]:.3g}; guessing would cost {chance:.3g}",
        "Each step overshoots, so that the network does worse than one which knows nothing.",
        (r.lower_rate, "optimizer.clip_norm=1", "schedule=[warmup,cosine]"), "urgent",
    )  # fmt: skip


def not_learning(r: Record) -> Finding | None:
    if len(r.rows) < 2 or r.learned() or r.chance is None:
        return None
    losses = r.column("validation_loss") or r.column("train_loss")
    best = max(r.column("validation_accuracy") or r.column("train_accuracy"))
    return Finding(
        "not learning",
        f"after {r.rows[-1]['epoch']:g} epochs the loss is {losses[-1]:.3f} and the best accuracy {best:.3f}; "
        f"guessing gives {r.chance:.3f} and {r.majority:.3f}",
        "The network has found nothing that tells the classes apart: the rate may be far off, the signal may die on its "
        "way through the layers, or the labels may not belong to the pictures.",
        (f"optimizer.lr={short(r.lr * 10)}", r.lower_rate, "initialization=auto",
         "activation=relu"),
    )  # fmt: skip


def rate_too_high(r: Record) -> Finding | None:
    ratios = _update_ratios(r)
    losses = r.column("train_loss")
    rises = sum(b > 1.02 * a for a, b in pairwise(losses))
    jumpy = len(losses) >= 4 and rises >= 0.3 * (len(losses) - 1)
    large = bool(ratios) and max(ratios) > 0.03
    if not (large and (jumpy or not r.learned() or _stuck(r))):
        return None
    return Finding(
        "rate too high",
        f"a step changes the weights by {100 * max(ratios):.2g} % in its median layer (about 0.1 % is usual); the training loss "
        f"rose in {rises} of {max(len(losses) - 1, 0)} epochs",
        "Steps as large as this jump across the valley instead of going down into it.",
        (r.lower_rate, "schedule=[warmup,cosine]"),
    )  # fmt: skip


def rate_too_low(r: Record) -> Finding | None:
    ratios, losses = _update_ratios(r), r.column("train_loss")
    if not ratios or len(losses) < 3 or not 1e-8 < max(ratios) < 1e-4 or r.chance is None:
        return None
    if losses[-1] < 0.5 * r.chance and losses[-1] > 0.97 * losses[-2]:
        return None
    return Finding(
        "rate too low",
        f"a step changes the weights by {100 * max(ratios):.2g} % in its median layer (about 0.1 % is usual); the training loss "
        f"went from {losses[0]:.3f} to {losses[-1]:.3f}",
        "The network goes the right way in steps so small that it will not arrive.",
        (f"optimizer.lr={short(r.lr * 10)}", f"epochs={short(10 * r.rows[-1]['epoch'])}"),
    )  # fmt: skip


def still_improving(r: Record) -> Finding | None:
    losses = r.column("validation_loss") or r.column("train_loss")
    if len(losses) < 3 or r.facts.get("status") == "interrupted":
        return None
    part = max(1, len(losses) // 5)
    before, last = losses[-1 - part], losses[-1]
    gain = (before - last) / part
    if last > min(losses) or gain < 0.02 * max(losses[0] - last, 1e-9) or last < 0.01 or before <= last:
        return None
    return Finding(
        "still improving", f"the loss fell from {before:.3f} to {last:.3f} over the last {part} of {len(losses)} epochs",
        "The run ended before the network had learned what it could.", (f"epochs={short(2 * r.rows[-1]['epoch'])}",), "hint",
    )  # fmt: skip


def overfitting(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or not r.learned():
        return None
    best = min(range(len(validation)), key=validation.__getitem__)
    gap, turned = (
        validation[-1] - train[-1],
        validation[-1] > max(1.1 * validation[best], validation[best] + 0.03 * (r.chance or 1.0)),
    )
    wide = gap > 0.3 * max(r.chance or 1.0, 0.5) and validation[-1] > 2 * train[-1]
    if not (wide or (turned and gap > 0 and train[-1] < train[best])):
        return None
    return Finding(
        "overfitting",
        f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}; it was lowest, {validation[best]:.3f}, "
        f"at epoch {r.rows[best]['epoch']:g}",
        "The network learns the training pictures by heart; more of them, made or real, or a regularizer would help more than "
        "training on.",
        ("augmentation=[crop,rotation]", "regularizer=[early_stopping,dropout,label_smoothing]", "regularizer=[mixup]",
         "optimizer.weight_decay=0.005"),
    )  # fmt: skip


def underfitting(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(train) < 3 or r.chance is None or not r.learned() or r.facts.get("mixed"):
        return None
    if train[-1] < 0.4 * r.chance or (validation and validation[-1] < 0.4 * r.chance):
        return None
    beside = f", the validation loss {validation[-1]:.3f}" if validation else ""
    if validation and validation[-1] > 1.5 * train[-1]:
        return None  # that is the other illness
    return Finding(
        "underfitting", f"the training loss is {train[-1]:.3f}{beside}; guessing costs {r.chance:.3f}",
        "Even the training pictures are not learned: the network is too small, too strongly regularized, or trained too briefly.",
        ("architecture=resnet20", "regularizer=[]", f"epochs={short(2 * r.rows[-1]['epoch'])}"),
    )  # fmt: skip


def good_balance(r: Record) -> Finding | None:
    train, validation = r.column("train_loss"), r.column("validation_loss")
    if len(validation) < 3 or not train or r.chance is None:
        return None
    gap = validation[-1] - train[-1]
    if validation[-1] > 0.35 * r.chance or gap > 0.15 * r.chance or validation[-1] > 1.1 * min(validation):
        return None
    return Finding(
        "good balance", f"the training loss is {train[-1]:.3f}, the validation loss {validation[-1]:.3f}",
        "The network learned the task and does as well on pictures it has not seen.", kind="good",
    )  # fmt: skip


def noisy(r: Record) -> Finding | None:
    losses, train = r.column("validation_loss") or r.column("train_loss"), r.column("train_loss")
    snapshots = [look for look in r.snapshots[1:] if look["batches"] >= 8 and look["batch_loss_std"] is not None]
    if len(losses) < 6 or not snapshots or not r.learned():
        return None
    late = losses[len(losses) // 2 :]
    wobble = _wobble(losses)
    if wobble < 0.2 * median(late) or max(late) < 0.05:
        return None
    size, steps = r.facts.get("batch_size") or 1, r.facts.get("steps_per_epoch") or 1
    measured, predicted = _wobble(train), snapshots[-1]["batch_loss_std"] / math.sqrt(steps)
    same = measured < 3 * predicted
    meaning = (
        "The training curve jumps no more than batches of this size make it: larger batches would calm it."
        if same
        else "The curves jump more than the size of the batches explains: the steps are too long."
    )
    tries = (f"batch_size={min(8 * size, 1024)}", r.lower_rate, "averaging=ema")
    return Finding(
        "noisy",
        f"from epoch to epoch the loss leaves its trend by {wobble:.3f}, of {median(late):.3f}; the training loss does so by "
        f"{measured:.3f}, where batches of {size} pictures alone would make it {predicted:.3f}",
        meaning, tries if same else (tries[1], tries[2], tries[0]),
    )  # fmt: skip


def within_noise(r: Record) -> Finding | None:
    values, n = r.column("validation_accuracy"), r.facts.get("validation") or 0
    late = values[len(values) // 2 :]
    if len(late) < 4 or n == 0:
        return None
    noise = proportion_half_width(max(late), n)
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(late, late[1:], late[2:], strict=False))
    if noise < 0.03 or max(late) - min(late) > 2 * noise or turns < 2:
        return None
    return Finding(
        "differences within noise",
        f"over the last {len(late)} epochs the validation accuracy stays between {min(late):.4f} and {max(late):.4f}; on "
        f"{n} pictures chance alone moves it by ±{noise:.4f}",
        "Which of these epochs is the best, the pictures decide, not the network; runs that differ by less are not different.",
        (f"data.validation={min(4 * n, 5000)}", "-m seed=0,1,2,3,4"), "hint",
    )  # fmt: skip


def _wobble(values: Sequence[float]) -> float:
    """How far a curve leaves the line through its neighbours, in the median of its second half.

    >>> _wobble([3.0, 2.0, 1.0, 0.0]), _wobble([1.0, 2.0, 1.0, 2.0])
    (0.0, 1.0)
    """
    late = values[max(0, len(values) // 2 - 1) :]
    return median([abs(a - 2 * b + c) / 2 for a, b, c in zip(late, late[1:], late[2:], strict=False)] or [0.0])


def _update_ratios(r: Record) -> list[float]:
    """The median layer's update-to-weight ratio at each look after the first, while the rate is at its highest; a new head that
    trains alone begins near zero, where any step is large.
    """
    found, snapshots = [], [look for look in r.snapshots if look.get("phase") != "head"]
    for look in snapshots[1:] if len(snapshots) > 2 else snapshots:
        mine = [x["update_ratio"] for x in look["weights"] if x["update_ratio"] is not None]
        if mine:
            found.append(median(mine))
    half = sorted(found, reverse=True)[: max(1, len(found) // 2)]
    return [median(half)] if half else []


def _stuck(r: Record) -> bool:
    losses = r.column("train_loss")
    return bool(losses) and r.chance is not None and losses[-1] > 0.5 * r.chance
