"""What a task knows of its target from the training images; checkpoints hold it, so that predicting needs no data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import cast

import numpy as np

from trainer.data.targets import Kind, Target, is_missing
from trainer.formats import Json, JsonObject

TUPLES = ("classes", "counts", "mean", "std", "known")


@dataclass
class PartSpec:
    """One task and its target.

    Attributes:
        name: Prefix of the columns; empty for a single task.
        target: Name of the target in the data.
        kind: The kind of task.
        classes: Names of the classes, labels or numbers.
        images: Number of training images.
        counts: Training images of each class, or positives of each label.
        mean: Mean of each number over the training images.
        std: Standard deviation of each number.
        masked: Whether some image has no label.
        labelled: Fraction of the training labels that are there.
        known: Of each label, the number of training images of which it is known whether they have it.
        thresholds: Probability from which each label is predicted.
        weight: Weight of its loss among several tasks.
    """

    name: str
    target: str
    kind: Kind
    classes: tuple[str, ...]
    images: int = 0
    counts: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    masked: bool = False
    labelled: float = 1.0
    thresholds: list[float] = field(default_factory=list[float])
    weight: float = 1.0
    known: tuple[int, ...] = ()

    def as_dict(self) -> JsonObject:
        """Return the specification as plain values."""
        values: JsonObject = asdict(self)
        values.update({name: list(getattr(self, name)) for name in TUPLES})
        return values


def from_dict(values: JsonObject) -> PartSpec:
    """Return the specification that ``as_dict`` describes.

    >>> spec = PartSpec("", "label", "classification", ("cat", "dog"), 7, (3, 4))
    >>> from_dict(spec.as_dict()) == spec
    True
    """
    make = cast("Callable[..., PartSpec]", PartSpec)
    return make(**values | {name: tuple(cast("list[Json]", values[name])) for name in TUPLES if name in values})


def measure(name: str, target: Target, train: np.ndarray, others: list[np.ndarray]) -> PartSpec:
    """Return the specification of a task from the values of its target in the training split and in the others.

    Raises:
        ValueError: No training image has a label or a value of one of the numbers, or all have the same number.
    """
    missing = is_missing(target, train)
    masked = bool(missing.any()) or any(bool(is_missing(target, values).any()) for values in others)
    if missing.all():
        raise ValueError("no training image has a label")
    spec = PartSpec(name, target.name, target.kind, target.classes, len(train))
    spec.masked, spec.labelled = masked, float(1 - missing.mean())
    if target.kind == "classification":
        counts = np.bincount(train[~missing], minlength=len(target.classes))
        spec.counts = tuple(counts.tolist())
    elif target.kind == "multilabel":
        spec.counts = tuple(int(n) for n in np.nansum(train, axis=0))
        spec.known = tuple(int(n) for n in (~missing).sum(axis=0))
        spec.thresholds = [0.5] * len(target.classes)
        if not any(spec.counts):
            raise ValueError("no training image has any of the labels")
    else:
        unknown = [name for name, column in zip(target.classes, missing.T, strict=True) if column.all()]
        if unknown:
            raise ValueError(f"no training image has a value of {', '.join(unknown)}")
        spec.mean = tuple(float(np.nanmean(column, dtype=np.float64)) for column in train.T)
        spec.std = tuple(float(np.nanstd(column, dtype=np.float64)) for column in train.T)
        constant = [c for c, std in zip(target.classes, spec.std, strict=True) if not std > 0]
        if constant:
            raise ValueError(f"{', '.join(constant)} has the same value for all training images")
    return spec
