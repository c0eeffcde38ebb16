"""Confidence intervals of means over runs, of differences between groups of runs, and of proportions of images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its confidence interval; ``half`` is infinite for a single value."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent runs, such as seeds, with its t-based interval: mean ± t·s/√n, s the sample standard deviation.

    Raises:
        ValueError: ``values`` is empty.

    >>> result = interval([0.90, 0.92, 0.94])
    >>> round(result.mean, 4), round(result.half, 4)
    (0.92, 0.0497)
    """
    n = len(values)
    if n == 0:
        raise ValueError("values must contain at least one number")
    mean = sum(values) / n
    if n == 1:
        return Interval(mean, math.inf, n)
    stats = scipy_stats()
    standard_error = float(stats.sem(values))
    return Interval(mean, float(stats.t.ppf((1 + confidence) / 2, n - 1)) * standard_error, n)


def pooled_intervals(groups: Sequence[Sequence[float]], confidence: float = 0.95) -> list[Interval]:
    """Mean of each group with a t-based interval whose standard deviation is that within all groups, for few values each.

    s² = Σ (x − mean of its group)² / (N − groups), N the number of all values. A group whose variance is larger than that of
    the others beyond chance (F test, 1 %) has an interval of its own, and is left out of theirs.

    Raises:
        ValueError: A group is empty.

    >>> [round(found.half, 3) for found in pooled_intervals([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])]
    [0.113, 0.113]
    """
    alone = [interval(values, confidence) for values in groups]
    squares = [sum((x - own.mean) ** 2 for x in values) for values, own in zip(groups, alone, strict=True)]
    pooled = _of_like_variance(squares, [own.n - 1 for own in alone])
    freedom = sum(alone[i].n - 1 for i in pooled)
    if freedom == 0:
        return alone
    quantile = float(scipy_stats().t.ppf((1 + confidence) / 2, freedom))
    deviation = math.sqrt(sum(squares[i] for i in pooled) / freedom)
    return [
        Interval(own.mean, quantile * deviation / math.sqrt(own.n), own.n) if i in pooled else own
        for i, own in enumerate(alone)
    ]


def _of_like_variance(squares: Sequence[float], freedoms: Sequence[int], significance: float = 0.01) -> list[int]:
    """The groups without those whose variance is larger than that of the others beyond chance, the largest first.

    >>> _of_like_variance([0.01, 0.012, 30.0], [2, 2, 2]), _of_like_variance([0.01, 0.012, 0.03], [2, 2, 2])
    ([0, 1], [0, 1, 2])
    """
    left: list[int] = list(range(len(squares)))
    while len(left) > 1:
        largest = max(left, key=lambda i: squares[i] / freedoms[i] if freedoms[i] else 0.0)
        others = [i for i in left if i != largest]
        freedom, rest = sum(freedoms[i] for i in others), sum(squares[i] for i in others)
        if not freedoms[largest] or not freedom or rest <= 1e-12 * squares[largest]:
            break  # equal scores are those of few images, not of no variance
        ratio = (squares[largest] / freedoms[largest]) / (rest / freedom)
        if ratio <= float(scipy_stats().f.ppf(1 - significance, freedoms[largest], freedom)):
            break
        left = others
    return left


def difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """mean(b) − mean(a) of two groups of independent runs with Welch's interval; infinite if a group has a single run.

    >>> result = difference([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    >>> round(result.mean, 3), result.low > 0
    (0.3, True)
    """
    n, mean = len(a) + len(b), sum(b) / len(b) - sum(a) / len(a)
    if min(len(a), len(b)) < 2:
        return Interval(mean, math.inf, n)
    if len(set(a)) == len(set(b)) == 1:  # no variance: the interval is a point, for which scipy gives NaN
        return Interval(mean, 0.0, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a group with next to no variance
        bounds = scipy_stats().ttest_ind(b, a, equal_var=False).confidence_interval(confidence)
    return Interval(mean, float(bounds.high - bounds.low) / 2, n)


def proportion_half_width(proportion: float, n: int, confidence: float = 0.95) -> float:
    """Half the width of the Wilson interval of a proportion counted on ``n`` images: what chance alone explains.

    >>> round(proportion_half_width(0.9, 100), 3), round(proportion_half_width(1.0, 100), 3)
    (0.06, 0.018)
    """
    bounds = scipy_stats().binomtest(round(proportion * n), n).proportion_ci(confidence, method="wilson")
    return float(bounds.high - bounds.low) / 2


def scipy_stats() -> ModuleType:
    """Return scipy.stats, which has no annotations, imported when it is needed: it takes half a second."""
    return import_module("scipy.stats")
