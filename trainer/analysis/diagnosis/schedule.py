"""Checks of the schedule: a learning rate that is kept low, or that ends high; whether the loss still falls."""

from __future__ import annotations

import math

from trainer.analysis.diagnosis.potential import begins_low, ends_high
from trainer.analysis.diagnosis.record import Finding, Record, number, short

LOWERED = 0.2  # mean of a schedule below which it is not what one wants; that of a cosine is 0.5
NEVER = 0.5  # of ``optimizer.lr``, that a schedule reaches which never gets to its peak
EARLY = 0.35  # of a run, within which a learning rate falls early
FALLING = 0.15  # of the training loss, that an epoch takes off it while it falls fast
STANDING = 0.05  # likewise, that the second half of a run takes off it while it stands still
FEW_IMAGES = 8  # of a batch, below which most of its gradient may be noise
UNDONE = 0.2  # of the loss of guessing, by which a training loss has risen if what was learned has been undone
SHORT = 4  # epochs, below which a run at a lower peak hardly begins to learn
STARVED = 0.05  # mean of a schedule, relative to its peak, below which a run that has learned nothing had no chance to
GAINED = 0.8  # part of a validation loss that is left after a short training that has lowered it much
LOWER, RECOGNIZED = 0.8, 0.015  # validation loss that is left, and accuracy that is gained, where a decay still helps
MARGIN = 0.05  # by which a loss must be lower to count as lower, relative to that of guessing


def lowered_by_schedule(r: Record) -> Finding | None:
    """The schedule keeps the learning rate far below its peak, where a few steps learn more than the run, or lower its loss."""
    chance, steps = r.chance_loss, 0 if r.probe is None else r.probe["steps"]
    if (found := _endless_warmup(r) or _lowered_while_falling(r)) is not None:
        return found
    if r.probe is None or chance is None or not r.weak or not r.lr or r.mean_lr > LOWERED * r.lr:
        return None
    before = number(r.probe["used"]["loss"])
    start, more = r.branches("from_start").get(1.0), r.branches("from_used").get(1.0)
    reached, lowered = (math.inf if b is None else number(b["loss"]) for b in (start, more))
    if not r.struggles:
        held_out, after = (number((s or {}).get("validation_loss")) for s in (r.probe["used"], more))
        if not after < GAINED * held_out < math.inf:
            return None
        text = f"after {r.steps} steps, {steps} more at the peak lower the validation loss from {held_out:.3g} to {after:.3g}"
    elif r.mean_lr < STARVED * r.lr and not r.learned and lowered < before:
        text = f"{steps} more steps at the peak lower the training loss from {before:.3g} to {lowered:.3g}"
    elif reached <= before:
        text = f"{steps} steps at the peak reach training loss {reached:.3g}, the run has {before:.3g} after {r.steps}"
    elif lowered < before - MARGIN * chance:
        text = f"after {r.steps} steps, {steps} more at the peak lower the training loss from {before:.3g} to {lowered:.3g}"
    else:
        return None
    meaning, attempt = _schedule_advice(r)
    return Finding(
        "learning rate too low",
        f"the schedule keeps the learning rate at {100 * r.mean_lr / r.lr:.2g} % of its peak, {short(r.lr)}, on average; {text}",
        meaning,
        attempt,
    )


def _endless_warmup(r: Record) -> Finding | None:
    """The warmup is so much longer than the run that the learning rate stays low, and the loss is not low."""
    warmup, epochs = r.setting("schedule", "warmup", "epochs"), r.rows[-1]["epoch"] if r.rows else 0.0
    if not isinstance(warmup, int | float) or warmup <= epochs or r.peak_lr > NEVER * r.lr or not (r.weak or r.stuck):
        return None
    shorter = f"schedule.warmup.epochs={short(max(epochs / 10, 0.1))}"
    return Finding(
        "learning rate too low",
        f"the warmup of {warmup:g} epochs is longer than the run of {epochs:g}: the learning rate is at most "
        f"{short(r.peak_lr)}, {100 * r.peak_lr / r.lr:.2g} % of optimizer.lr={short(r.lr)}",
        "The run ends during its warmup.",
        (shorter, "schedule=[cosine]"),
    )


