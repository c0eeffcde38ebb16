"""Schedules that rise and fall: once, or again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.errors import check
from trainer.history import History
from trainer.schedules.base import Schedule, Timed, floor_rule, multiples


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
            floor=floor_rule(self.floor),
            policy=(self.policy in known, f"must be one of {', '.join(known)}"),
            gamma=(0 < self.gamma <= 1, "must be in (0, 1]"),
        )

    def __call__(self, t: float, history: History | None = None) -> float:
        cycle = math.floor(1 + t / (2 * self.step_size) + 1e-9)
        height = max(0.0, 1 - abs(t / self.step_size - 2 * cycle + 1))
        amplitude = {"triangular": 1.0, "triangular2": 2.0 ** (1 - cycle), "exp_range": self.gamma**t}[self.policy]
        return self.floor + (1 - self.floor) * amplitude * height

    def cycle_ends(self, total: float) -> list[float]:
        return multiples(2 * self.step_size, total)


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
            floor=floor_rule(self.floor),
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
        geometric = share < self.rise
        begin, end = (first, middle) if geometric else (middle, last)
        along = share / self.rise if geometric else (share - self.rise) / (1 - self.rise)
        return end + (begin - end) * (1 + math.cos(math.pi * along)) / 2

    def __call__(self, t: float, history: History | None = None) -> float:
        return self._between(t, 1 / self.div, 1.0, 1 / self.final_div)

    def momentum_at(self, t: float) -> float | None:
        return self._between(t, self.momentum_high, self.momentum_low, self.momentum_high)
