"""Targets that are computed from images of digits: several tasks on the same images without further labels."""

from __future__ import annotations

import numpy as np

from trainer.data.images import ImageArray
from trainer.data.targets import Target

LOOPS = (1, 0, 0, 0, 0, 0, 1, 0, 2, 1)  # closed loops in the usual form of each digit
PROPERTIES = ("even", "prime", "loop", "above_4")
TARGETS = (
    Target("digit", "classification", tuple("0123456789")),
    Target("parity", "classification", ("even", "odd")),
    Target("loops", "classification", ("0", "1", "2")),
    Target("properties", "multilabel", PROPERTIES),
    Target("slant", "regression", ("slant",)),
    Target("ink", "regression", ("ink",)),
)


def with_targets(images: ImageArray) -> ImageArray:
    """Return images of digits, whose labels are 0 to 9, with the further targets ``TARGETS``."""
    digits = images.labels
    properties = [digits % 2 == 0, np.isin(digits, (2, 3, 5, 7)), np.array(LOOPS)[digits] > 0, digits > 4]
    columns = {
        "parity": digits % 2,
        "loops": np.array(LOOPS)[digits],
        "properties": np.stack(properties, 1).astype(np.float32),
        "slant": slant(images.images)[:, None],
        "ink": images.images.mean((1, 2, 3))[:, None] / 255,
    }
    return ImageArray(images.images, digits, columns)


def slant(images: np.ndarray) -> np.ndarray:
    """Return the slant of dark-to-light strokes in images (N, H, W, 1): Σ v·x·y / Σ v·y² with y from the center upward.

    It is the number of pixels by which a stroke moves to the right per pixel upward; 0 = upright. An image without strokes
    has 0.

    >>> image = np.zeros((1, 5, 5, 1), np.uint8)
    >>> image[0, [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]] = 255  # a stroke from the lower left to the upper right
    >>> slant(image).tolist()
    [1.0]
    """
    values = images[..., 0].astype(np.float64)
    total = np.maximum(values.sum((1, 2)), 1e-9)
    rows, columns = np.arange(values.shape[1]), np.arange(values.shape[2])
    up = (values.sum(2) @ rows / total)[:, None] - rows
    right = columns - (values.sum(1) @ columns / total)[:, None]
    covariance = np.einsum("nhw,nh,nw->n", values, up, right)
    variance = (values.sum(2) * up**2).sum(1)
    return covariance / np.maximum(variance, 1e-9)
