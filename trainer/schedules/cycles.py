"""Schedules that rise and fall, once or periodically."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.errors import check
from trainer.history import History
from trainer.parameters import PositiveFloat, option
from trainer.schedules.base import Floor, Schedule, Timed, multiples


@option(kw_only=False)
class CLR(Schedule):
    """Cyclical learning rates: a triangular wave between ``floor`` and 1 (Smith 2015, arXiv:1506.01186).

    m(t) = floor + (1 − floor)·a(t)·max(0, 1 − |t/step_size − 2·c + 1|), where c = ⌊1 + t/(2·step_size)⌋ counts the cycles
    from 1, and the amplitude a(t) is 1 (policy ``triangular``), 2^(1−c) (``triangular2``) or gamma^t (``exp_range``, t in
    epochs). The momentum is not changed. The paper lets training end at the end of a cycle.

    >>> [CLR(step_size=2, floor=0.25)(t) for t in (0, 1, 2, 3, 4)]
    [0.25, 0.625, 1.0, 0.625, 0.25]
    >>> [CLR(step_size=2, floor=0.0, policy="triangular2")(t) for t in (2, 6)]
    [1.0, 0.5]
    >>> [CLR(step_size=2, floor=0.0, policy="exp_range", gamma=0.5)(t) for t in (2, 6)]
    [0.25, 0.015625]
    """

    times: ClassVar[tuple[str, ...]] = ("step_size",)
    step_size: Annotated[
        PositiveFloat,
        Field(
            description="length of half a cycle in epochs; 2 to 8 in the paper, where training ends at the end of a cycle"
        ),
    ] = 2.5
    floor: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="minimum learning rate as a fraction of the peak; auto (schedule.clr only) = by an LR range test",
        ),
    ] = 1 / 6  # 0.001 to 0.006 in the paper
    policy: Annotated[
        Literal["triangular", "triangular2", "exp_range"],
        Field(description="amplitude of a cycle: 1 (triangular), 2^(1 - cycle) (triangular2) or gamma^t (exp_range)"),
    ] = "triangular"
    gamma: Annotated[float, Field(gt=0, le=1, description="factor of the amplitude per epoch, for exp_range")] = 1.0

    def __call__(self, t: float, history: History | None = None) -> float:
        cycle = math.floor(1 + t / (2 * self.step_size) + 1e-9)
        height = max(0.0, 1 - abs(t / self.step_size - 2 * cycle + 1))
        amplitude = {"triangular": 1.0, "triangular2": 2.0 ** (1 - cycle), "exp_range": self.gamma**t}[self.policy]
        return self.floor + (1 - self.floor) * amplitude * height

    def cycle_ends(self, total: float) -> list[float]:
        return multiples(2 * self.step_size, total)


@option(kw_only=False)
class WarmRestarts(Schedule):
    """Cosine annealing with warm restarts, SGDR (Loshchilov & Hutter 2016, arXiv:1608.03983).

    m(t) = floor + (1 − floor)·(1 + cos(π·s/Tᵢ))/2, where s is the time since the last restart. The first cycle lasts
    T₁ = cycle epochs, and Tᵢ₊₁ = cycle_mult·Tᵢ.

    >>> [WarmRestarts(cycle=4)(t) for t in (0, 2, 4)]
    [1.0, 0.5, 1.0]
    >>> WarmRestarts(cycle=1, cycle_mult=2).cycle_ends(8)
    [1.0, 3.0, 7.0]
    """

    times: ClassVar[tuple[str, ...]] = ("cycle",)
    cycle: Annotated[PositiveFloat, Field(description="length of the first cycle in epochs")] = 5.0
    cycle_mult: Annotated[
        float,
        Field(ge=1, description="ratio of the length of each cycle to that of the previous one; 1 and 2 in the paper"),
    ] = 1.0
    floor: Floor = 0.0

    def __call__(self, t: float, history: History | None = None) -> float:
        start, length = self._cycle_at(t)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min((t - start) / length, 1.0))) / 2

    def _cycle_at(self, t: float) -> tuple[float, float]:
        """Return the start and the length of the cycle that contains ``t``."""
        t += 1e-9  # a restart coincides with a step, whose time may have been rounded down
        if self.cycle_mult == 1:
            index = math.floor(t / self.cycle)
            return index * self.cycle, self.cycle
        start, length = 0.0, self.cycle  # a loop, since the closed form cancels numerically if cycle_mult is close to 1
        while start + length <= t:
            start, length = start + length, length * self.cycle_mult
        return start, length

    def cycle_ends(self, total: float) -> list[float]:
        ends, length = [self.cycle], self.cycle
        while ends[-1] <= total + 1e-9:
            length *= self.cycle_mult
            ends.append(ends[-1] + length)
        return ends[:-1]


@option(kw_only=False)
class OneCycle(Timed):
    """One rise and one long fall, with the momentum inversely (Smith & Topin 2017, arXiv:1708.07120; as in fastai).

    The multiplier rises from 1/div to 1 during the first rise·total epochs, then falls to 1/final_div, both along half a cosine.
    The momentum (Adam's beta1) falls from momentum_high to momentum_low and rises back to momentum_high at the same times.

    >>> schedule = OneCycle(total=10, rise=0.5, div=25)
    >>> [round(schedule(t), 4) for t in (0, 5)], [round(schedule.momentum_at(t), 3) for t in (0, 5, 10)]
    ([0.04, 1.0], [0.95, 0.85, 0.95])
    """

    rise: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the length during which the learning rate rises")
    ] = 0.25
    div: Annotated[float, Field(ge=1, description="ratio of the peak to the initial learning rate")] = 25.0
    final_div: Annotated[float, Field(ge=1, description="ratio of the peak to the final learning rate")] = 1e5
    momentum_low: Annotated[
        float, Field(ge=0, lt=1, description="momentum (beta1) at the peak learning rate; at most momentum_high")
    ] = 0.85
    momentum_high: Annotated[float, Field(ge=0, lt=1, description="momentum (beta1) at the start and at the end")] = (
        0.95
    )
    moves_momentum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self, momentum_low=(self.momentum_low <= self.momentum_high, "must be at most momentum_high"))

    def __call__(self, t: float, history: History | None = None) -> float:
        return self._interpolate(t, 1 / self.div, 1.0, 1 / self.final_div)

    def momentum_at(self, t: float) -> float | None:
        return self._interpolate(t, self.momentum_high, self.momentum_low, self.momentum_high)

    def _interpolate(self, t: float, first: float, middle: float, last: float) -> float:
        """Return the value at ``t`` of half a cosine from ``first`` to ``middle``, and another one from there to ``last``."""
        progress = self.progress(t)
        rising = progress < self.rise
        start, end = (first, middle) if rising else (middle, last)
        part = progress / self.rise if rising else (progress - self.rise) / (1 - self.rise)
        return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
