"""What a stage consists of: its trials, the border rule, the narrowing of the space. Pure functions of earlier results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from trainer.search.points import different, points
from trainer.search.records import Details, EntryRecord, Origin, PlanRecord
from trainer.search.space import Point, Space, space_from_records

FEW = 4  # trials that ran to their end
EDGE = 0.1  # fraction of a range that counts as its border
WAVES = 2  # extensions of a stage at most
GLOBAL = 0.1  # fraction of a narrowed stage's new points that still come from the space of before
START = 8  # points that an adaptive sampler learns from
ENOUGH = 256  # points drawn to see how many a space has


@dataclass(frozen=True)
class Entry:
    """A trial to be run.

    Attributes:
        index: Its place in the stage.
        point: Its values; None if a sampler chooses them once the trial begins.
        seed: Added to the seed of the search.
        candidate: Of the finalists, which one; 0 is the config as typed.
    """

    index: int
    origin: Origin
    point: Point | None
    seed: int = 0
    candidate: int = 0


@dataclass(frozen=True)
class Plan:
    """The trials of a stage, or of an extension of it, and their space."""

    space: Space
    entries: tuple[Entry, ...]
    extended: tuple[str, ...] = ()  # in words

    def record(self) -> PlanRecord:
        """Return the plan as JSON values."""
        entries = [EntryRecord(**asdict(entry)) for entry in self.entries]
        return {"space": self.space.records(), "entries": entries, "extended": list(self.extended)}

    @staticmethod
    def from_record(record: PlanRecord) -> Plan:
        """Return the plan of ``record``."""
        entries = tuple(Entry(**entry) for entry in record["entries"])
        return Plan(space_from_records(record["space"]), entries, tuple(record["extended"]))


@dataclass(frozen=True)
class Result:
    """A finished trial.

    Attributes:
        score: The best value of the metric, higher is better (a loss is negated); None if it failed.
        state: ``done``, ``pruned``, ``diverged`` or ``failed``.
        curve: The metric after each epoch, as it is.
    """

    entry: Entry
    point: Point
    score: float | None
    state: str
    curve: tuple[float, ...] = ()
    epochs: tuple[float, ...] = ()
    seconds: float = 0.0
    info: Details = field(default_factory=lambda: Details())


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    epochs: float
    plans: list[Plan]
    results: list[Result]


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return the results that ran to their end, the best first; of equal ones that with the lower loss, then the earlier."""
    done = [r for r in results if r.state == "done" and r.score is not None]
    return sorted(done, key=lambda r: (-(r.score or 0.0), r.info.get("loss", 0.0), r.entry.index))


