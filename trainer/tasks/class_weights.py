"""Weights of classes from their numbers of training images, normalized so that the mean over training images is 1."""

from __future__ import annotations

from collections.abc import Sequence


def balanced(counts: Sequence[int]) -> list[float]:
    """Return weights in inverse proportion to the counts: N/(K·n) as scikit-learn's ``balanced``; 0 for a class without images.

    >>> balanced([90, 10])
    [0.5555555555555556, 5.0]
    """
    return normalized([1 / n if n else 0.0 for n in counts], counts)


def effective_number(counts: Sequence[int], beta: float) -> list[float]:
    """Return weights in proportion to (1 − beta)/(1 − beta^n), the inverse effective number of images (Cui et al. 2019).

    beta = 0 gives equal weights; beta near 1 those of ``balanced``.

    >>> effective_number([90, 10], 0.0)
    [1.0, 1.0]
    """
    return normalized([(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts], counts)


def normalized(weights: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Return the weights times a factor such that their mean over all images is 1: the learning rate keeps its meaning.

    >>> normalized([1.0, 3.0], [50, 50])
    [0.5, 1.5]
    """
    total = sum(w * n for w, n in zip(weights, counts, strict=True))
    return [w * sum(counts) / total for w in weights] if total else [0.0 for _ in weights]
