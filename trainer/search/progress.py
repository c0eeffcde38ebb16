"""Progress of a search on the terminal: a line per trial in a log, one line that is renewed on a terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence

from trainer.duration import show_seconds
from trainer.history import better_is
from trainer.literal import printable
from trainer.search.distribution import show
from trainer.search.space import Point
from trainer.search.stages import Result, best_first


def expected_gain(scores: Sequence[float]) -> float | None:
    """Return by how much the best of all trials exceeds the expected best of half of them, drawn without replacement.

    About as much is to be gained from doubling the trials. None for fewer than 4.

    >>> round(expected_gain([0.1, 0.2, 0.3, 0.4]), 4)
    0.0667
    """
    n = len(scores)
    if n < 4:
        return None
    k, expected = n // 2, 0.0
    for i, score in enumerate(sorted(scores), start=1):
        if i >= k:  # the probability that the i-th smallest is the largest of k
            expected += score * math.comb(i - 1, k - 1) / math.comb(n, k)
    return max(scores) - expected


def point_text(point: Point) -> str:
    """Return a point as overrides.

    >>> point_text({"optimizer": "adam", "optimizer.adam.lr": 0.01})
    'optimizer=adam optimizer.adam.lr=0.01'
    """
    if not point:
        return "the config as typed"
    return " ".join(f"{k}={f'{v:.4g}' if isinstance(v, float) else show(v)}" for k, v in point.items())


def format_score(score: float, metric: str) -> str:
    """Return a score of the search, higher is better, as the metric it stands for.

    >>> format_score(0.9512, "validation_accuracy"), format_score(-0.25, "validation_loss")
    ('95.12 %', '0.2500')
    >>> format_score(-0.25, "validation_margin")
    '-0.2500'
    """
    return f"{100 * score:.2f} %" if metric.endswith("accuracy") else f"{metric_value(score, metric):.4f}"


def metric_value(score: float, metric: str) -> float:
    """Return the value of a metric from a score of the search, in which a metric to be minimized is negated."""
    return score if better_is(metric) == "max" else -score


def status(
    name: str,
    results: Sequence[Result],
    counts: Mapping[str, int],
    total: int | None,
    metric: str,
    seconds_left: float | None,
) -> str:
    """Return the line that describes the present stage."""
    finished = sum(counts.get(k, 0) for k in ("done", "pruned", "diverged", "failed"))
    parts = [f"{name}: {finished}{f' of {total}' if total else ''} trials"]
    ranked = best_first(results)
    if ranked:
        parts.append(f"best {format_score(ranked[0].score or 0.0, metric)} ({point_text(ranked[0].point)})")
    parts += [f"{counts[k]} {k}" for k in ("running", "pruned", "diverged", "failed") if counts.get(k)]
    gain = expected_gain([r.score for r in ranked if r.score is not None])
    if gain is not None:
        parts.append(f"doubling the trials may gain {format_gain(gain, metric)}")
    if seconds_left is not None:
        parts.append(f"{show_seconds(seconds_left)} left")
    return ", ".join(parts)


def format_gain(gain: float, metric: str) -> str:
    """Return a difference of scores.

    >>> format_gain(0.0123, "validation_accuracy"), format_gain(0.0123, "validation_loss")
    ('1.23 points', '0.0123')
    """
    return f"{100 * gain:.2f} points" if metric.endswith("accuracy") else f"{gain:.4f}"


class Progress:
    """Prints the state of the search. Workers of another process print nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.live, self.width = quiet, sys.stdout.isatty(), 0

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            print(f"{self._cleared()}{printable(text)}", flush=True)

    def show(self, text: str) -> None:
        """Print the state; on a terminal it takes the place of the one before."""
        if self.quiet:
            return
        text = printable(text)
        if not self.live:
            print(text, flush=True)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        print(self._cleared() + text, end="", flush=True)
        self.width = len(text)

    def _cleared(self) -> str:
        """What removes the renewed line."""
        cleared = f"\r{' ' * self.width}\r" if self.width else ""
        self.width = 0
        return cleared
