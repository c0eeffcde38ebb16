"""The time that the training of a run may take: ``engine.budget``."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class TimeBudget:
    """The wall-clock time of a run from its first step on, evaluations and observers included, over all sessions.

    Attributes:
        limit: Seconds.
        before: Seconds of earlier sessions, as far as a checkpoint knows them.
        over: Whether the time is used up. It changes where all ranks agree on it, not by itself.
    """

    limit: float
    before: float = 0.0
    over: bool = False
    started: float | None = None
    projected: bool = False  # whether it has been compared with the length of the run

    def start(self) -> None:
        """Begin to count, if it has not begun."""
        if self.started is None:
            self.started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.before + (0.0 if self.started is None else time.monotonic() - self.started)

    @property
    def exceeded(self) -> bool:
        """Whether this process has used up the time."""
        return self.spent >= self.limit

    def resume(self, spent: float) -> None:
        """Continue from the time of a checkpoint; a run that returns to the beginning of an epoch has spent more."""
        if self.started is None:
            self.before, self.over = spent, spent >= self.limit

    def projection(self, step: int, steps_before: int) -> float:
        """Return the step at which the time will be over, by the mean speed since ``steps_before``, where it was started.

        >>> budget = TimeBudget(60.0, started=time.monotonic() - 20.0)
        >>> round(budget.projection(10, 0))
        30
        """
        seconds = max(self.spent - self.before, 1e-9) / max(step - steps_before, 1)
        return step + max(0.0, self.limit - self.spent) / seconds
