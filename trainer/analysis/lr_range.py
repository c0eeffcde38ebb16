"""LR range test: suggest learning rates from the loss at increasing learning rates (Smith 2015, arXiv:1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NAMES = ("min_lr", "suggested_lr", "max_lr")
# Fractions of the total decrease of the loss at min_lr and at max_lr.
DESCENT_BEGUN, DESCENT_DONE = 0.1, 0.97
MIN_RELATIVE_DROP = 0.02  # fraction of the initial loss by which the loss has to fall
MIN_STEPS = 10  # of a test that has not diverged
MIN_DROP_TO_NOISE = 4.0  # standard deviations of the noise by which the loss has to fall


class NoDescent(ValueError):
    """The loss does not fall at any learning rate by more than its noise; the message says by how much it falls."""


@dataclass(frozen=True)
class Suggestion:
    """Learning rates that a range test suggests.

    Attributes:
        min_lr: Where the loss begins to decrease.
        suggested_lr: Where it decreases fastest with the logarithm of the learning rate.
        max_lr: Where it has almost stopped decreasing.
        drop: Initial minus lowest loss, in nats.
        ranges: 10th and 90th percentile of each of these learning rates under resampled noise.
        notes: Limits of the test that the user should know.
    """

    min_lr: float
    suggested_lr: float
    max_lr: float
    drop: float
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    notes: tuple[str, ...] = ()

    def confidence(self, name: str) -> str:
        """Return ``high``, ``medium`` or ``low`` by the factor between the ends of the range of one of ``NAMES``.

        >>> Suggestion(0.01, 0.1, 0.5, 1.0, {"max_lr": (0.4, 0.6)}).confidence("max_lr")
        'high'
        """
        low, high = self.ranges.get(name, (1.0, math.inf))
        return "high" if high / low < 2 else "medium" if high / low < 5 else "low"


def lr_sequence(start: float, stop: float, steps: int, scale: str = "exponential") -> list[float]:
    """Return ``steps`` learning rates from ``start`` to ``stop`` by equal factors, or by equal differences (``linear``).

    >>> [round(lr, 6) for lr in lr_sequence(0.01, 1.0, 3)], lr_sequence(0.0, 1.0, 3, "linear")
    ([0.01, 0.1, 1.0], [0.0, 0.5, 1.0])
    """
    fractions = [i / (steps - 1) for i in range(steps)]
    if scale == "linear":
        return [start + (stop - start) * f for f in fractions]
    return [start * (stop / start) ** f for f in fractions]


def smooth(losses: Sequence[float] | np.ndarray, width: float) -> np.ndarray:
    """Smooth by a Gaussian kernel with standard deviation ``width`` (steps), which unlike a running mean has no lag.

    >>> smooth([1.0, 1.0, 4.0, 1.0, 1.0], 0.5).round(2).tolist()
    [1.0, 1.32, 3.36, 1.32, 1.0]
    >>> smooth([3.0, 1.0], 0.0).tolist()
    [3.0, 1.0]
    """
    values = np.asarray(losses, dtype=np.float64)
    if width <= 0:
        return values
    distance = np.arange(len(values))[:, None] - np.arange(len(values))[None]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return weights @ values / weights.sum(1)


def suggest_lr(
    lrs: Sequence[float], losses: Sequence[float], smoothing: float = 0.03, resamples: int = 200
) -> Suggestion:
    """Suggest learning rates from the losses at increasing learning rates.

    Args:
        lrs: Learning rates, increasing.
        losses: The loss of the batch at each learning rate.
        smoothing: Standard deviation of the smoothing kernel, as a fraction of the curve.
        resamples: Number of resampled curves from which the ranges are computed. Each is the smooth curve plus its
            residuals with random signs (a wild bootstrap, always with the same random numbers).

    Raises:
        NoDescent: The loss falls by no more than noise.
    """
    x, width = np.asarray(lrs, dtype=np.float64), smoothing * len(lrs)
    initial = float(np.median(losses[: max(3, len(losses) // 10)]))
    raw = np.minimum(np.asarray(losses, dtype=np.float64), 2 * initial)  # by how much it explodes is irrelevant
    curve = smooth(raw, width)
    lowest = int(curve.argmin())
    residuals = raw - curve
    noise = 1.4826 * float(np.median(np.abs(residuals[: lowest + 1])))
    error = noise * math.sqrt(1 / max(3.5 * width, 1) + 1.5 / max(3, len(losses) // 10))
    drop, min_drop = initial - float(curve[lowest]), max(MIN_RELATIVE_DROP * abs(initial), MIN_DROP_TO_NOISE * error)
    if drop < min_drop:
        raise NoDescent(
            f"the loss does not fall at any learning rate from {x[0]:.3g} to {x[-1]:.3g}: from {initial:.4g} by "
            f"{max(drop, 0):.2g} at most; more than its noise would be {min_drop:.2g}"
        )
    points = _turning_points(x, curve, initial)
    rng = np.random.default_rng(0)
    resampled = [
        _turning_points(x, smooth(curve + residuals * rng.choice([-1, 1], len(x)), width), initial)
        for _ in range(resamples)
    ]
    ends = np.quantile(np.array(resampled), (0.1, 0.9), axis=0) if resampled else np.array([points, points])
    ranges = {
        name: (float(min(ends[0, i], points[i])), float(max(ends[1, i], points[i]))) for i, name in enumerate(NAMES)
    }
    notes: list[str] = []
    if lowest >= len(x) - max(2, round(width)):
        notes.append(f"the loss still falls at the highest learning rate, {x[-1]:.3g}: max_lr may be higher")
    if points[0] <= x[0]:
        notes.append(f"the loss falls from the lowest learning rate on, {x[0]:.3g}: min_lr may be lower")
    min_lr, suggested_lr, max_lr = map(float, points)
    return Suggestion(min_lr, suggested_lr, max_lr, drop, ranges, tuple(notes))


def _turning_points(x: np.ndarray, curve: np.ndarray, initial: float) -> tuple[float, float, float]:
    """Return min_lr, suggested_lr and max_lr of a smooth curve."""
    lowest = int(curve.argmin())
    drop = initial - curve[lowest]
    above = np.flatnonzero(curve[: lowest + 1] >= initial - DESCENT_BEGUN * drop)
    begin = int(above[-1]) if len(above) else 0
    end = begin + int(np.argmax(curve[begin : lowest + 1] <= initial - DESCENT_DONE * drop))
    if end <= begin:
        return float(x[begin]), float(x[begin]), float(x[lowest])
    slope = np.gradient(curve, np.log(np.maximum(x, 1e-12)))
    return float(x[begin]), float(x[begin + int(slope[begin : end + 1].argmin())]), float(x[end])


def rounded(value: float) -> float:
    """Round to three significant digits, so that a suggested override gives exactly this value.

    >>> rounded(0.123456)
    0.123
    """
    return float(f"{value:.3g}")
