"""What the curves of a good fit tell of a better one, for which a measurement is worth its time."""

from __future__ import annotations

from trainer.analysis.diagnosis.record import Record

HIGH = 0.3  # of its peak, that a learning rate is which has not decayed
RISING = 0.6  # likewise, below which that of the first epoch was low
BEST = 0.97  # validation accuracy from which there is hardly anything to gain
LOW = 0.15  # validation loss, relative to that of guessing, of a network that is good
FLAT = 0.95  # training loss of the first epoch, likewise, in which nothing was learned


def ends_high(r: Record) -> bool:
    """Whether the learning rate of the last step is high."""
    last = r.rows[-1].get("lr") if r.rows else None
    return last is not None and last >= HIGH * r.peak_lr


def begins_low(r: Record) -> bool:
    """Whether the learning rate ends high and began low, so that the run has not begun at its peak."""
    rates = [row.get("mean_lr", row.get("lr")) or 0.0 for row in r.rows]
    return ends_high(r) and rates[0] < RISING * r.peak_lr


def flat_start(r: Record) -> bool:
    """Whether the training loss of the first epoch is that of guessing, although the network learns later."""
    losses = r.column("train_loss")
    return len(losses) > 2 and r.chance_loss is not None and losses[0] > FLAT * r.chance_loss and r.learned


def improvable(r: Record) -> bool:
    """Whether a network that is good could recognize more images: by another end or start of the run if its validation loss is
    low, or by the normalization of its pretrained weights.
    """
    losses = r.column("validation_loss")
    if not losses or r.chance_loss is None or not promising(r):
        return False
    return losses[-1] <= LOW * r.chance_loss or other_inputs(r)


def promising(r: Record) -> bool:
    """Whether not nearly all validation images are recognized, and something of the run may be why."""
    accuracies = r.column("validation_accuracy")
    return bool(accuracies) and accuracies[-1] < BEST and (ends_high(r) or flat_start(r) or other_inputs(r))


def other_inputs(r: Record) -> bool:
    """Whether layers that keep pretrained weights get images in another normalization than these were trained with."""
    return bool(r.dataset_info.get("other_normalization")) and bool(r.frozen)