def automatic_trials(dimensions: int, stages: int) -> tuple[int, ...]:
    """Return how many trials each stage has, the config as typed not counted.

    >>> automatic_trials(2, 3), automatic_trials(4, 2)
    ((16, 8, 6), (32, 16))
    """
    first = 8 if dimensions <= 1 else 16 if dimensions == 2 else 32 if dimensions <= 4 else 64
    return tuple(max(first // 2**stage, 6) for stage in range(stages))


def first_plan(space: Space, count: int, sampler: str, seed: int) -> Plan:
    """Return the plan of the first stage: the config as typed, then points of the whole space."""
    return Plan(space, _entries([], _new(space, count, sampler, seed)))


def next_plan(
    space: Space, results: Sequence[Result], count: int, keep: float, sampler: str, seed: int, again: bool = True
) -> Plan:
    """Return the plan of a later stage: the config as typed, the best of the stage before, points of a narrower space.

    The space is that around the best ``keep`` of the results, as many of which as there are trials are run ``again``. If the
    trials are no longer than those of the stage before, none is, and all are new.
    """
    ranked = [r for r in best_first(results) if r.entry.origin != "default"]
    best = different([r.point for r in ranked[: max(1, math.ceil(keep * len(results)))]])
    kept = best[: max(1, count - 1)] if again else []
    narrower = space.narrowed(best, longer=again) if best else space
    number = max(0, count - len(kept))
    wide = 0 if sampler == "gp" else round(GLOBAL * number)  # some of its candidates always are
    tried = [] if again else [r.point for r in results]
    new = _new(narrower, number - wide, sampler, seed, tried) + _new(space, wide, "sobol", seed + 1)
    return Plan(narrower, _entries(kept, new, default=again))


def _new(space: Space, count: int, sampler: str, seed: int, known: Sequence[Point] = ()) -> list[Point | None]:
    """Points of a planned sampler; of an adaptive one, those it learns from, then as many as it chooses later.

    Args:
        space: Its points that are not known limit the number.
        count: How many.
        sampler: ``job.sampler``.
        seed: Seed of planned points.
        known: Points with results that an adaptive sampler learns from.
    """
    if sampler in ("sobol", "random", "grid"):
        return list(points(sampler, space, count, seed)) if count else []  # pyright: ignore[reportArgumentType]
    others = [point for point in points("sobol", space, max(count, ENOUGH), seed) if point not in known]
    first = max(0, min(count, START - len(known)))
    return [*others[:first], *[None] * (min(count, len(others)) - first)]


def _entries(kept: Sequence[Point], new: Sequence[Point | None], default: bool = True) -> tuple[Entry, ...]:
    """The config as typed unless it has been run, the points kept, the new ones."""
    first = [Entry(0, "default", {})] if default else []
    entries = [*first, *(Entry(0, "kept", point) for point in kept), *(Entry(0, "planned", point) for point in new)]
    return tuple(replace(entry, index=i) for i, entry in enumerate(entries))


def borders(space: Space, results: Sequence[Result]) -> list[tuple[str, Literal["low", "high"]]]:
    """Return the sides of the space beyond which better values may lie.

    The best trial, or the middle one of the best three, lies within a tenth of the range of that side, or no trial, one
    that diverged included, lies between the best one and that side. Few trials say nothing about borders, nor do few of an
    option about those of its parameters.
    """
    inside = [r for r in best_first(results) if space.contains(r.point)]
    if len(inside) < FEW:
        return []
    sides: list[tuple[str, Literal["low", "high"]]] = []
    for dimension in space:
        name, unit = dimension.name, dimension.distribution.unit
        places = [unit(r.point[name]) for r in inside if name in r.point] if dimension.distribution.numeric else []
        if len(places) < FEW:  # few have the option that the key belongs to
            continue
        tried = [unit(r.point[name]) for r in results if name in r.point and r.point[name] != inside[0].point.get(name)]
        middle = sorted(places[:3])[len(places[:3]) // 2]
        if min(places[0], middle) <= EDGE + 1e-9 or not any(u < places[0] for u in tried):
            sides.append((name, "low"))
        if max(places[0], middle) >= 1 - EDGE - 1e-9 or not any(u > places[0] for u in tried):
            sides.append((name, "high"))
    return sides


def extension(space: Space, results: Sequence[Result], total: int, count: int, seed: int) -> Plan | None:
    """Return the plan that extends the space beyond the borders at which the best trials lie; None if there are none.

    Its points lie in the added parts; their other values are near those of the best trials.

    Args:
        space: The present space.
        results: Results of the stage so far.
        total: Number of trials that the stage has so far.
        count: Number of points to add.
        seed: Seed of the sampler that draws them.
    """
    added: list[tuple[str, Space]] = []
    wider, words = space, []
    near = space.narrowed([r.point for r in best_first(results)[:3]])
    for name, side in borders(space, results):
        old = space[name].distribution
        new = old.extended(side)
        if new is None:
            continue
        low, high = new.bounds
        slab = new.with_bounds(low, old.bounds[0]) if side == "low" else new.with_bounds(old.bounds[1], high)
        added.append((name, near.with_distribution(name, slab)))
        both = wider[name].distribution
        wider = wider.with_distribution(name, new.with_bounds(min(low, both.bounds[0]), max(high, both.bounds[1])))
        words.append(f"{name} from {old} to {wider[name].distribution}")
    if not added:
        return None
    drawn = [points("sobol", slab, -(-count // len(added)), seed + i) for i, (_, slab) in enumerate(added)]
    new_points = [point for group in zip(*drawn, strict=False) for point in group]
    entries = tuple(Entry(total + i, "extension", point) for i, point in enumerate(different(new_points)))
    return Plan(wider, entries, tuple(words))


def more(space: Space, results: Sequence[Result], total: int, count: int, sampler: str, seed: int) -> Plan | None:
    """Return a plan of further points of a stage that a budget limits; None if the space has no others."""
    tried = [r.point for r in results]
    new = [point for point in _new(space, count, sampler, seed, tried) if point is None or point not in tried]
    entries = tuple(Entry(total + i, "planned", point) for i, point in enumerate(new))
    return Plan(space, entries) if entries else None


def final_plan(space: Space, candidates: dict[int, Point], seeds: range, first: int = 0) -> Plan:
    """Return the plan of repetitions: for each seed every candidate, by its number; 0 is the config as typed.

    Whenever the search ends, each candidate thus has been trained with the same seeds, up to one.

    Args:
        space: The space of the last stage.
        candidates: Points by number.
        seeds: Added to the seed of the search.
        first: Index of the first entry.
    """
    entries = []
    for seed in seeds:
        for candidate, point in candidates.items():
            origin: Origin = "finalist" if candidate else "default"
            entries.append(Entry(first + len(entries), origin, dict(point), seed, candidate))
    return Plan(space, tuple(entries))
