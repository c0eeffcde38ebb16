"""Random splits that keep the classes in proportion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.data.images import Images
from trainer.data.splits import RawSplits
from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainer.data.options import WithoutTestSplit

RANDOM = "without classes to keep in proportion, images are held out at random"


def hold_out_test(option: WithoutTestSplit, images: Images, classes: tuple[str, ...]) -> RawSplits:
    """Return the images that are left to train on and those that ``option.test`` holds out for testing."""
    rest, held_out = stratified_split(images.labels, option.test, option.split_seed, "data.test")
    notes = (RANDOM,) if len(held_out) and not classes else ()
    return RawSplits(images.subset(rest), None, images.subset(held_out) if len(held_out) else None, classes, notes)


def stratified_split(labels: np.ndarray, size: float | int, seed: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Split indices at random into the rest and ``size`` (a fraction or a number) of them, both in ascending order.

    The classes are in proportion in both. A smaller split is a subset of a larger one with the same seed.

    Args:
        labels: The class of each image (N,); those of unknown class, -1, are kept in proportion as well.
        size: A fraction in [0, 1) as float, or a number of images as int.
        seed: Seed of the split.
        key: The key of the config that holds ``size``, for the error.

    Raises:
        ConfigError: Nothing would be left.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> rest, held_out = stratified_split(labels, 0.5, seed=0, key="data.test")
    >>> len(held_out), np.bincount(labels[held_out]).tolist()
    (4, [2, 2])
    """
    count = round(len(labels) * size) if isinstance(size, float) else size
    if count >= len(labels):
        raise ConfigError(Problem(key, size, f"must leave at least one of the {len(labels)} images to train on"))
    order = np.random.default_rng([seed, 7]).permutation(len(labels))
    # Sorted by their relative rank within the class, every prefix has the classes in proportion.
    grouped = order[np.argsort(labels[order], kind="stable")]
    _, begins, counts = np.unique(labels[grouped], return_index=True, return_counts=True)
    rank = np.empty(len(labels))
    rank[grouped] = (np.arange(len(labels)) - np.repeat(begins, counts) + 0.5) / np.repeat(counts, counts)
    by_rank = order[np.argsort(rank[order], kind="stable")]
    return np.sort(by_rank[count:]), np.sort(by_rank[:count])
