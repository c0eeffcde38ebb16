"""The curve of a range test read: where learning begins, where it is fastest, where it stops (Smith 2015, arXiv:1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NAMES = ("floor", "fixed", "peak")
BEGUN, DONE = 0.1, 0.97  # shares of the whole descent at which learning counts as begun, and as about to stop
LEAST = 0.02  # share of the first loss which a descent has to reach
SURE = 4.0  # deviations of the noise which a descent has to reach


class NoDescent(ValueError):
    """The loss falls at no rate by more than its noise; the text says by how much."""


@dataclass(frozen=True)
class Reading:
    """Rates that a range test suggests: ``floor``, where the loss begins to fall; ``fixed``, where it falls fastest per factor
    of the rate; ``peak``, where it has all but stopped falling. ``ranges`` holds the middle 80 % of each under the noise.
    """

    floor: float
    fixed: float
    peak: float
    drop: float  # nats, from the first loss to the lowest
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sure(self, name: str) -> str:
        """How sure a suggestion is: by the factor between the ends of its range.

        >>> Reading(0.01, 0.1, 0.5, 1.0, {"peak": (0.4, 0.6)}).sure("peak")
        'sure'
        """
        low, high = self.ranges.get(name, (1.0, math.inf))
        return "sure" if high / low < 2 else "fairly sure" if high / low < 5 else "unsure"


def geometric(start: float, stop: float, steps: int, scale: str = "exponential") -> list[float]:
    """``steps`` rates from ``start`` to ``stop``, by equal factors (``exponential``) or equal differences (``linear``).

    >>> [round(r, 6) for r in rising(0.01, 1.0, 3)], rising(0.0, 1.0, 3, "linear")
    ([0.01, 0.1, 1.0], [0.0, 0.5, 1.0])
    """
    shares = [i / (steps - 1) for i in range(steps)]
    if scale == "linear":
        return [start + (stop - start) * s for s in shares]
    return [start * (stop / start) ** s for s in shares]


def smooth(losses: Sequence[float] | np.ndarray, width: float) -> np.ndarray:
    """Means weighted by a bell of deviation ``width`` steps around each: unlike a running mean it lags behind nothing.

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


def read(rates: Sequence[float], losses: Sequence[float], smoothing: float = 0.03, draws: int = 200) -> Reading:
    """What the losses at rising rates suggest; NothingDescends where they fall by no more than noise.

    ``smoothing`` is the deviation of the bell as a share of the curve. The ranges come from ``draws`` curves whose deviations
    from the smooth one have random signs (a wild bootstrap, always with the same numbers).
    """
    x, width = np.asarray(rates, dtype=np.float64), smoothing * len(rates)
    first = float(np.median(losses[: max(3, len(losses) // 10)]))
    raw = np.minimum(np.asarray(losses, dtype=np.float64), 2 * first)  # where it explodes, by how much tells nothing
    line = smooth(raw, width)
    low = int(line.argmin())
    deviation = raw - line
    noise = 1.4826 * float(np.median(np.abs(deviation[: low + 1])))
    doubt = noise * math.sqrt(1 / max(3.5 * width, 1) + 1.5 / max(3, len(losses) // 10))
    drop, least = first - float(line[low]), max(LEAST * abs(first), SURE * doubt)
    if drop < least:
        raise NoDescent(
            f"the loss falls at no rate from {x[0]:.3g} to {x[-1]:.3g}: from {first:.4g} by {max(drop, 0):.2g} at most, "
            f"where {least:.2g} would be more than its noise"
        )
    found = _points(x, line, first)
    rng = np.random.default_rng(0)
    drawn = [_points(x, smooth(line + deviation * rng.choice([-1, 1], len(x)), width), first) for _ in range(draws)]
    ends = np.quantile(np.array(drawn), (0.1, 0.9), axis=0) if drawn else np.array([found, found])
    ranges = {
        name: (float(min(ends[0, i], found[i])), float(max(ends[1, i], found[i]))) for i, name in enumerate(NAMES)
    }
    notes = []
    if low >= len(x) - max(2, round(width)):
        notes.append(f"the loss still falls at the highest rate, {x[-1]:.3g}: the peak may lie above it")
    if found[0] <= x[0]:
        notes.append(f"the loss falls from the lowest rate on, {x[0]:.3g}: the floor may lie below it")
    floor, fixed, peak = map(float, found)
    return Reading(floor, fixed, peak, drop, ranges, tuple(notes))


def _points(x: np.ndarray, line: np.ndarray, first: float) -> tuple[float, float, float]:
    """Floor, fixed rate and peak of a smooth curve."""
    low = int(line.argmin())
    drop = first - line[low]
    above = np.flatnonzero(line[: low + 1] >= first - BEGUN * drop)
    begin = int(above[-1]) if len(above) else 0
    end = begin + int(np.argmax(line[begin : low + 1] <= first - DONE * drop))
    if end <= begin:
        return float(x[begin]), float(x[begin]), float(x[low])
    slope = np.gradient(line, np.log(np.maximum(x, 1e-12)))
    return float(x[begin]), float(x[begin + int(slope[begin : end + 1].argmin())]), float(x[end])


def rounded(value: float) -> float:
    """Three digits, as one would type it, so that the pasted command is the same run.

    >>> rounded(0.123456)
    0.123
    """
    return float(f"{value:.3g}")
