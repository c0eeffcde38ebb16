"""The time that each part of a search may take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from trainer.search.stages import Result

FINAL = 0.35  # of the budget, for the repetitions of the finalists
REPORT = 4.0  # seconds at the end for the report


def fractions(stages: int, repeated: bool) -> list[float]:
    """Return at which fraction of the budget each stage ends; the first one, which covers the whole space, gets more.

    >>> fractions(2, repeated=False)
    [0.6, 1.0]
    """
    weights = [1.5, *[1.0] * (stages - 1)]
    share = 1 - FINAL if repeated else 1.0
    return [share * sum(weights[: i + 1]) / sum(weights) for i in range(stages)]


class Clock:
    """The wall-clock time of a search, that of earlier sessions included.

    Attributes:
        limit: The budget in seconds; None for no limit.
    """

    def __init__(self, limit: float | None, ends: Sequence[float], before: float, started: float) -> None:
        self.limit = None if limit is None else max(limit - REPORT, 0.9 * limit)
        self.ends, self.before, self.started = list(ends), before, started

    @property
    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds until the budget is used up; None without one."""
        return None if self.limit is None else max(0.0, self.limit - self.elapsed)

    @property
    def kept(self) -> float:
        """Seconds that are kept for the repetitions; 0 without a budget."""
        return 0.0 if self.limit is None else (1 - self.ends[-1]) * self.limit

    def over(self, stage: int) -> bool:
        """Whether the time of a stage is over; the repetitions are the last stage."""
        if self.limit is None:
            return False
        end = self.ends[stage] if stage < len(self.ends) else 1.0
        return self.elapsed >= end * self.limit


def affordable(trials: float, finalists: int, seeds: int, most: int) -> tuple[int, int]:
    """Return how many finalists, and with how many seeds, can be repeated in so many trials; at least 1 with 2 seeds.

    Finalists are given up before seeds: below three seeds hardly any difference is significant. Where there is more time, there
    are up to ``most`` seeds.

    >>> affordable(24, finalists=3, seeds=5, most=20), affordable(10, finalists=3, seeds=5, most=20)
    ((3, 6), (1, 5))
    """
    while finalists > 1 and (finalists + 1) * seeds > trials:
        finalists -= 1
    return finalists, min(most, max(2, int(trials // (finalists + 1))))


def seconds_per_epoch(results: Sequence[Result]) -> float | None:
    """Return the median time of an epoch of the trials that ran to their end; None without any."""
    done = [r for r in results if r.state == "done" and r.epochs]
    return statistics.median(r.seconds / max(r.epochs[-1], 1e-9) for r in done) if done else None
