"""Cross-validation: split all images but the test split into folds, each of which validates once."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainer.data.images import ImageArray, ImageFiles, Images
from trainer.data.splits import Splits
from trainer.data.targets import MISSING_CLASS
from trainer.errors import ConfigError, Problem


def fold(splits: Splits, count: int, seed: int, key: str = "job.models") -> list[Splits]:
    """Return ``count`` splits of the training and validation images, each with another stratified validation fold.

    Args:
        splits: The splits; the test split stays as it is.
        count: Number of folds.
        seed: Seed of the assignment to folds.
        key: The key of the config that holds ``count``, for the error.

    Raises:
        ConfigError: A class, or data without classes, has fewer images than there are folds.
    """
    images = splits.train if splits.validation is None else concatenated(splits.train, splits.validation)
    labels = np.asarray(images.labels)
    smallest = int(np.bincount(labels[labels != MISSING_CLASS]).min())
    if smallest < count:
        of = " of the smallest class" if splits.classes else ""
        text = f"must be at most {smallest}, the number of images{of}"
        raise ConfigError(Problem(key, count, text, f"{key}={max(smallest, 2)}"))
    fold_of_image = fold_of_each(labels, count, seed)
    return [
        dataclasses.replace(
            splits,
            train=images.subset(np.flatnonzero(fold_of_image != i)),
            validation=images.subset(np.flatnonzero(fold_of_image == i)),
        )
        for i in range(count)
    ]


def fold_of_each(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the fold of each image, from 0 to ``count`` − 1, stratified."""
    result, rng = np.empty(len(labels), np.int64), np.random.default_rng([seed, 11])
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        result[members] = (np.arange(len(members)) + label) % count
    return result


def concatenated(a: Images, b: Images) -> Images:
    """Return two splits of a data set as one."""
    labels = np.concatenate([a.labels, b.labels])
    columns = {name: np.concatenate([values, b.columns[name]]) for name, values in a.columns.items()}
    if isinstance(a, ImageFiles) and isinstance(b, ImageFiles):
        return a.with_files([*a.paths, *b.paths], labels, columns)
    assert isinstance(a, ImageArray)
    assert isinstance(b, ImageArray)
    return ImageArray(np.concatenate([a.images, b.images]), labels, columns)
