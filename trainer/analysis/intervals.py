"""Intervals: what a number from few runs or few pictures can be trusted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its interval; ``half`` is infinite where one value alone tells no spread."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def deviation(values: Sequence[float]) -> float:
    """√(Σ(x − mean)²/(n − 1)); 0 for a single value.

    >>> round(deviation([1.0, 2.0, 3.0]), 6), deviation([4.0])
    (1.0, 0.0)
    """
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def quantile(confidence: float, freedom: float) -> float:
    """The t for which Student's distribution with ``freedom`` degrees lies within ±t with probability ``confidence``.

    >>> round(quantile(0.95, 2), 3), round(quantile(0.95, 1e9), 3)
    (4.303, 1.96)
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of independent runs, such as seeds, and Student's interval: mean ± t·deviation/√n.

    >>> found = interval([0.90, 0.92, 0.94])
    >>> round(found.mean, 4), round(found.half, 4)
    (0.92, 0.0497)
    """
    n = len(values)
    if n == 0:
        raise ValueError("values must hold at least one number")
    half = quantile(confidence, n - 1) * deviation(values) / math.sqrt(n) if n > 1 else math.inf
    return Interval(sum(values) / n, half, n)


def difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """mean(b) − mean(a) of two groups of independent runs, with Welch's interval; infinite where a group has one run.

    >>> found = difference([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    >>> round(found.mean, 3), found.low > 0
    (0.3, True)
    """
    mean = sum(b) / len(b) - sum(a) / len(a)
    if min(len(a), len(b)) < 2:
        return Interval(mean, math.inf, len(a) + len(b))
    parts = [deviation(v) ** 2 / len(v) for v in (a, b)]
    total = sum(parts)
    if total == 0:
        return Interval(mean, 0.0, len(a) + len(b))
    freedom = total**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (a, b), strict=True))
    return Interval(mean, quantile(confidence, freedom) * math.sqrt(total), len(a) + len(b))


def proportion_half_width(share: float, n: int) -> float:
    """Half the 95 % interval of a share counted on ``n`` pictures (Agresti & Coull 1998): what chance alone moves it.

    >>> round(share_noise(0.9, 100), 3), round(share_noise(1.0, 100), 3)
    (0.061, 0.026)
    """
    z = 1.96
    m = n + z * z
    p = (share * n + z * z / 2) / m
    return z * math.sqrt(p * (1 - p) / m)
