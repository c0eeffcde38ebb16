"""Cross-validation: the pictures that are not for the test in folds, each of them once for validation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from trainer.data.images import ImageArray, ImageFiles
from trainer.data.options import Splits
from trainer.errors import ConfigError, Problem


def fold(splits: Splits, count: int, seed: int) -> list[Splits]:
    """``count`` splits of the pictures that are not for the test, each with another part for validation, stratified."""
    whole = splits.train if splits.validation is None else together(splits.train, splits.validation)
    labels = np.asarray(whole.labels)
    fewest = int(np.bincount(labels).min())
    if fewest < count:
        text = f"is more than the {fewest} pictures of the smallest class"
        raise ConfigError(Problem("job.models", count, text, f"job.models={max(fewest, 2)}"))
    part, rng = np.empty(len(labels), np.int64), np.random.default_rng([seed, 11])
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        part[mine] = (np.arange(len(mine)) + label) % count
    return [
        dataclasses.replace(
            splits, train=whole.subset(np.flatnonzero(part != i)), validation=whole.subset(np.flatnonzero(part == i))
        )
        for i in range(count)
    ]


def together(a: Any, b: Any) -> Any:
    """Two parts of a data set as one."""
    labels = np.concatenate([a.labels, b.labels])
    if isinstance(a, ImageFiles):
        return a.of([*a.paths, *b.paths], labels)
    return ImageArray(np.concatenate([a.images, b.images]), labels)
