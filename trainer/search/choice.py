"""The winner: the finalist with the best mean over common seeds, unless it cannot be told from the config as typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.analysis.intervals import Interval, interval, proportion_half_width
from trainer.search.space import Point
from trainer.search.stages import Result


@dataclass(frozen=True)
class Candidate:
    """A finalist, or the config as typed.

    Attributes:
        search_score: The best value of the metric in the search, which is too good: it was selected for.
        scores: By seed, of the repetitions; higher is better.
        tests: The metric on the test images by seed.
        gain: Paired difference to the config as typed over common seeds; None of that itself, or without common seeds.
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
        gain = test_gain = None
        if number and found:
            gain, test_gain = paired(found[0].scores, scores), paired(found[0].tests, tests)
        found.append(Candidate(number, point, max(before, default=None), scores, tests, gain, test_gain))
    return found


def paired(base: dict[int, float], other: dict[int, float]) -> Interval | None:
    """Return the mean difference over common seeds with its t-based 95 % confidence interval; None without common seeds.

    >>> result = paired({1: 0.5, 2: 0.6}, {1: 0.7, 2: 0.8, 3: 0.1})
    >>> round(result.mean, 3), result.n
    (0.2, 2)
    """
    common = sorted(base.keys() & other.keys())
    return interval([other[seed] - base[seed] for seed in common]) if common else None


def choose(found: Sequence[Candidate]) -> Choice:
    """Return the winner. A tie, an interval of the gain that includes 0, goes to the config as typed.

    With a single common seed there is no interval: the better score counts.
    """
    default, *others = found
    repeated = [c for c in others if c.scores]
    if not repeated and not default.scores:
        ranked = sorted((c for c in found if c.search_score is not None), key=lambda c: -(c.search_score or 0.0))
        winner = ranked[0] if ranked else default
        return Choice(winner, list(found), "the best score of the search, which was not repeated with other seeds")
    if not default.scores and repeated:
        winner = max(repeated, key=lambda c: c.mean.mean if c.mean else 0.0)
        return Choice(winner, list(found), "the best mean; the config as typed did not train to the end")
    comparable = [c for c in repeated if c.gain is not None]
    best = max(comparable, key=lambda c: c.gain.mean if c.gain else 0.0, default=default)
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
