"""A function of the user as a schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainer.errors import ConfigError, Problem
from trainer.history import History
from trainer.plain import Plain
from trainer.schedules.base import Schedule


@dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """The multiplier ``function(t)`` at time t, in epochs.

    Attributes:
        function: The function; one with a parameter ``total`` also gets the length of the phase in epochs.
        name: What to call it.
        total: The length of the phase, once it is known.
    """

    function: Callable[..., float]
    name: str = "function"
    total: float | None = None

    def __call__(self, t: float, history: History | None = None) -> float:
        return float(self.function(t) if self.total is None else self.function(t, total=self.total))

    def over(self, total: float) -> Schedule:
        takes_total = "total" in inspect.signature(self.function).parameters
        return replace(self, total=total) if takes_total and self.total is None else self


def adapted(plain: Plain) -> Schedule:
    """Return a schedule that calls what the config describes with the time; ConfigError unless it returns a multiplier."""
    schedule = FunctionSchedule(plain.object(), plain.name).over(1.0)
    try:
        value = schedule(0.0)
    except Exception as error:
        text = f"{plain.name} must be a function of the time in epochs that returns a multiplier of the learning rate: {error}"
        raise ConfigError(Problem("", None, text, "see docs/own_components.md")) from error
    if not 0 <= value < float("inf"):
        text = f"{plain.name} returned {value} at time 0; the multiplier of the learning rate is a number >= 0"
        raise ConfigError(Problem("", None, text, "see docs/own_components.md"))
    return FunctionSchedule(plain.object(), plain.name)
