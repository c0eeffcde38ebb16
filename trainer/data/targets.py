"""What the labels of a data set are: classes, several labels per image, or numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["classification", "multilabel", "regression"]
LABEL = "label"  # name of the target of data sets that have only one

Known = Mapping[str, tuple[str, ...]]  # names of the classes that a network knows by target, in any case of ``label``
NOUNS: dict[Kind, str] = {"classification": "classes", "multilabel": "labels", "regression": "numbers"}
MISSING_CLASS = -1  # a class that is not known; of multi-hot targets and numbers, NaN


@dataclass(frozen=True)
class Target:
    """One target of a data set, a column or several columns of its table of labels.

    Attributes:
        name: Its name, such as ``digit``.
        kind: ``classification``: int64 (N,), the index of the class, -1 = missing. ``multilabel``: float32 (N, K) of zeros
            and ones, NaN = missing. ``regression``: float64 (N, T), NaN = missing.
        classes: Names of the classes, of the labels, or of the numbers.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]


def is_missing(target: Target, values: np.ndarray) -> np.ndarray:
    """Return which values are missing: bool (N,) for classes, else of the shape of ``values``.

    >>> is_missing(Target("digit", "classification", ("0", "1")), np.array([0, -1, 1]))
    array([False,  True, False])
    """
    return values == MISSING_CLASS if target.kind == "classification" else np.isnan(values)


def class_target(targets: Sequence[Target]) -> Target | None:
    """Return the first target that has classes, in whose proportions images are split; None if there is none."""
    return next((target for target in targets if target.kind == "classification"), None)


def summary(target: Target, *values: np.ndarray) -> str:
    """Return what is told of a target in one line: its kind, its size, and how many of its values are missing.

    >>> summary(Target("weight", "regression", ("weight",)), np.array([[1.5], [np.nan]]), np.array([[2.0]]))
    'weight: regression, 1 of 3 missing'
    >>> summary(Target("tags", "multilabel", ("new", "red")), np.zeros((4, 2), np.float32))
    'tags: multilabel, 2 labels'
    """
    missing = [is_missing(target, each) for each in values]
    count, total = sum(int(each.sum()) for each in missing), sum(each.size for each in missing)
    size = f", {len(target.classes):,} {NOUNS[target.kind]}" if len(target.classes) > 1 else ""
    unit = "" if target.kind == "classification" or len(target.classes) == 1 else " values"
    lacks = f", {count:,} of {total:,}{unit} missing" if count else ""
    return f"{target.name}: {target.kind}{size}{lacks}"
