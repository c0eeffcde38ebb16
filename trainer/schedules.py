"""Schedules: pure functions from time (and, for ``Plateau``, history) to a multiplier of the peak rate.

``t`` is in epochs since the phase began; the loop writes ``lr · schedule(t, history)`` into the optimizer at every step.
A schedule has no state, so it can be drawn before training and resumes by being asked again. Several multiply together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainer.checks import check
from trainer.history import History, better_is


@dataclass(frozen=True)
class Schedule:
    """What all schedules have in common: time to multiplier, and where their cycles end."""

    def __call__(self, t: float, history: History | None = None) -> float:
        raise NotImplementedError

    def momentum_at(self, t: float) -> float | None:
        """The optimizer's momentum (or beta1) at time ``t``; None where the schedule leaves it alone."""
        return None

    def cycle_ends(self, total: float) -> list[float]:
        """The times up to ``total`` at which a cycle ends, that is, where a snapshot is worth keeping."""
        return []

    def over(self, total: float) -> Schedule:
        """The same schedule for a phase of ``total`` epochs: fills ``total`` where it was left open."""
        return replace(self, total=total) if getattr(self, "total", 0) is None else self  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class Timed(Schedule):
    """A schedule that goes by the share of the phase that is over; beyond the end it stays where it ended."""

    total: float | None = None

    def __post_init__(self) -> None:
        check(self, total=(self.total is None or self.total > 0, "must be > 0 epochs, or null for the phase's length"))

    def share(self, t: float) -> float:
        """t / total, from 0 to 1."""
        if self.total is None:
            raise ValueError(f"{type(self).__name__}.total is open: say schedule.over(epochs) first")
        return min(max(t / self.total, 0.0), 1.0)


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak rate throughout: m(t) = 1.

    >>> Constant()(7.0)
    1.0
    """

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """A staircase: m(t) = factor^⌊t/every⌋. ``factor`` 1 is constant.

    The lecture's rules of thumb: 0.5 every 5 epochs, or 0.1 every 20.

    >>> [Step(every=5, factor=0.5)(t) for t in (0, 4.9, 5, 10)]
    [1.0, 1.0, 0.5, 0.25]
    """

    every: float = 5.0
    factor: float = 0.5

    def __post_init__(self) -> None:
        check(self, every=(self.every > 0, "must be > 0 epochs"), factor=_factor(self.factor))

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.factor ** math.floor(t / self.every + 1e-9)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Falls at given times: m(t) = factor^(number of milestones ≤ t) (He et al. 2015 fell at 1/2 and 3/4).

    >>> [MultiStep(milestones=(2.0, 3.0), factor=0.1)(t) for t in (1, 2)]
    [1.0, 0.1]
    """

    milestones: tuple[float, ...] = (7.5, 11.25)
    factor: float = 0.1

    def __post_init__(self) -> None:
        rising = list(self.milestones) == sorted(set(self.milestones))
        check(
            self,
            milestones=(rising and all(m > 0 for m in self.milestones), "must be rising times > 0, in epochs"),
            factor=_factor(self.factor),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.factor ** sum(t >= m - 1e-9 for m in self.milestones)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Falls where learning stalls: m = max(factor^(times ``metric`` failed to improve for ``patience`` epochs), floor).

    A function of the history, so that it resumes exactly. An epoch improves where it beats the best value so far by more
    than ``min_delta``; after each fall the counting begins anew. Without history the multiplier is 1.

    >>> rows = [{"validation_loss": value} for value in (1.0, 0.9, 0.95, 0.95, 0.95)]
    >>> [Plateau(patience=2)(5.0, History(rows[:n])) for n in (2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5]
    """

    metric: str = "validation_loss"
    patience: int = 3
    factor: float = 0.5
    min_delta: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check(
            self,
            patience=(self.patience >= 1, "must be >= 1 epoch"),
            factor=_factor(self.factor),
            min_delta=(self.min_delta >= 0, "must be >= 0"),
            floor=_floor(self.floor),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        falls, waited, best = 0, 0, math.inf
        sign = 1.0 if better_is(self.metric) == "min" else -1.0
        for value in (history or History()).column(self.metric):
            if sign * value < best - self.min_delta:
                best, waited = sign * value, 0
            else:
                waited += 1
            if waited == self.patience:
                falls, waited = falls + 1, 0
        return max(self.factor**falls, self.floor)


@dataclass(frozen=True)
class Linear(Timed):
    """A straight line down: m(t) = 1 − (1 − floor)·t/total.

    >>> Linear(total=10)(2.5)
    0.75
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, floor=_floor(self.floor))

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0 - (1.0 - self.floor) * self.share(t)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """m(t) = 1/√max(t/scale, 1): constant for the first ``scale`` epochs, then 1/√t (the lecture counts t from 1).

    >>> [InverseSqrt()(t) for t in (0, 1, 4)]
    [1.0, 1.0, 0.5]
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check(self, scale=(self.scale > 0, "must be > 0 epochs"))

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0 / math.sqrt(max(t / self.scale, 1.0))


@dataclass(frozen=True)
class Exponential(Schedule):
    """m(t) = exp(−k·t). ``k`` 0 is constant; ln 2/5 ≈ 0.139 halves every 5 epochs.

    >>> round(Exponential(k=0.139)(5), 2)
    0.5
    """

    k: float = 0.139

    def __post_init__(self) -> None:
        check(self, k=(self.k >= 0, "must be >= 0 (per epoch)"))

    def __call__(self, t: float, history: History | None = None) -> float:
        return math.exp(-self.k * t)


@dataclass(frozen=True)
class Cosine(Timed):
    """Half a cosine from 1 to ``floor``: m(t) = floor + (1 − floor)·(1 + cos(π·t/total))/2 (Loshchilov & Hutter 2016).

    >>> [round(Cosine(total=10)(t), 6) for t in (0, 5, 10, 12)]
    [1.0, 0.5, 0.0, 0.0]
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, floor=_floor(self.floor))

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * self.share(t))) / 2.0


