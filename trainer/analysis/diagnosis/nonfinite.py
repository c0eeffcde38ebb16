"""Checks of losses and gradients that are not finite."""

from __future__ import annotations

import math

from trainer.analysis.diagnosis.layers import broken
from trainer.analysis.diagnosis.record import Finding, Record, number

USUAL_LOSS = 4.0  # of the first batch, relative to that of guessing, at most


def nonfinite_loss(r: Record) -> Finding | None:
    """The loss, or a layer, became NaN or Inf."""
    if (at_first := _nonfinite_at_first(r)) is not None:
        return at_first
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


def _nonfinite_at_first(r: Record) -> Finding | None:
    """The loss of the first step is not finite, or it is usual and its gradient is not finite: no step can have done that."""
    first = r.first
    if first is None or not first["weights"] or r.chance_loss is None or not r.diverged:
        return None
    loss = number(first["batch_loss"])
    if not math.isfinite(loss):
        layer = first.get("first_nonfinite") or next((s.get("first_nonfinite") for s in r.snapshots[:2]), None)
        where = f"; the first layer with a NaN or Inf is {layer}" if layer else ""
        return _nan(
            f"the loss of the first step is not finite{where}",
            "No weight had been changed: some images, a layer, or the loss makes it, such as by a division by zero.",
        )
    scaled = str(r.setting("precision")) == "float16"  # where the first gradients may overflow, and are left out
    if loss > USUAL_LOSS * r.chance_loss or math.isfinite(number(first["grad_norm"])) or scaled:
        return None
    wrong = [broken(layer) for layer in first["weights"]]
    tags = [layer["tag"] for layer in first["weights"]]
    text = f"the loss of the first step is {loss:.3g}, but its gradient is not finite"
    if not any(wrong):
        return _nan(
            f"{text}: not that of the weights, but that of biases or normalization layers",
            "A derivative is infinite or undefined, such as that of a penalty of your own: of a norm at zero.",
        )
    last = len(wrong) - 1 - wrong[::-1].index(True)
    before = f", that of {tags[last + 1]} is" if last + 1 < len(tags) else ""
    return _nan(
        f"{text}: that of {tags[last]} is not{before}",
        f"The derivative of what follows {tags[last]}, such as an activation or a loss of your own, is infinite or undefined for "
        "some of its values, as that of a square root is at zero.",
        "activation=relu",
    )


def _nan(evidence: str, meaning: str, *attempt: str) -> Finding:
    return Finding(
        "NaN or Inf loss",
        evidence,
        f"{meaning} A lower learning rate does not help.",
        (*attempt, "regularizer=[]", "augmentation=[]", "precision=float32"),
        "urgent",
    )
