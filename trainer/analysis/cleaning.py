"""Suspicious images: duplicates, and labels that are probably wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

NEAR = 0.995  # correlation of thumbnails from which images count as near duplicates
CHUNK = 1024
MAX_PAIRS = 10_000
LEAST_ACCURACY = 0.7  # of predictions that are to judge labels


class Pair(NamedTuple):
    """Two images, by index, and their similarity; 1 = equal."""

    first: int
    second: int
    similarity: float


class LabelError(NamedTuple):
    """An image, by index, whose label is probably wrong, the class it rather has, and the probability of its label."""

    image: int
    suggested: int
    probability: float


def exact_duplicates(keys: Sequence[Hashable]) -> list[Pair]:
    """Return each image whose key an earlier image has, together with the first such image.

    >>> exact_duplicates(["a", "b", "a"])
    [Pair(first=0, second=2, similarity=1.0)]
    """
    first: dict[Hashable, int] = {}
    return [Pair(first[key], i, 1.0) for i, key in enumerate(keys) if first.setdefault(key, i) != i]


def near_duplicates(thumbnails: np.ndarray, threshold: float = NEAR) -> list[Pair]:
    """Return the pairs of images whose thumbnails correlate by at least ``threshold``, the most similar first.

    The correlation does not depend on brightness and contrast. Images of a single color are left out.

    Args:
        thumbnails: (N, H, W, C).
        threshold: Between 0 and 1.
    """
    rows = thumbnails.reshape(len(thumbnails), int(np.prod(thumbnails.shape[1:]))).astype(np.float32)
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    varied = lengths[:, 0] > np.sqrt(rows.shape[1]) if rows.size else np.zeros(0, bool)  # more than 1 of 255
    rows = np.where(varied[:, None], rows / np.maximum(lengths, 1e-9), 0)
    pairs = sorted(_similar(rows, threshold), key=lambda pair: (-pair.similarity, pair.first, pair.second))
    return pairs[:MAX_PAIRS]


def _similar(rows: np.ndarray, threshold: float) -> Iterator[Pair]:
    for start in range(0, len(rows), CHUNK):
        products = rows[start : start + CHUNK] @ rows[start:].T
        for i, j in zip(*np.nonzero(products >= threshold), strict=True):
            if i < j:
                yield Pair(start + int(i), start + int(j), float(min(products[i, j], 1.0)))


def label_errors(probabilities: np.ndarray, labels: np.ndarray) -> list[LabelError]:
    """Return the images whose labels are probably wrong, the most suspicious first, by confident learning.

    An image is confidently of class j if its probability of j is at least the mean probability of j over the images labeled
    j. It is suspicious if the most probable of its confident classes is not its label (Northcutt et al. 2021,
    arXiv:1911.00068).

    Args:
        probabilities: (N, K), predicted by models that were not trained on the image: out-of-fold predictions.
        labels: (N,).

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
    >>> label_errors(p, np.array([0, 0, 1, 1, 0]))
    [LabelError(image=4, suggested=1, probability=0.05)]
    """
    classes = probabilities.shape[1]
    thresholds = np.array(
        [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(classes)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(1)
    suspicious = np.flatnonzero((confident.max(1) >= 0) & (suggested != labels))
    own = probabilities[np.arange(len(labels)), labels]
    order = suspicious[np.argsort(own[suspicious], kind="stable")]
    return [LabelError(int(i), int(suggested[i]), float(own[i])) for i in order]
