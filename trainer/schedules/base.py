"""What all schedules have in common, and several at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainer.errors import check
from trainer.history import History


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
class Product(Schedule):
    """Several schedules at once: m(t) = Π mᵢ(t); none at all is constant. Warm-up, cycles and decay are such a product.

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


def curve(schedule: Callable[[float], float], total: float, points: int = 200) -> tuple[list[float], list[float]]:
    """Times and multipliers for a drawing, both ends included.

    >>> curve(lambda t: 1 - t / 2, 2, points=3)
    ([0.0, 1.0, 2.0], [1.0, 0.5, 0.0])
    """
    times = [total * i / (points - 1) for i in range(points)]
    return times, [schedule(t) for t in times]


def multiples(length: float, total: float) -> list[float]:
    """The multiples of ``length`` from the first to ``total``.

    >>> multiples(2.0, 6.0)
    [2.0, 4.0, 6.0]
    """
    return [length * i for i in range(1, math.floor(total / length + 1e-9) + 1)]


def factor_rule(value: float) -> tuple[bool, str]:
    """Whether a factor is one, with the words for one that is not, as ``check`` takes them."""
    return 0 < value <= 1, "must be in (0, 1]"


def floor_rule(value: float) -> tuple[bool, str]:
    """Whether a floor is one, with the words for one that is not, as ``check`` takes them."""
    return 0 <= value < 1, "must be in [0, 1), a share of the peak rate"
