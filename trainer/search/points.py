"""Points that are planned before a stage begins: scrambled Sobol points, random points, a grid."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np

from trainer.search.space import Point, Space

Planned = Literal["sobol", "random", "grid"]


def points(kind: Planned, space: Space, count: int, seed: int) -> list[Point]:
    """Return ``count`` different points of a space, fewer if it has no more; the same for the same seed.

    Sobol points are Owen-scrambled (Owen 1998): every half, quarter, ... of every range gets its part of them.

    >>> from trainer.search.distribution import Distribution
    >>> from trainer.search.space import Dimension
    >>> space = Space((Dimension("lr", "lr", Distribution("log", 1e-4, 1.0)),))
    >>> [p["lr"] for p in points("grid", space, 3, seed=0)]
    [0.0001, 0.01, 1.0]
    """
    if kind == "grid":
        return different([space.at(unit) for unit in grid(space, count)])[:count]
    size = 2 ** math.ceil(math.log2(max(count, 2)))
    if kind == "sobol":
        from scipy.stats import qmc

        units = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed)).random(size)
    else:
        units = np.random.default_rng(seed).random((size, len(space)))
    return different([space.at(unit) for unit in units.tolist()])[:count]


def grid(space: Space, count: int) -> list[tuple[float, ...]]:
    """Return the nodes of the largest grid with at most ``count`` of them, all choices times equal numbers of levels."""
    choices = [len(d.distribution.choices) for d in space if not d.distribution.numeric]
    numeric = len(space) - len(choices)
    levels = max(1, math.floor((count / math.prod(choices)) ** (1 / numeric) + 1e-9)) if numeric else 1
    axes = []
    for dimension in space:
        if dimension.distribution.numeric:
            axes.append([0.5] if levels == 1 else np.linspace(0, 1, levels).tolist())
        else:
            n = len(dimension.distribution.choices)
            axes.append([(i + 0.5) / n for i in range(n)])
    return list(itertools.product(*axes))


def different(candidates: list[Point]) -> list[Point]:
    """Return the points without repetitions, in their order.

    >>> different([{"a": 1}, {"a": 2}, {"a": 1}])
    [{'a': 1}, {'a': 2}]
    """
    found: dict[str, Point] = {}
    for point in candidates:
        found.setdefault(repr(sorted(point.items())), point)
    return list(found.values())
