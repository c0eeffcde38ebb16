"""Which measurements after training a check could need."""

from __future__ import annotations

from typing import Literal, cast

from trainer.analysis.diagnosis.fit import good_fit
from trainer.analysis.diagnosis.potential import improvable, promising
from trainer.analysis.diagnosis.record import Record, Rows
from trainer.measurements import DatasetInfo

GAP = 0.1  # between the accuracies on training and validation images, from which these may be of another kind


def without_probe(info: DatasetInfo) -> DatasetInfo:
    """What is known without the measurements after training, which are not needed where the curves show a good fit."""
    return cast(DatasetInfo, {key: value for key, value in info.items() if key != "probe"})


def needs_probe(rows: Rows, info: DatasetInfo) -> bool:
    """Return whether the curves of a run that has ended do not show a good fit, or one that could be better, so that
    measurements would tell why.
    """
    record = Record(rows, [], info)
    return bool(rows) and (good_fit(record) is None or improvable(record))


def needed_branches(rows: Rows, info: DatasetInfo) -> Literal["none", "used", "all"]:
    """Return which short trainings are needed, by the scores of the weights that are used, which ``info`` holds.

    Those from these weights where the validation loss is not low, or the fit could be better, and all if the network has not
    learned, or does not even fit the training images: no check reads the others.
    """
    record = Record(rows, [], info)
    if record.struggles or not record.learned:
        return "all"
    return "used" if record.weak or promising(record) else "none"


def needs_changes(info: DatasetInfo) -> bool:
    """Return whether far fewer validation images than training images are recognized, as those of another kind are."""
    used = info["probe"]["used"] if "probe" in info else None
    accuracy, held_out = (None, None) if used is None else (used["accuracy"], used.get("validation_accuracy"))
    return accuracy is not None and held_out is not None and accuracy - held_out > GAP
