"""What the curves of a good fit tell of a better one, for which a measurement is worth its time."""

from __future__ import annotations

from trainer.analysis.diagnosis.record import Record

HIGH = 0.3  # of its peak, that a learning rate is which has not decayed
BEST = 0.97  # validation accuracy from which there is hardly anything to gain
LOW = 0.15  # validation loss, relative to that of guessing, of a network that is good
FLAT = 0.95  # training loss of the first epoch, likewise, in which nothing was learned


def ends_high(r: Record) -> bool:
    """Whether the learning rate of the last step is high."""
    last = r.rows[-1].get("lr") if r.rows else None
    return last is not None and last >= HIGH * r.peak_lr


def flat_start(r: Record) -> bool:
    """Whether the training loss of the first epoch is that of guessing, although the network learns later."""
    losses = r.column("train_loss")
    return len(losses) > 2 and r.chance_loss is not None and losses[0] > FLAT * r.chance_loss and r.learned


def improvable(r: Record) -> bool:
    """Whether a network that is good could recognize more images: by another end or start of the run if its validation loss is
    low, or by the normalization of its pretrained weights.
    """
    losses, accuracies = r.column("validation_loss"), r.column("validation_accuracy")
    if not losses or not accuracies or r.chance_loss is None or accuracies[-1] >= BEST:
        return False
    if r.dataset_info.get("other_normalization") and r.frozen:
        return True
    return losses[-1] <= LOW * r.chance_loss and (ends_high(r) or flat_start(r))
