"""The interface of schedules, their product, and what several of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from trainer.history import History
from trainer.parameters import PositiveFloat, option

Floor = Annotated[float, Field(ge=0, lt=1, description="minimum learning rate as a fraction of the peak")]
Factor = Annotated[
    float, Field(gt=0, le=1, description="what the learning rate is multiplied by at each drop; 1 = constant")
]


class Schedule:
    """A function from time to a multiplier of the peak learning rate, in [0, 1]."""

    moves_momentum: ClassVar[bool] = False  # whether ``momentum_at`` returns a number
    times: ClassVar[tuple[str, ...]] = ()  # parameters that are times in epochs, which a shorter run does not reach

    @property
    def watched_metric(self) -> str | None:
        """The column of the history that the schedule depends on."""
        return None

    def __call__(self, t: float, history: History | None = None) -> float:
        """Return the multiplier at time ``t`` (epochs since the start of the phase)."""
        raise NotImplementedError

    def momentum_at(self, t: float) -> float | None:
        """Return the optimizer's momentum (Adam's beta1) at time ``t``; None if the schedule leaves it unchanged."""
        return None

    def cycle_ends(self, total: float) -> list[float]:
        """Return the times up to ``total`` at which a cycle ends, where a snapshot ensemble takes its members."""
        return []

    def over(self, total: float) -> Schedule:
        """Return the schedule for a phase of ``total`` epochs, which is its length unless it has one of its own."""
        return self

    def factors(self) -> tuple[Schedule, ...]:
        """Return the schedules that are multiplied: the schedule itself unless it is a product."""
        return (self,)


@option(kw_only=False)
class Timed(Schedule):
    """A schedule that depends on the fraction of the phase completed; after the end it keeps its last value."""

    times: ClassVar[tuple[str, ...]] = ("total",)
    total: Annotated[PositiveFloat | None, Field(description="length in epochs; null = length of the phase")] = None

    def progress(self, t: float) -> float:
        """Return the fraction of the phase completed, t/total, clipped to [0, 1]."""
        if self.total is None:
            raise ValueError(f"{type(self).__name__}.total is null: call schedule.over(epochs) first")
        return min(max(t / self.total, 0.0), 1.0)

    def over(self, total: float) -> Schedule:
        return replace(self, total=total) if self.total is None else self  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Product(Schedule):
    """The product of schedules: m(t) = Π mᵢ(t), such as warmup times decay; the empty product is constant.

    >>> from trainer.schedules import Step, Warmup
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

    def factors(self) -> tuple[Schedule, ...]:
        return tuple(factor for schedule in self.schedules for factor in schedule.factors())


def unreached(schedules: Mapping[str, Schedule], total: float) -> list[str]:
    """Return a note for each time of a schedule that lies beyond the end of a run.

    Args:
        schedules: The schedules of a config by their names.
        total: The length of the run in epochs.

    >>> from trainer.schedules import MultiStep, Warmup
    >>> unreached({"warmup": Warmup(epochs=2), "multistep": MultiStep(milestones=(1, 5))}, 3)
    ['schedule.multistep.milestones = 5 is not reached: training ends after 3 epochs']
    """
    notes: list[str] = []
    for name, schedule in schedules.items():
        for key in schedule.times:
            value: float | tuple[float, ...] | None = getattr(schedule, key)
            times = value if isinstance(value, tuple) else () if value is None else (value,)
            if beyond := ", ".join(f"{time:g}" for time in times if time > total):
                text = f"schedule.{name}.{key} = {beyond} is not reached: training ends after {total:g} epochs"
                notes.append(text)
    return notes


def curve(schedule: Callable[[float], float], total: float, points: int = 200) -> tuple[list[float], list[float]]:
    """Return equally spaced times from 0 to ``total`` (both included) and the multipliers there, for plotting.

    >>> curve(lambda t: 1 - t / 2, 2, points=3)
    ([0.0, 1.0, 2.0], [1.0, 0.5, 0.0])
    """
    times = [total * i / (points - 1) for i in range(points)]
    return times, [schedule(t) for t in times]


def multiples(length: float, total: float) -> list[float]:
    """Return the positive multiples of ``length`` up to ``total``.

    >>> multiples(2.0, 6.0)
    [2.0, 4.0, 6.0]
    """
    return [length * i for i in range(1, math.floor(total / length + 1e-9) + 1)]
