"""Mean and standard deviation of the training images, by which inputs are normalized."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from trainer.data.cache import cached_statistics
from trainer.data.images import ImageFiles, Images
from trainer.data.splits import Normalization

MAX_FILES = 2000  # images that are decoded to measure a data set of files


def normalization_constants(kind: str, train: Images, shape: tuple[int, int, int]) -> Normalization:
    """Return the mean and standard deviation of each channel for ``data.normalize``, white = 1.

    Args:
        kind: ``dataset``, ``zero_center``, ``channel`` or ``none``; the last two give 0 and 1.
        train: The training images.
        shape: Their (C, H, W).
    """
    zeros, ones = (0.0,) * shape[0], (1.0,) * shape[0]
    if kind in ("none", "channel"):
        return zeros, ones
    mean, std = measure(train, shape)
    return mean, ones if kind == "zero_center" else tuple(max(s, 1e-3) for s in std)


def measure(train: Images, shape: tuple[int, int, int]) -> Normalization:
    """Return the mean and standard deviation of each channel; of files, over at most ``MAX_FILES`` of them."""
    if not isinstance(train, ImageFiles):
        return mean_and_std(shape[0], train.chunks())
    sample = train.subset(np.arange(0, len(train), -(-len(train) // MAX_FILES)))

    def decoded() -> Iterator[np.ndarray]:
        for i in range(len(sample)):
            if sample.is_readable(i):
                yield sample.center_crop(i, shape[1])[None]

    return cached_statistics(sample, shape, lambda: mean_and_std(shape[0], decoded()))


def mean_and_std(channels: int, chunks: Iterable[np.ndarray]) -> Normalization:
    """Return the mean and standard deviation of each channel over uint8 chunks (n, H, W, C), from exact integer sums."""
    counts = np.zeros((channels, 256), np.int64)
    for images in chunks:
        counts += np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    levels, total = np.arange(256), counts.sum(1)
    mean = (counts * levels).sum(1) / total
    square = (counts * levels**2).sum(1) / total
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
