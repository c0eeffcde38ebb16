"""The time that each part of a search may take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.search.stages import Result

FINAL = 0.35  # of the budget, for the repetitions of the finalists
FINAL_AS_LONG = 0.2  # where trials of two stages, which are as long as the repetitions, have told of the finalists
REPORT = 4.0  # seconds at the end for the report
FEWEST, WANTED, MOST = 3, 5, 40  # seeds: the t-interval of a difference over 2 is 12.7 times its standard error


def fractions(lengths: Sequence[float], repeated: bool) -> list[float]:
    """Return at which fraction of the budget each stage ends; the first one, which covers the whole space, gets more.

    The second of two equal lengths, the points of which are chosen by all trials so far, gets more than the first.

    >>> fractions([5.0, 20.0], repeated=False), fractions([20.0, 20.0], repeated=False)
    ([0.6, 1.0], [0.4, 1.0])
    """
    as_long = len(set(lengths)) < len(lengths)
    weights = [1.0, 1.5] if as_long else [1.5, *[1.0] * (len(lengths) - 1)]
    share = 1 - (FINAL_AS_LONG if as_long else FINAL) if repeated else 1.0
    return [share * sum(weights[: i + 1]) / sum(weights) for i in range(len(lengths))]


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


@dataclass(frozen=True)
class Repetitions:
    """How often which configs are trained again with fresh seeds.

    Attributes:
        finalists: How many take part, besides the config as typed.
        first: Seeds with which all of them are trained.
        seeds: Seeds in all of the best of them and the config as typed.
    """

    finalists: int
    first: int
    seeds: int

    @property
    def trials(self) -> int:
        return (self.finalists + 1) * self.first + 2 * (self.seeds - self.first)


def repetitions(trials: float, finalists: int, seeds: int | None) -> Repetitions:
    """Return the repetitions that so many trials allow.

    With a given number of seeds, finalists are given up before seeds. Else all finalists get at least 3 seeds and up to half of
    the trials, and the best of them the rest, at most 40 seeds; a finalist is given up, not the second, if the best would
    get fewer than 5. Where two finalists cannot get 3, each that fits gets one, which shows a config that depends on luck.

    >>> repetitions(40, finalists=3, seeds=None), repetitions(4, finalists=3, seeds=None)
    (Repetitions(finalists=3, first=5, seeds=15), Repetitions(finalists=3, first=1, seeds=1))
    >>> repetitions(14, finalists=3, seeds=None)
    Repetitions(finalists=2, first=3, seeds=5)
    >>> repetitions(10, finalists=3, seeds=5), repetitions(1, finalists=3, seeds=None)
    (Repetitions(finalists=1, first=5, seeds=5), Repetitions(finalists=0, first=0, seeds=0))
    """
    if seeds is not None:
        fitting = max(1, min(finalists, int(trials // seeds) - 1))
        seeds = min(seeds, max(2, int(trials // (fitting + 1))))
        return Repetitions(fitting, seeds, seeds)
    possible = [_rounds(trials, fitting) for fitting in range(finalists, min(2, finalists) - 1, -1)]
    possible = [found for found in possible if found.trials <= trials]
    if possible:
        return next((found for found in possible if found.seeds >= WANTED), possible[-1])
    fitting = min(finalists, int(trials) - 1)
    return Repetitions(fitting, 1, 1) if fitting > 0 else Repetitions(0, 0, 0)


def _rounds(trials: float, finalists: int) -> Repetitions:
    """Half of the trials for all finalists, at least 3 seeds each, the others for the best of them."""
    first = min(MOST, max(FEWEST, int(trials / 2 // (finalists + 1))))
    left = max(0, trials - first * (finalists + 1))
    return Repetitions(finalists, first, min(MOST, first + int(left // 2)))


def seconds_per_epoch(results: Sequence[Result]) -> float | None:
    """Return the median time of an epoch of the trials that ran to their end; None without any."""
    done = [r for r in results if r.state == "done" and r.epochs]
    return statistics.median(r.seconds / max(r.epochs[-1], 1e-9) for r in done) if done else None
