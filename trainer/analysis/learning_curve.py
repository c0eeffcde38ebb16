"""The error as a function of the number of training images: a power law, its extrapolation, and whether more data is worth it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

EXPONENTS = np.geomspace(0.05, 2.0, 60)  # of the power laws that are fitted
RESAMPLES = 500  # of the seeds, for the interval of an extrapolation
WORTH = 0.05  # fraction of the error that twice the data must save
TOLERANCE = 0.25  # relative error up to which a law has predicted the largest size well


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale · n^(−exponent), with all three at least 0 (Hestness et al. 2017, arXiv:1712.00409)."""

    floor: float
    scale: float
    exponent: float

    def at(self, size: float) -> float:
        """Return the error with ``size`` training images.

        >>> PowerLaw(floor=0.25, scale=2.0, exponent=0.5).at(16)
        0.75
        """
        return self.floor + self.scale * size**-self.exponent


@dataclass(frozen=True)
class LearningCurve:
    """What a learning curve says of twice the data.

    Attributes:
        sizes: Numbers of training images, ascending.
        errors: The error of each seed, for each size.
        law: Fitted to the mean errors.
        twice: The error that is predicted with twice as many images as the largest size.
        low: Lower end of its 95 % interval over resampled seeds.
        high: Its upper end.
        saved: The fraction of the error that twice the data saves: the ends of the 95 % interval.
        predicted: The error at the largest size that the law of the smaller ones predicts.
    """

    sizes: tuple[int, ...]
    errors: tuple[tuple[float, ...], ...]
    law: PowerLaw
    twice: float
    low: float
    high: float
    saved: tuple[float, float]
    predicted: float

    @property
    def means(self) -> list[float]:
        """The mean error of each size."""
        return [fmean(values) for values in self.errors]

    @property
    def now(self) -> float:
        """The error with the largest size by the law, with which that of twice the data is compared."""
        return self.law.at(self.sizes[-1])

    @property
    def foreseen(self) -> bool:
        """Whether the law of the smaller sizes predicts the error of the largest up to ``TOLERANCE`` or its range."""
        largest, mean = self.errors[-1], self.means[-1]
        spread = max(largest) - min(largest)
        return abs(self.predicted - mean) <= max(TOLERANCE * mean, spread)

    @property
    def worth(self) -> Literal["yes", "little", "unclear"]:
        """Whether twice the data saves at least ``WORTH`` of the error; unclear where the seeds or the law do not tell."""
        if not any(self.means) or (self.foreseen and self.saved[1] < WORTH):
            return "little"
        return "yes" if self.foreseen and self.saved[0] >= WORTH else "unclear"


def power_law(sizes: Sequence[int], errors: Sequence[float]) -> PowerLaw:
    """Fit a power law by least squares of the relative residuals, for each exponent of a grid.

    Args:
        sizes: Numbers of training images, at least 1.
        errors: The error at each size, at least 0.

    >>> law = power_law([100, 200, 400, 800], [0.11, 0.01 + 0.1 * 0.5**0.5, 0.06, 0.01 + 0.1 * 0.125**0.5])
    >>> round(law.exponent, 1), round(law.floor, 2)
    (0.5, 0.01)
    """
    y = np.asarray(errors, dtype=float)
    weights = 1 / np.maximum(y, 0.05 * max(float(y.max()), 1e-12))
    smallest = float(min(sizes))  # the powers are those of n / smallest, which are about 1
    x = np.asarray(sizes, dtype=float) / smallest
    candidates: list[tuple[float, PowerLaw]] = []
    for exponent in EXPONENTS:
        floor, scale = _nonnegative(x**-exponent, y, weights)
        residual = float((((floor + scale * x**-exponent - y) * weights) ** 2).sum())
        candidates.append((residual, PowerLaw(floor, float(scale * smallest**exponent), float(exponent))))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _nonnegative(power: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The floor and scale, at least 0, of least squares of ``weights`` · (floor + scale · power − y)."""
    a, b, target = weights, weights * power, weights * y
    aa, bb, ab, at, bt = a @ a, b @ b, a @ b, a @ target, b @ target
    determinant = aa * bb - ab * ab
    if determinant > 1e-12 * aa * bb:
        floor, scale = (at * bb - bt * ab) / determinant, (bt * aa - at * ab) / determinant
        if floor >= 0 and scale >= 0:
            return float(floor), float(scale)
    only_scale = max(float(bt / bb), 0.0)
    only_floor = max(float(at / aa), 0.0)
    rest = [float((((f + s * power - y) * weights) ** 2).sum()) for f, s in ((0.0, only_scale), (only_floor, 0.0))]
    return (0.0, only_scale) if rest[0] <= rest[1] else (only_floor, 0.0)


def learning_curve(sizes: Sequence[int], errors: Sequence[Sequence[float]]) -> LearningCurve:
    """Fit the errors of several seeds by size, and extrapolate to twice the largest size.

    The interval is that of the laws of resampled seeds (percentile bootstrap, always with the same draws). It does not hold the
    error of the assumption that there is a power law.

    Args:
        sizes: At least 3 numbers of training images, ascending.
        errors: The error of each seed, for each size: at least 2 of them.

    >>> curve = learning_curve([100, 200, 400, 800], [[0.4, 0.41], [0.2, 0.21], [0.1, 0.105], [0.05, 0.0502]])
    >>> curve.worth, 0.02 < curve.low < curve.twice < curve.high < 0.03
    ('yes', True)
    >>> learning_curve([100, 200, 400, 800], [[0.1, 0.101], [0.1, 0.1], [0.099, 0.1], [0.1, 0.1]]).worth
    'little'
    """
    means = [fmean(values) for values in errors]
    law, twice = power_law(sizes, means), 2 * sizes[-1]
    rng = np.random.default_rng(0)
    ends: list[float] = []
    saved: list[float] = []
    for _ in range(RESAMPLES):
        drawn = [float(rng.choice(np.asarray(values), len(values)).mean()) for values in errors]
        other = power_law(sizes, drawn)
        ends.append(other.at(twice))
        now = other.at(sizes[-1])
        saved.append(1 - other.at(twice) / now if now > 0 else 0.0)
    low, high = (float(v) for v in np.quantile(ends, (0.025, 0.975)))
    least, most = (float(v) for v in np.quantile(saved, (0.025, 0.975)))
    predicted = power_law(sizes[:-1], means[:-1]).at(sizes[-1]) if len(sizes) > 2 else math.nan
    by_size = tuple(tuple(values) for values in errors)
    return LearningCurve(tuple(sizes), by_size, law, law.at(twice), low, high, (least, most), predicted)


def sizes_of(largest: int, count: int) -> list[int]:
    """Return ``count`` numbers of training images, each half of the next, ascending up to the largest.

    >>> sizes_of(1000, 4)
    [125, 250, 500, 1000]
    """
    return [round(largest / 2**k) for k in reversed(range(count))]
