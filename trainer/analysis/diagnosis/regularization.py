"""Checks of what keeps a network from fitting the training images on purpose: regularizers, weight decay, augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from trainer.analysis.diagnosis.record import LONG, Finding, Record, number

LEARNED = 0.9  # of the loss of guessing, above which a short training has learned nothing
HARDER = 2.0  # ratio of the loss of augmented images to that of others, from which they are far harder
EASIER = 0.8  # part of the validation loss that is left without augmentation
FEW = 0.35  # of the steps of a run, up to which a short training has far fewer
EXTREME_DECAY = 2e-3  # of the weights in each step: without a gradient they would halve in 350 steps


def too_strongly_regularized(r: Record) -> Finding | None:
    """The network struggles, and without regularization a few steps learn more."""
    if (by_config := _extreme_regularization(r)) is not None:
        return by_config
    used = None if r.probe is None or r.chance_loss is None or not r.struggles else number(r.probe["used"]["loss"])
    if used is None or r.chance_loss is None:
        return None
    least = min(used - 0.1 * r.chance_loss, LEARNED * r.chance_loss)  # what is worse than guessing proves nothing
    if (freed := _freed_start(r, least) or _freed(r, least)) is None:
        return None
    text, after = freed
    return _regularized(
        r, f"{text} without regularization reach a training loss of {after:.3g}; with it, the run has {used:.3g}"
    )


def _freed_start(r: Record, least: float) -> tuple[str, float] | None:
    """A short training from the initial weights that reaches a lower loss than the run, and than the same with regularization."""
    for free, own, steps in (
        (
            r.branches("unregularized_start"),
            r.branches("from_start"),
            f"{0 if r.probe is None else r.probe['steps']} steps",
        ),
        (
            r.branches("unregularized_longer_start"),
            r.branches("longer_start"),
            "a training of no more steps than the run's",
        ),
    ):
        if 1.0 not in free or 1.0 not in own:
            continue
        after, before = number(free[1.0]["loss"]), number(own[1.0]["loss"])
        if after < min(least, before - 0.1 * (r.chance_loss or 0.0)):
            return f"{steps} from the initial weights", after
    return None


def _freed(r: Record, least: float) -> tuple[str, float] | None:
    """Likewise from the weights that are used, where the validation images are recognized better, too."""
    free, own = r.branches("unregularized").get(1.0), r.branches("from_used").get(1.0)
    if r.probe is None or free is None or own is None or number(free["loss"]) > min(0.7 * number(own["loss"]), least):
        return None
    if number(free.get("validation_loss"), 0.0) > 0.8 * number(own.get("validation_loss"), 1.0):
        return None
    return f"{r.probe['steps']} steps from the weights that are used", number(free["loss"])


def _regularized(r: Record, evidence: str) -> Finding:
    return Finding(
        "too strongly regularized",
        evidence,
        "Dropout, weight decay or another regularizer keeps the network from fitting even the training images.",
        less_regularization(r),
    )


def decay_per_step(r: Record) -> float:
    """The fraction of the weights that weight decay takes off them at each step, at the peak learning rate; 0 if it is small."""
    decay = r.setting("optimizer", "weight_decay")
    coupled = str(r.setting("optimizer", "_target_")).endswith("Adam")  # its steps do not grow with the penalty
    return r.peak_lr * decay if isinstance(decay, float | int) and decay >= 0.01 and not coupled else 0.0


def _extreme_regularization(r: Record) -> Finding | None:
    """The network is not good, and its config would let hardly any weight, or any activation, survive."""
    decay, p = r.setting("optimizer", "weight_decay"), r.setting("regularizer", "dropout", "p")
    if r.weak and isinstance(p, float) and p >= 0.85:
        return _regularized(r, f"dropout zeroes {100 * p:.0f} % of the values in training")
    # The outputs of a normalized network do not depend on the size of its weights.
    normed = r.setting("architecture", "norm") not in (None, "none")
    if not r.weak or (per_step := decay_per_step(r)) < EXTREME_DECAY * (4 if normed else 1):
        return None
    text = (
        f"at the peak learning rate, weight decay {decay:g} takes {100 * per_step:.2g} % off the weights at each step"
    )
    return _regularized(r, text)


def less_regularization(r: Record) -> tuple[str, ...]:
    """Overrides without regularizers, but for early stopping, and with a smaller weight decay, what is stronger first."""
    strong, kept = ([n for n in r.regularizers if (n == "early_stopping") == stops] for stops in (False, True))
    without = f"regularizer==[{','.join(kept)}]"
    decay = r.setting("optimizer", "weight_decay")
    weaker = (
        ["optimizer.weight_decay=0.0005", "optimizer.weight_decay=0"]
        if isinstance(decay, float | int) and decay
        else []
    )
    if strong:
        return (without, *weaker)
    return (*weaker, without)


def too_strongly_augmented(r: Record) -> Finding | None:
    """Without augmentation, as few steps learn more, also about the validation images: from the initial weights of a network that
    struggles, or from those that are used.
    """
    if (found := _augmented_to_the_end(r)) is not None:
        return found
    free = r.branches("unaugmented_start").get(1.0)
    if r.probe is None or r.chance_loss is None or not r.struggles or free is None:
        return None
    used = r.probe["used"]
    key = "validation_loss" if "validation_loss" in used else "loss"
    after, before = number(free.get(key)), number(used.get(key))
    fewer = far_fewer(r)
    if after > before - (0.0 if fewer else 0.1 * r.chance_loss):
        return None
    most = "far fewer" if fewer else "no more"
    name = key.replace("_", " ") if key != "loss" else "training loss"
    return _augmented(
        f"without augmentation, a training of {most} steps than the run's leads to a {name} of {after:.3g}; with "
        f"{_augmentations(r)}, the run has {before:.3g}"
    )


def far_fewer(r: Record) -> bool:
    """Whether the longer short trainings have far fewer steps than the run, so that it is enough if they learn as much."""
    return r.probe is not None and max(2 * r.probe["steps"], LONG) < FEW * r.steps


def _augmented_to_the_end(r: Record) -> Finding | None:
    """Augmented images are far harder than others, and a few more steps with the latter lower the validation loss far more."""
    free, own = r.branches("unaugmented").values(), r.branches("from_used").values()
    losses, probe = r.column("train_loss"), r.probe
    if probe is None or not free or not own or not losses or not r.weak or r.dataset_info.get("mixed"):
        return None
    if losses[-1] < HARDER * number(probe["used"]["loss"]):
        return None
    before, after, augmented = (
        min(number(scores.get("validation_loss")) for scores in group) for group in ((probe["used"],), free, own)
    )
    if not after < EASIER * min(before, augmented) < math.inf:
        return None
    return _augmented(
        f"{probe['steps']} more steps without augmentation lower the validation loss from {before:.3g} to {after:.3g}, with "
        f"{_augmentations(r)} to {augmented:.3g}"
    )


def _augmentations(r: Record) -> str:
    """The names of the augmentations."""
    options = r.setting("augmentation")
    return ", ".join(map(str, cast(Mapping[str, object], options))) if isinstance(options, Mapping) else "it"


def _augmented(evidence: str) -> Finding:
    return Finding(
        "too strongly augmented",
        evidence,
        "Augmented images are too different from those to be recognized, or no longer show what their labels say.",
        ("augmentation=[]",),
    )
