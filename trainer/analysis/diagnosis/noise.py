"""Checks of fluctuations: of the loss from epoch to epoch, and of scores that differ by no more than chance explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from trainer.analysis.diagnosis.record import Finding, Record
from trainer.analysis.intervals import proportion_half_width


def noisy(r: Record) -> Finding | None:
    """The loss fluctuates from epoch to epoch; the snapshots tell how much of it the batch size explains."""
    losses, train = r.column("validation_loss") or r.column("train_loss"), r.column("train_loss")
    stds = [std for s in r.snapshots[1:] if s["batches"] >= 8 and (std := s["batch_loss_std"]) is not None]
    if len(losses) < 6 or not stds or not r.learned:
        return None
    late = losses[len(losses) // 2 :]
    if min(losses) < 0.1 * (r.chance_loss or 0.0) or (r.rows[-1].get("lr") or 0.0) < 0.3 * r.peak_lr:
        return None
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
    held_out, train = r.setting("data", "validation"), r.dataset_info.get("train", 0)
    part = held_out * (train + n) if isinstance(held_out, float) and held_out < 1 else held_out
    # A validation split of its own directory does not depend on the key.
    own = isinstance(part, int | float) and abs(part - n) > 0.1 * n
    more = () if own else (f"data.validation={min(4 * n, 5000)}",)
    return Finding(
        "differences within noise",
        f"over the last {len(late)} epochs the validation accuracy is between {min(late):.4f} and {max(late):.4f}; on {n} "
        f"images chance alone explains ±{noise:.4f}",
        "Which of these epochs is best is decided by chance; runs that differ by less do not differ significantly.",
        (*more, "-m seed=0,1,2,3,4"),
        "hint",
    )


def _roughness(values: Sequence[float]) -> float:
    """Median distance of the points in the second half of a curve from the line through their neighbors.

    >>> _roughness([3.0, 2.0, 1.0, 0.0]), _roughness([1.0, 2.0, 1.0, 2.0])
    (0.0, 1.0)
    """
    late = values[max(0, len(values) // 2 - 1) :]
    return median([abs(a - 2 * b + c) / 2 for a, b, c in zip(late, late[1:], late[2:], strict=False)] or [0.0])
