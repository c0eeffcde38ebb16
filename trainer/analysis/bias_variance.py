"""Bias and variance of predictions, over training sets and over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.analysis.intervals import Interval, scipy_stats

COMPONENTS = ("bias", "data", "seed")


@dataclass(frozen=True)
class Decomposition:
    """The mean squared error of predictions, and the three components that it is the sum of.

    Attributes:
        error: Mean squared error of a single network, summed over the outputs.
        components: ``bias``: squared distance of the mean prediction to the target, with the noise of the labels; ``data``:
            variance over training sets; ``seed``: variance over seeds with the same training set. Each with its 95 % interval.
    """

    error: float
    components: Mapping[str, Interval]

    @property
    def largest(self) -> str:
        """The name of the largest component."""
        return max(COMPONENTS, key=lambda name: self.components[name].mean)

    @property
    def distinct(self) -> bool:
        """Whether the interval of the largest component is above those of the others."""
        others = [self.components[name].high for name in COMPONENTS if name != self.largest]
        return self.components[self.largest].low > max(others)


def decomposition(predictions: np.ndarray, targets: np.ndarray, known: np.ndarray | None = None) -> Decomposition:
    """Split the squared error into bias, variance over training sets, and variance over seeds.

    For each image, with p_ij the prediction of the network of training set i and seed j, p_i its mean over j and p the mean
    over both: error = mean (p_ij − y)² is the sum of seed = Σ (p_ij − p_i)² / R(S − 1), data = Σ (p_i − p)² / (R − 1) − seed / S
    and bias = error − data − seed, which have no bias themselves; a variance below 0 counts as 0. Of probabilities, error is the
    Brier score. The intervals are those of the jackknife over training sets (t-based, Efron 1982), which few sets make wide.

    Args:
        predictions: (R, S, N, K): of R ≥ 2 training sets and S ≥ 2 seeds.
        targets: (N, K): one-hot classes, labels of 0 and 1, or numbers.
        known: Which targets count: bool (N, K); by default all.

    >>> y = np.array([[1.0, 0.0]])
    >>> same = np.full((3, 2, 1, 2), 0.5)
    >>> result = decomposition(same, y)
    >>> result.error, result.largest, result.components["data"].mean
    (0.5, 'bias', 0.0)
    """
    counted = np.ones_like(targets, dtype=bool) if known is None else known
    error, parts = _components(predictions, targets, counted)
    count = len(predictions)
    components: dict[str, Interval] = {}
    rests = [np.delete(predictions, i, axis=0) for i in range(count)] if count >= 3 else []
    parts_without = [_components(rest, targets, counted)[1] for rest in rests]
    for name in COMPONENTS:
        half = float("inf")
        if parts_without:
            without = np.array([part[name] for part in parts_without])
            standard_error = float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))
            half = float(scipy_stats().t.ppf(0.975, count - 1)) * standard_error
        components[name] = Interval(parts[name], half, count)
    return Decomposition(error, components)


def _components(predictions: np.ndarray, targets: np.ndarray, known: np.ndarray) -> tuple[float, dict[str, float]]:
    """The error, and its components by name: means over the images of sums over the outputs."""
    sets, seeds = predictions.shape[:2]

    def mean(squares: np.ndarray) -> float:
        return float((squares * known).sum() / max(known.any(1).sum(), 1))

    by_set = predictions.mean(1)
    error = mean(((predictions - targets) ** 2).mean((0, 1)))
    seed = mean(((predictions - by_set[:, None]) ** 2).sum((0, 1)) / (sets * (seeds - 1)))
    data = max(mean(((by_set - by_set.mean(0)) ** 2).sum(0) / (sets - 1)) - seed / seeds, 0.0) if sets > 1 else 0.0
    return error, {"bias": max(error - data - seed, 0.0), "data": data, "seed": seed}
