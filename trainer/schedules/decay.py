"""Schedules that decrease the learning rate."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from trainer.errors import check
from trainer.history import History, better_is
from trainer.parameters import NonNegativeFloat, PositiveFloat, PositiveInt, option
from trainer.schedules.base import Factor, Floor, Schedule, Timed


@option(kw_only=False)
class Constant(Schedule):
    """A constant learning rate: m(t) = 1.

    >>> Constant()(7.0)
    1.0
    """

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0


@option(kw_only=False)
class Step(Schedule):
    """Step decay: m(t) = factor^⌊t/every⌋. Common choices are 0.5 every 5 epochs and 0.1 every 20.

    >>> [Step(every=5, factor=0.5)(t) for t in (0, 4.9, 5, 10)]
    [1.0, 1.0, 0.5, 0.25]
    """

    times: ClassVar[tuple[str, ...]] = ("every",)
    every: Annotated[PositiveFloat, Field(description="number of epochs between drops")] = 5.0
    factor: Factor = 0.5

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.factor ** math.floor(t / self.every + 1e-9)


@option(kw_only=False)
class MultiStep(Schedule):
    """Drops at given times: m(t) = factor^(number of milestones ≤ t) (He et al. 2015, at 1/2 and 3/4 of training).

    >>> [MultiStep(milestones=(2.0, 3.0), factor=0.1)(t) for t in (1, 2)]
    [1.0, 0.1]
    """

    times: ClassVar[tuple[str, ...]] = ("milestones",)
    milestones: Annotated[
        tuple[PositiveFloat, ...],
        Field(description="times of the drops in epochs, increasing; He et al. 2015: 1/2 and 3/4 of training"),
    ] = (7.5, 11.25)
    factor: Factor = 0.1

    def __post_init__(self) -> None:
        increasing = list(self.milestones) == sorted(set(self.milestones))
        check(self, milestones=(increasing, "must be increasing"))

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.factor ** sum(t >= m - 1e-9 for m in self.milestones)


@option(kw_only=False)
class Plateau(Schedule):
    """Drops when a metric stops improving: m = max(factor^n, floor) after n plateaus.

    A plateau is ``patience`` successive epochs of which none improves ``metric`` by more than ``min_delta`` over the best value
    so far; after a drop the count restarts from zero. The multiplier is a function of the history, so that a run resumes exactly;
    without history it is 1.

    >>> rows = [{"validation_loss": value} for value in (1.0, 0.9, 0.95, 0.95, 0.95)]
    >>> [Plateau(patience=2)(5.0, History(rows[:n])) for n in (2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5]
    """

    times: ClassVar[tuple[str, ...]] = ("patience",)
    metric: Annotated[str, Field(description="column of the history that should improve")] = "validation_loss"
    patience: Annotated[PositiveInt, Field(description="number of epochs without improvement before a drop")] = 3
    factor: Factor = 0.5
    min_delta: Annotated[
        NonNegativeFloat, Field(description="the metric must improve by more than this to count as improved")
    ] = 0.0
    floor: Floor = 0.0

    @property
    def watched_metric(self) -> str | None:
        return self.metric

    def __call__(self, t: float, history: History | None = None) -> float:
        drops, waited, best = 0, 0, math.inf
        sign = 1.0 if better_is(self.metric) == "min" else -1.0
        for value in (history or History()).column(self.metric):
            if sign * value < best - self.min_delta:
                best, waited = sign * value, 0
            else:
                waited += 1
            if waited == self.patience:
                drops, waited = drops + 1, 0
        return max(self.factor**drops, self.floor)


@option(kw_only=False)
class Linear(Timed):
    """Linear decay from 1 to ``floor``: m(t) = 1 − (1 − floor)·t/total.

    >>> Linear(total=10)(2.5)
    0.75
    """

    floor: Floor = 0.0

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0 - (1.0 - self.floor) * self.progress(t)


@option(kw_only=False)
class InverseSqrt(Schedule):
    """Inverse square root decay: m(t) = 1/√max(t/scale, 1), which is constant for the first ``scale`` epochs.

    >>> [InverseSqrt()(t) for t in (0, 1, 4)]
    [1.0, 1.0, 0.5]
    """

    times: ClassVar[tuple[str, ...]] = ("scale",)
    scale: Annotated[
        PositiveFloat, Field(description="number of epochs at the peak learning rate before the decay")
    ] = 1.0

    def __call__(self, t: float, history: History | None = None) -> float:
        return 1.0 / math.sqrt(max(t / self.scale, 1.0))


@option(kw_only=False)
class Exponential(Schedule):
    """Exponential decay: m(t) = exp(−k·t).

    >>> round(Exponential(k=0.139)(5), 2)
    0.5
    """

    k: Annotated[
        NonNegativeFloat,
        Field(
            description="decay rate per epoch; ln(2)/5 = 0.139 halves the learning rate every 5 epochs; 0 = constant"
        ),
    ] = 0.139

    def __call__(self, t: float, history: History | None = None) -> float:
        return math.exp(-self.k * t)


@option(kw_only=False)
class Cosine(Timed):
    """Cosine annealing: m(t) = floor + (1 − floor)·(1 + cos(π·t/total))/2 (Loshchilov & Hutter 2016, arXiv:1608.03983).

    >>> [round(Cosine(total=10)(t), 6) for t in (0, 5, 10, 12)]
    [1.0, 0.5, 0.0, 0.0]
    """

    floor: Floor = 0.0

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * self.progress(t))) / 2.0
