"""Points that depend on the results so far: a Gaussian process, TPE of Optuna, CMA-ES of cmaes.

Each is a function of (space, results, seed), so that a search that was interrupted tries the same points as one that
was not. What another worker is trying at the moment counts as a bad result for TPE and CMA-ES (constant liar), and with its
expected score for the Gaussian process.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.formats import Json
from trainer.search.distribution import Distribution, number, show
from trainer.search.expected import FEW, improvements, known
from trainer.search.points import points
from trainer.search.space import Dimension, Point, Space
from trainer.search.stages import START, Result

if TYPE_CHECKING:
    from types import ModuleType

    import optuna
    from optuna.distributions import BaseDistribution

NARROW, WIDE = 192, 64  # candidates of which the Gaussian process chooses one


def sample(
    sampler: str, space: Space, whole: Space, results: Sequence[Result], running: Sequence[Point], seed: int
) -> Point:
    """Return the next point of an adaptive sampler.

    Args:
        sampler: ``gp``, ``tpe`` or ``cmaes``.
        space: Of the stage.
        whole: The space of the first stage with trials of the same length.
        results: Of trials of the same length, in their order.
        running: Points of trials that are not over.
        seed: Of what is drawn.
    """
    if sampler == "gp":
        return gp(space, whole, results, running, seed)
    return (tpe if sampler == "tpe" else cmaes)(space, results, running, seed)


def gp(space: Space, whole: Space, results: Sequence[Result], running: Sequence[Point], seed: int) -> Point:
    """Return the point with the highest expected improvement among quasi-random ones (Snoek et al. 2012, arXiv:1206.2944).

    A quarter of these come from the whole space: the best part of another stage's trials may have left out a good region.
    """
    tried = [r for r in results if r.entry.origin != "default"]
    candidates = [*points("sobol", space, NARROW, seed), *points("sobol", whole, WIDE, seed + 1)]
    there = [*running, *(r.point for r in tried)]
    new = [point for point in candidates if point not in there] or candidates
    if len(known(tried)) < FEW:
        return new[0]
    return new[int(np.argmax(improvements(whole, tried, running, new)))]


def optuna_distribution(distribution: Distribution) -> BaseDistribution:
    """Return Optuna's distribution of the place on the scale, or of the choices as text."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not distribution.numeric:
        return CategoricalDistribution([show(choice) for choice in distribution.choices])
    if distribution.kind == "int":
        return IntDistribution(round(distribution.low), round(distribution.high))
    if distribution.kind in ("log", "uniform"):
        return FloatDistribution(distribution.low, distribution.high, log=distribution.kind == "log")
    return FloatDistribution(*distribution.bounds)


def to_optuna(distribution: Distribution, value: Json) -> Json:
    """Return a value as Optuna stores it with ``optuna_distribution``."""
    if not distribution.numeric:
        return show(value)
    return value if distribution.kind in ("log", "uniform", "int") else distribution.scale(number(value))


def from_optuna(distribution: Distribution, value: Json) -> Json:
    """Return the value that Optuna stores as ``value``."""
    if not distribution.numeric:
        return next(choice for choice in distribution.choices if show(choice) == value)
    own_scale = distribution.kind not in ("log", "uniform", "int")
    return distribution.at(distribution.unit(distribution.value(number(value)) if own_scale else value))


def quiet_optuna() -> ModuleType:
    """Return Optuna without its log and its warnings of experimental arguments."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def tpe(space: Space, results: Sequence[Result], running: Sequence[Point], seed: int) -> Point:
    """Return a point by the multivariate tree-structured Parzen estimator (Bergstra et al. 2011; Falkner et al. 2018)."""
    optuna = quiet_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # multivariate, group and constant_liar are experimental
        sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=START, seed=seed
        )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    worst = min([r.score for r in results if r.score is not None], default=0.0)
    for result in results:
        if space.contains(result.point):
            _add(study, space, result.point, worst if result.score is None else result.score)
    for point in running:
        if space.contains(point):
            _add(study, space, point, worst)
    return suggested(study.ask(), space)


def suggested(trial: optuna.Trial, space: Space) -> Point:
    """Return the point that a trial of Optuna suggests."""
    point: Point = {}
    for dimension in space:
        if space.exists(dimension, point):
            point[dimension.name] = from_optuna(dimension.distribution, _suggest(trial, dimension))
    return point


def _suggest(trial: optuna.Trial, dimension: Dimension) -> str | int | float:
    own = dimension.distribution
    if not own.numeric:
        return trial.suggest_categorical(dimension.name, [show(choice) for choice in own.choices])
    if own.kind == "int":
        return trial.suggest_int(dimension.name, round(own.low), round(own.high))
    if own.kind in ("log", "uniform"):
        return trial.suggest_float(dimension.name, own.low, own.high, log=own.kind == "log")
    return trial.suggest_float(dimension.name, *own.bounds)


def _add(study: optuna.Study, space: Space, point: Point, value: float) -> None:
    from optuna.trial import create_trial

    existing = [d for d in space if d.name in point]
    distributions = {d.name: optuna_distribution(d.distribution) for d in existing}
    params = {d.name: to_optuna(d.distribution, point[d.name]) for d in existing}
    study.add_trial(create_trial(params=params, distributions=distributions, value=value))


def cmaes(space: Space, results: Sequence[Result], running: Sequence[Point], seed: int) -> Point:
    """Return a point by CMA-ES (Hansen 2016, arXiv:1604.00772); choices are drawn at random.

    The strategy is replayed from the results: in the order of their trials they form generations, the last of which
    may be incomplete.
    """
    from cmaes import CMA

    numeric = [d for d in space if d.distribution.numeric]
    rng = np.random.default_rng([seed, len(results), len(running)])
    point = space.at(rng.random(len(space)).tolist())
    if len(numeric) < 2:  # CMA-ES needs two dimensions
        return point
    bounds = np.tile([0.0, 1.0], (len(numeric), 1))
    optimizer = CMA(mean=np.full(len(numeric), 0.5), sigma=0.25, bounds=bounds, seed=seed)
    worst = min([r.score for r in results if r.score is not None], default=0.0)
    told = [r for r in results if space.contains(r.point)]
    size = optimizer.population_size
    for start in range(0, len(told) - size + 1, size):
        generation = []
        for result in told[start : start + size]:
            asked = optimizer.ask()
            unit = [
                d.distribution.unit(result.point[d.name]) if d.name in result.point else float(asked[i])
                for i, d in enumerate(numeric)
            ]
            generation.append((np.array(unit), -(worst if result.score is None else result.score)))
        optimizer.tell(generation)
    for _ in range(len(told) % size + len(running)):
        optimizer.ask()
    unit = optimizer.ask()
    for i, dimension in enumerate(numeric):
        if dimension.name in point:
            point[dimension.name] = dimension.distribution.at(float(unit[i]))
    return point
