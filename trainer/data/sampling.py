"""Which images an epoch consists of: each once, or classes in other proportions."""

from __future__ import annotations

from typing import Literal

import numpy as np

Sampling = Literal["natural", "balanced", "sqrt"]
POWER = {"natural": 1.0, "sqrt": 0.5, "balanced": 0.0}  # of the number of images of a class


def class_quotas(counts: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Return how many of N images of an epoch come from each class, N the sum of ``counts``.

    They are in proportion to the power 1 (``natural``), 1/2 (``sqrt``) or 0 (``balanced``) of the counts, rounded such that
    they sum to N. A class without images has none.

    >>> class_quotas(np.array([90, 10]), "balanced"), class_quotas(np.array([90, 10]), "sqrt")
    (array([50, 50]), array([75, 25]))
    """
    shares = np.where(counts > 0, counts.astype(np.float64) ** POWER[sampling], 0.0)
    exact = shares / shares.sum() * counts.sum()
    quotas = np.floor(exact).astype(np.int64)
    left = int(counts.sum() - quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:left]] += 1  # to those with the largest remainders
    return quotas


def sample(classes: np.ndarray, sampling: Sampling, rng: np.random.Generator) -> np.ndarray:
    """Return the images of one epoch (N,) in random order, with the classes in the proportions of ``class_quotas``.

    Within a class all images occur equally often, up to one. Images without a class (-1) keep their number.

    Args:
        classes: The class of each image, int64 (N,).
        sampling: The proportions.
        rng: Source of the random numbers.

    >>> epoch = sample(np.array([0, 0, 0, 0, 0, 1]), "balanced", np.random.default_rng(0))
    >>> len(epoch), int((epoch == 5).sum())
    (6, 3)
    """
    known = classes[classes >= 0]
    quotas = class_quotas(np.bincount(known), sampling)
    chosen = [np.flatnonzero(classes < 0)]
    for index, quota in enumerate(quotas):
        members = np.flatnonzero(classes == index)
        if len(members):
            rounds, rest = divmod(int(quota), len(members))
            chosen += [np.tile(members, rounds), rng.permutation(members)[:rest]]
    return rng.permutation(np.concatenate(chosen))
