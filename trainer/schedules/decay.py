"""Schedules that fall, or rise once at the beginning."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.errors import check
from trainer.history import History, better_is
from trainer.schedules.base import Schedule, Timed, factor_rule, floor_rule


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
        check(self, every=(self.every > 0, "must be > 0 epochs"), factor=factor_rule(self.factor))

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
        geometric = list(self.milestones) == sorted(set(self.milestones))
        check(
            self,
            milestones=(geometric and all(m > 0 for m in self.milestones), "must be rising times > 0, in epochs"),
            factor=factor_rule(self.factor),
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
            factor=factor_rule(self.factor),
            min_delta=(self.min_delta >= 0, "must be >= 0"),
            floor=floor_rule(self.floor),
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
        check(self, floor=floor_rule(self.floor))

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
        check(self, floor=floor_rule(self.floor))

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * self.share(t))) / 2.0


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
