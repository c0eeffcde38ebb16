"""The winner: the finalist with the best mean over common seeds, unless it cannot be told from the config as typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainer.analysis.intervals import Interval, interval, pooled_intervals, proportion_half_width
from trainer.search.space import Point
from trainer.search.stages import Result


@dataclass(frozen=True)
class Candidate:
    """A finalist, or the config as typed.

    Attributes:
        search_score: The best value of the metric in the search, which is too good: it was selected for.
        scores: By seed, of the repetitions; higher is better.
        tests: The metric on the test images by seed.
        gain: Paired difference to the config as typed over common seeds, its standard deviation that within the differences of
            all finalists; None of that itself, or without common seeds.
    """

    number: int
    point: Point
    search_score: float | None
    scores: dict[int, float]
    tests: dict[int, float]
    gain: Interval | None = None
    test_gain: Interval | None = None

    @property
    def mean(self) -> Interval | None:
        return interval(list(self.scores.values())) if self.scores else None


@dataclass(frozen=True)
class Choice:
    """The winner among the candidates, and why."""

    winner: Candidate
    candidates: list[Candidate]
    reason: str


def bare(metric: str) -> str:
    """Return a metric without its split.

    >>> bare("validation_accuracy"), bare("averaged_loss")
    ('accuracy', 'loss')
    """
    return metric.removeprefix("validation_").removeprefix("averaged_")


def candidates(
    search: Sequence[Result], repetitions: Sequence[Result], points: Sequence[Point], metric: str
) -> list[Candidate]:
    """Return the config as typed and the finalists, with their scores.

    Args:
        search: Results of the last stage.
        repetitions: Results of the repetitions.
        points: Of the finalists.
        metric: Column of the history.
    """
    found = []
    for number, point in enumerate([{}, *points]):
        mine = [r for r in repetitions if r.entry.candidate == number and r.score is not None and r.state == "done"]
        scores = {r.entry.seed: r.score for r in mine if r.score is not None}
        tests = {r.entry.seed: test[bare(metric)] for r in mine if (test := r.info.get("test"))}
        before = [r.score for r in search if r.point == point and r.score is not None and r.state == "done"]
        found.append(Candidate(number, point, max(before, default=None), scores, tests))
    default, *others = found
    gains = gains_over(default.scores, [other.scores for other in others])
    test_gains = gains_over(default.tests, [other.tests for other in others])
    return [default, *(replace(o, gain=g, test_gain=t) for o, g, t in zip(others, gains, test_gains, strict=True))]


def best_finalist(repetitions: Sequence[Result], points: Sequence[Point], metric: str) -> int | None:
    """Return the number of the finalist with the best mean over the repetitions so far; None without any."""
    _, *others = candidates([], repetitions, points, metric)
    ranked = [c for c in others if c.mean is not None]
    return max(ranked, key=lambda c: (len(c.scores), c.mean.mean if c.mean else 0.0)).number if ranked else None


def gains_over(base: dict[int, float], others: Sequence[dict[int, float]]) -> list[Interval | None]:
    """Return the mean paired differences to ``base`` over common seeds with pooled 95 % intervals; None without common seeds.

    >>> first, second = gains_over({1: 0.5, 2: 0.6}, [{1: 0.7, 2: 0.8, 3: 0.1}, {3: 0.9}])
    >>> round(first.mean, 3), first.n, second
    (0.2, 2, None)
    """
    common = [sorted(base.keys() & other.keys()) for other in others]
    differences = [[other[s] - base[s] for s in seeds] for seeds, other in zip(common, others, strict=True)]
    found = iter(pooled_intervals([values for values in differences if values]))
    return [next(found) if values else None for values in differences]


def choose(found: Sequence[Candidate]) -> Choice:
    """Return the winner. A tie, an interval of the gain that includes 0, goes to the config as typed.

    With a single common seed there is no interval: the better score counts.
    """
    default, *others = found
    repeated = [c for c in others if c.scores]
    if not repeated and not default.scores:
        scored = [c for c in (default, *others[:1]) if c.search_score is not None]  # of equal ones the config as typed
        winner = max(scored, key=lambda c: c.search_score or 0.0, default=default)
        return Choice(
            winner, list(found), "the best expected score of the search, which was not repeated with other seeds"
        )
    if not default.scores and repeated:
        winner = max(repeated, key=lambda c: c.mean.mean if c.mean else 0.0)
        return Choice(winner, list(found), "the best mean; the config as typed did not train to the end")
    comparable = [c for c in repeated if c.gain is not None]
    # With more seeds, the one that was ahead may turn out to depend on luck: then another one that is better wins.
    better = [c for c in comparable if c.gain and c.gain.low > 0]
    ranked = better or comparable
    best = max(ranked, key=lambda c: (c.gain.n, c.gain.mean) if c.gain else (0, 0.0), default=default)
    if best.gain is not None and best.gain.n == 1 and best.gain.mean > 0:
        return Choice(best, list(found), "the best score with one other seed, which cannot tell it from chance")
    if best is default or best.gain is None or best.gain.low <= 0:
        return Choice(
            default, list(found), "no finalist is better than the config as typed beyond the spread over seeds"
        )
    seeds = f"{best.gain.n} common seeds"
    return Choice(best, list(found), f"the best mean, better than the config as typed over {seeds}")


def noise(score: float, images: int) -> float:
    """Return half the width of the interval of an accuracy that is counted on this many images."""
    return proportion_half_width(min(max(score, 0.0), 1.0), images)
