"""The search space: one dimension per searched key, some of which exist only with a certain option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias

from trainer.config.options import names
from trainer.formats import Json, JsonObject
from trainer.search.distribution import Distribution, Limits
from trainer.search.records import DimensionRecord

Point: TypeAlias = JsonObject  # the value of each dimension that exists, by name
# Groups whose options pay off late: a few epochs say that augmentation hurts and that the learning rate need not decay.
LATE = ("schedule", "regularizer", "augmentation", "averaging")


@dataclass(frozen=True)
class Dimension:
    """One searched key.

    Attributes:
        name: Its key, with the option behind the group where several options are searched: ``optimizer.sgd.lr``.
        key: The key of the config, or a group.
        group: The group with whose option it exists; empty where it always exists.
        option: That option.
    """

    name: str
    key: str
    distribution: Distribution
    group: str = ""
    option: str = ""

    @property
    def chooses_option(self) -> bool:
        """Whether its values are the options of a group."""
        return "." not in self.key and not self.distribution.numeric


@dataclass(frozen=True)
class Space:
    """All dimensions. Groups come before the keys of their options."""

    dimensions: tuple[Dimension, ...] = ()

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def __getitem__(self, name: str) -> Dimension:
        return next(d for d in self.dimensions if d.name == name)

    def exists(self, dimension: Dimension, point: Mapping[str, Json]) -> bool:
        """Whether a dimension exists at a point, given the options that the point chooses."""
        if not dimension.group or all(d.name != dimension.group for d in self.dimensions):
            return True
        return dimension.option in names(point.get(dimension.group))

    def at(self, unit: Sequence[float]) -> Point:
        """Return the point at a place of the unit cube, a coordinate per dimension.

        >>> space = Space((Dimension("lr", "lr", Distribution("log", 1e-4, 1.0)),))
        >>> space.at([0.5])
        {'lr': 0.01}
        """
        point: Point = {}
        for dimension, u in zip(self.dimensions, unit, strict=True):
            if self.exists(dimension, point):
                point[dimension.name] = dimension.distribution.at(u)
        return point

    def contains(self, point: Point) -> bool:
        """Whether a point has a value within the bounds in every dimension that exists."""
        return all(
            d.name in point and d.distribution.contains(point[d.name]) for d in self if self.exists(d, point)
        ) and set(point) <= {d.name for d in self if self.exists(d, point)}

    def settings(self, point: Point) -> JsonObject:
        """Return a point by config key: groups first, so that keys can be set in the options chosen."""
        return {d.key: point[d.name] for d in self if d.name in point}

    def with_distribution(self, name: str, distribution: Distribution) -> Space:
        """Return the space with another distribution of one dimension."""
        return Space(tuple(replace(d, distribution=distribution) if d.name == name else d for d in self))

    def narrowed(self, points: Sequence[Point], longer: bool = False) -> Space:
        """Return the space around good points, see ``Distribution.narrowed``; without the options that none of them has.

        Args:
            points: Of the good trials.
            longer: Whether the space is for longer trials, for which the options of the groups ``LATE`` are all kept.
        """
        space = Space(
            tuple(
                d
                if longer and d.key in LATE
                else replace(d, distribution=d.distribution.narrowed([p[d.name] for p in points if d.name in p]))
                for d in self
            )
        )
        groups = {d.name: d.distribution.choices for d in space if d.chooses_option}
        offered = {group: {name for choice in choices for name in names(choice)} for group, choices in groups.items()}
        return Space(tuple(d for d in space if d.group not in offered or d.option in offered[d.group]))

    def describe(self) -> dict[str, str]:
        """Return the distribution of each dimension in words."""
        return {d.name: str(d.distribution) for d in self}

    def records(self) -> list[DimensionRecord]:
        """Return the space as JSON values."""
        return [DimensionRecord(**asdict(d)) for d in self]


def space_from_records(records: Sequence[DimensionRecord]) -> Space:
    """Return the space of ``Space.records``."""
    dimensions: list[Dimension] = []
    for record in records:
        own = record["distribution"]
        distribution = Distribution(
            own["kind"], own["low"], own["high"], tuple(own["choices"]), Limits(**own["limits"])
        )
        dimensions.append(Dimension(record["name"], record["key"], distribution, record["group"], record["option"]))
    return Space(tuple(dimensions))
