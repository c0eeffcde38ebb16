"""Warmup: a learning rate that increases at the start of training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from trainer.history import History
from trainer.parameters import PositiveFloat, option
from trainer.schedules.base import Schedule


@option(kw_only=False)
class Warmup(Schedule):
    """Linear warmup, to be multiplied with another schedule: m(t) = start + (1 − start)·min(t/epochs, 1).

    Source: Goyal et al. 2017, arXiv:1706.02677, §2.2.

    >>> [Warmup(epochs=2, start=0.0)(t) for t in (0, 1, 2, 3)]
    [0.0, 0.5, 1.0, 1.0]
    """

    times: ClassVar[tuple[str, ...]] = ("epochs",)
    epochs: Annotated[PositiveFloat, Field(description="length of the warmup in epochs; 5 in the paper")] = 1.0
    start: Annotated[float, Field(ge=0, lt=1, description="initial learning rate as a fraction of the peak")] = 0.01

    def __call__(self, t: float, history: History | None = None) -> float:
        return self.start + (1 - self.start) * min(t / self.epochs, 1.0)