def _lowered_while_falling(r: Record) -> Finding | None:
    """The learning rate fell early, and to a small part, while the loss fell fast, which has hardly fallen since."""
    losses, lrs = r.column("train_loss"), [row.get("mean_lr", row.get("lr")) or 0.0 for row in r.rows]
    high = sum(lr >= NEVER * r.peak_lr for lr in lrs)
    phases = {row.get("phase") for row in r.rows}  # of which each has a schedule of its own
    if not r.struggles or not r.learned or len(losses) < 5 or not high or r.chance_loss is None or len(phases) > 1:
        return None
    early = (
        high <= EARLY * len(lrs)
        and lrs[0] >= NEVER * r.peak_lr
        and sum(lr < 0.1 * r.peak_lr for lr in lrs) >= len(lrs) / 2
    )
    before, middle = losses[high - 2] if high > 1 else r.chance_loss, losses[len(losses) // 2]
    if not early or losses[high - 1] > (1 - FALLING) * before or losses[-1] < (1 - STANDING) * middle:
        return None
    count = "the first epoch" if high == 1 else f"{high} epochs"
    return Finding(
        "learning rate too low",
        f"after {count} the schedule lowers the learning rate from {short(r.peak_lr)} to {short(lrs[-1])}: the training loss had "
        f"just fallen from {before:.3g} to {losses[high - 1]:.3g}; in the second half of the run it goes from {middle:.3g} to "
        f"{losses[-1]:.3g}",
        "The learning rate falls too early.",
        ("schedule=[cosine]", "schedule=[warmup,cosine]"),
    )


def _schedule_advice(r: Record) -> tuple[str, tuple[str, ...]]:
    """What is wrong with a schedule that keeps the learning rate low, and what to try."""
    never = r.peak_lr < NEVER * r.lr
    meaning = "The schedule ends before it has reached its peak." if never else "The learning rate falls too early."
    return meaning, ("schedule=[cosine]", "schedule=[warmup,cosine]")


def ends_at_high_lr(r: Record) -> Finding | None:
    """The learning rate is still high at the end, and the validation loss falls at once when it decays."""
    last = number(r.rows[-1].get("lr")) if r.rows else 0.0
    if not ends_high(r) or _endless_warmup(r) is not None:
        return None
    decayed, branches = decayed_validation_loss(r, 0.1) or _decayed_accuracy(r), r.branches("from_used")
    if decayed is None:
        return _undone(r, last)
    # A schedule that ends low does not help where the peak itself is too high.
    lower = {0.1, 1.0} <= branches.keys() and number(branches[0.1]["loss"]) <= number(branches[1.0]["loss"])
    too_high = lower and len(r.rows) >= SHORT and not begins_low(r)
    size = r.dataset_info.get("batch_size") or FEW_IMAGES
    noisy = size < FEW_IMAGES
    why = f", and with batches of {size}," if noisy else ""
    attempt = (r.lower_lr, "schedule=[cosine]") if too_high else ("schedule=[cosine]", r.lower_lr)
    return Finding(
        "ends at a high learning rate",
        f"the learning rate of the last step is {short(last)}, {100 * last / r.peak_lr:.0f} % of its peak; {decayed}",
        f"At this learning rate{why} the weights fluctuate around a minimum: the run stops in the middle of a cycle, or never "
        f"decays.{' Larger batches have less noise.' if noisy else ''}",
        (*attempt, *((f"batch_size={8 * size}",) if noisy else ()), "averaging=ema"),
        "warning" if r.weak else "hint",
    )


def _undone(r: Record, last: float) -> Finding | None:
    """The training loss has risen far above its lowest value, that of an epoch at a lower learning rate, until the end."""
    losses = r.column("train_loss")
    if not losses or r.chance_loss is None or losses[-1] < min(losses) + UNDONE * r.chance_loss:
        return None
    best = losses.index(min(losses))
    rate = r.rows[best].get("mean_lr", r.rows[best].get("lr")) or 0.0
    if rate > 0.8 * last:
        return None
    return Finding(
        "ends at a high learning rate",
        f"the training loss has risen from {min(losses):.3g} at epoch {r.rows[best]['epoch']:g}, at lr {short(rate)}, to "
        f"{losses[-1]:.3g} at the end, at lr {short(last)}",
        "The learning rate rises, or rises again, to a value at which the steps undo what was learned.",
        (f"optimizer.lr={short(rate)}", "schedule=[cosine]"),
    )


def _decayed_accuracy(r: Record) -> str | None:
    """How many more validation images some more steps with a decaying learning rate recognize, if they lower the loss, too."""
    probe, branches = r.probe, r.branches("from_used").values()
    if probe is None or not branches or r.struggles:
        return None
    before, best = probe["used"], max(branches, key=lambda b: number(b.get("validation_accuracy"), 0.0))
    accuracy, after = (number(scores.get("validation_accuracy"), 0.0) for scores in (before, best))
    lower = number(best.get("validation_loss")) < LOWER * number(before.get("validation_loss"), 0.0)
    if not lower or after < accuracy + RECOGNIZED:
        return None
    return (
        f"{probe['steps']} more steps from lr {short(best['lr'])} down to 0 recognize {100 * after:.1f} instead of "
        f"{100 * accuracy:.1f} % of the validation images"
    )


def decayed_validation_loss(r: Record, fraction: float) -> str | None:
    """What some more steps with a decaying learning rate gain from the weights that are used, if it is more than a fraction."""
    branches, probe = list(r.branches("from_used").values()), r.probe
    if probe is None or r.chance_loss is None or not branches:
        return None
    key = "validation_loss" if "validation_loss" in probe["used"] else "loss"
    before, best = number(probe["used"].get(key)), min(branches, key=lambda b: number(b.get(key)))
    after = number(best.get(key))
    if not math.isfinite(before) or before < 0.15 * r.chance_loss or after > (1 - fraction) * before:
        return None
    name = key.replace("_", " ") if key != "loss" else "training loss"
    return f"{probe['steps']} more steps from lr {short(best['lr'])} down to 0 lower the {name} from {before:.3g} to {after:.3g}"


def _longer_falls(r: Record) -> bool:
    """Whether a longer short training lowers the loss of training and validation images much."""
    longer, probe = r.branches("longer_used").values(), r.probe
    keys = [] if probe is None else [key for key in ("loss", "validation_loss") if key in probe["used"]]
    return probe is not None and any(
        all(number(b.get(key)) < GAINED * number(probe["used"].get(key)) for key in keys) for b in longer
    )


def still_falls(r: Record) -> bool:
    """Whether the training loss still falls: in the last fifth of a run whose learning rate has not fallen, or so fast in a short
    training that it would fall by two thirds in a run of twice the length.
    """
    branches, losses = r.branches("from_used").values(), r.column("train_loss")
    if r.probe is None or not branches or r.frozen or not losses:
        return False
    part = len(losses) // 5
    if ends_high(r) and part and losses[-1] < 0.95 * losses[-1 - part] and losses[-1] == min(losses):
        return True
    used = number(r.probe["used"]["loss"])
    if _longer_falls(r):
        return True
    best = min(number(b["loss"]) for b in branches)
    # The weights that are used may be those of an early epoch, after which the run has gone on.
    return best < losses[-1] and (1 - best / max(used, 1e-9)) * r.steps > 0.65 * r.probe["steps"]
