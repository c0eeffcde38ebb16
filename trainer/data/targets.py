"""What the labels of a data set are: classes, several labels per image, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["classification", "multilabel", "regression"]
LABEL = "label"  # name of the target of data sets that have only one

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