@dataclass(frozen=True)
class CLR(Schedule):
    """A triangular wave between ``floor`` and 1 (Smith 2015, arXiv:1506.01186); momentum is not touched.

    m(t) = floor + (1 − floor)·a(t)·max(0, 1 − |t/step_size − 2·c + 1|), where c = ⌊1 + t/(2·step_size)⌋ counts cycles and
    the amplitude a(t) is 1 (``triangular``), 2^(1−c) (``triangular2``) or gamma^t (``exp_range``, t in epochs).
    ``step_size`` is half a cycle in epochs: 2 to 8 in the paper, which also wants training to end at the low rate.

    >>> [CLR(step_size=2, floor=0.25)(t) for t in (0, 1, 2, 3, 4)]
    [0.25, 0.625, 1.0, 0.625, 0.25]
    >>> [CLR(step_size=2, floor=0.0, policy="triangular2")(t) for t in (2, 6)]
    [1.0, 0.5]
    """

    step_size: float = 2.5
    floor: float = 1 / 6
    policy: str = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        known = ("triangular", "triangular2", "exp_range")
        check(
            self,
            step_size=(self.step_size > 0, "must be > 0 epochs"),
            floor=_floor(self.floor),
            policy=(self.policy in known, f"must be one of {', '.join(known)}"),
            gamma=(0 < self.gamma <= 1, "must be in (0, 1]"),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        cycle = math.floor(1 + t / (2 * self.step_size) + 1e-9)
        height = max(0.0, 1 - abs(t / self.step_size - 2 * cycle + 1))
        amplitude = {"triangular": 1.0, "triangular2": 2.0 ** (1 - cycle), "exp_range": self.gamma**t}[self.policy]
        return self.floor + (1 - self.floor) * amplitude * height

    def cycle_ends(self, total: float) -> list[float]:
        return _multiples(2 * self.step_size, total)


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Cosine cycles that begin again at 1: SGDR (Loshchilov & Hutter 2016, arXiv:1608.03983).

    m(t) = floor + (1 − floor)·(1 + cos(π·s/T_i))/2 with s the time since the last restart; the first cycle lasts ``cycle``
    epochs, each later one ``cycle_mult`` times the one before.

    >>> [WarmRestarts(cycle=4)(t) for t in (0, 2, 4)]
    [1.0, 0.5, 1.0]
    """

    cycle: float = 5.0
    cycle_mult: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check(
            self,
            cycle=(self.cycle > 0, "must be > 0 epochs"),
            cycle_mult=(self.cycle_mult >= 1, "must be >= 1"),
            floor=_floor(self.floor),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        begin, length = self._cycle_at(t)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min((t - begin) / length, 1.0))) / 2

    def _cycle_at(self, t: float) -> tuple[float, float]:
        """Begin and length of the cycle that t lies in."""
        t += 1e-9  # a restart falls on a whole step, whose time may be rounded down
        if self.cycle_mult == 1:
            index = math.floor(t / self.cycle)
            return index * self.cycle, self.cycle
        begin, length = 0.0, self.cycle  # the closed form loses all its digits where cycle_mult is close to 1
        while begin + length <= t:
            begin, length = begin + length, length * self.cycle_mult
        return begin, length

    def cycle_ends(self, total: float) -> list[float]:
        ends, length = [self.cycle], self.cycle
        while ends[-1] <= total + 1e-9:
            length *= self.cycle_mult
            ends.append(ends[-1] + length)
        return ends[:-1]


@dataclass(frozen=True)
class OneCycle(Timed):
    """One rise and one long fall, momentum the other way (Smith & Topin 2017, arXiv:1708.07120; fastai's form).

    From 1/div up to 1 over the share ``rise`` of the phase, then down to 1/final_div, each along half a cosine;
    momentum (beta1 for Adam) falls from ``momentum_high`` to ``momentum_low`` and rises again.

    >>> schedule = OneCycle(total=10, rise=0.5, div=25)
    >>> [round(schedule(t), 4) for t in (0, 5)], [round(schedule.momentum_at(t), 3) for t in (0, 5, 10)]
    ([0.04, 1.0], [0.95, 0.85, 0.95])
    """

    rise: float = 0.25
    div: float = 25.0
    final_div: float = 1e5
    momentum_low: float = 0.85
    momentum_high: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            rise=(0 < self.rise < 1, "must be in (0, 1), a share of the phase"),
            div=(self.div >= 1, "must be >= 1"),
            final_div=(self.final_div >= 1, "must be >= 1"),
            momentum_low=(0 <= self.momentum_low <= self.momentum_high, "must be from 0 to momentum_high"),
            momentum_high=(self.momentum_high < 1, "must be < 1"),
        )

    def _between(self, t: float, first: float, middle: float, last: float) -> float:
        share = self.share(t)
        rising = share < self.rise
        begin, end = (first, middle) if rising else (middle, last)
        along = share / self.rise if rising else (share - self.rise) / (1 - self.rise)
        return end + (begin - end) * (1 + math.cos(math.pi * along)) / 2

    def __call__(self, t: float, history: History | None = None) -> float:
        return self._between(t, 1 / self.div, 1.0, 1 / self.final_div)

    def momentum_at(self, t: float) -> float | None:
        return self._between(t, self.momentum_high, self.momentum_low, self.momentum_high)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A gentle start beside any other schedule: m(t) = start + (1 − start)·min(t/epochs, 1) (Goyal et al. 2017, §2.2).

    >>> [Warmup(epochs=2, start=0.0)(t) for t in (0, 1, 2, 3)]
    [0.0, 0.5, 1.0, 1.0]
    """

    epochs: float = 1.0
    start: float = 0.01

    def __post_init__(self) -> None:
        check(
            self,
            epochs=(self.epochs > 0, "must be > 0 (leave warmup out of the list to have none)"),
            start=(0 <= self.start < 1, "must be in [0, 1), a share of the peak rate"),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.start + (1 - self.start) * min(t / self.epochs, 1.0)


@dataclass(frozen=True)
class Product(Schedule):
    """Several schedules at once: m(t) = Π mᵢ(t); none at all is constant. Warm-up, cycles and decay are such a product.

    >>> Product((Warmup(epochs=2, start=0.0), Step(every=1, factor=0.5)))(1.0)
    0.25
    """

    schedules: tuple[Schedule, ...] = ()

    def __call__(self, t: float, history: History | None = None) -> float:
        return math.prod(schedule(t, history) for schedule in self.schedules)

    def momentum_at(self, t: float) -> float | None:
        return next((m for s in self.schedules if (m := s.momentum_at(t)) is not None), None)

    def cycle_ends(self, total: float) -> list[float]:
        return sorted({end for schedule in self.schedules for end in schedule.cycle_ends(total)})

    def over(self, total: float) -> Product:
        return Product(tuple(schedule.over(total) for schedule in self.schedules))


def curve(schedule: Callable[[float], float], total: float, points: int = 200) -> tuple[list[float], list[float]]:
    """Times and multipliers for a drawing, both ends included.

    >>> curve(Linear(total=2), 2, points=3)
    ([0.0, 1.0, 2.0], [1.0, 0.5, 0.0])
    """
    times = [total * i / (points - 1) for i in range(points)]
    return times, [schedule(t) for t in times]


def _multiples(length: float, total: float) -> list[float]:
    return [length * i for i in range(1, math.floor(total / length + 1e-9) + 1)]


def _factor(value: float) -> tuple[bool, str]:
    return 0 < value <= 1, "must be in (0, 1]"


def _floor(value: float) -> tuple[bool, str]:
    return 0 <= value < 1, "must be in [0, 1), a share of the peak rate"
