"""What a config is expected to score with other random numbers: a Gaussian process smooths the scores over the space."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from trainer.search.distribution import number
from trainer.search.points import different
from trainer.search.space import Point, Space
from trainer.search.stages import Result, best_first

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

FEW = 6  # trials, below which their neighbors say too little
MOST = 300  # of the best trials: the time grows with the third power of their number
APART = 0.05  # of a range, by which finalists differ in at least one key
GROWTH = 1.1  # of the number of trials, until the lengths of the keys are fitted again: this takes most of the time


def finalists(space: Space, results: Sequence[Result], count: int) -> list[Point]:
    """Return the points with the highest expected scores, the highest first, the config as typed not among them.

    The best of many scores is a lucky one. What the trials around it have reached tells how lucky.
    """
    trials = [r for r in results if r.entry.origin != "default"]
    points = different([r.point for r in best_first(trials)])
    if len(points) < FEW:
        return points[:count]
    scores = expected(space, trials, points)
    chosen: list[Point] = []
    for i in np.argsort(-np.array(scores), kind="stable"):
        if len(chosen) < count and all(apart(space, points[i], other) for other in chosen):
            chosen.append(points[i])
    return chosen


def expected(space: Space, results: Sequence[Result], points: Sequence[Point]) -> list[float]:
    """Return the expected normal scores of points: 0 for a config that is as good as half of the trials.

    A Gaussian process with a Matern kernel (a length per key) and noise, fitted by maximum likelihood (Rasmussen & Williams
    2006), of the ranks as normal quantiles (Salinas et al. 2020), which any metric has. Trials that were pruned count with
    their best value until then, trials that diverged as the worst; of equal scores the lower loss is better.

    Args:
        space: The space; its bounds give the scale of distances.
        results: Of trials of the same length; those that failed are left out.
        points: Where to predict.
    """
    trials = known(results)
    places, scores = coordinates(space, [r.point for r in trials]), normal_scores(trials)
    process = fitted(most_likely(places, scores), places, scores)
    return predicted(process, coordinates(space, points))[0].tolist()


def improvements(
    space: Space, results: Sequence[Result], running: Sequence[Point], points: Sequence[Point]
) -> NDArray[np.float64]:
    """Return by how much each point is expected to raise the highest expected normal score (Jones et al. 1998).

    The score itself has noise, so it is the highest expected one of the trials that counts, not the highest score. What is being
    tried at the moment counts with its expected score (Kriging believer, Ginsbourger et al. 2010).

    Args:
        space: As for ``expected``.
        results: Of trials of the same length, at least two.
        running: Points of trials that are not over.
        points: Where to predict.
    """
    from scipy.stats import norm

    trials = known(results)
    places, scores = coordinates(space, [r.point for r in trials]), normal_scores(trials)
    some = _milestone(len(trials))
    kernel = most_likely(places[:some], normal_scores(trials[:some]))
    process = fitted(kernel, places, scores)
    if running:
        tried = coordinates(space, running)
        places, scores = np.concatenate([places, tried]), np.concatenate([scores, predicted(process, tried)[0]])
        process = fitted(kernel, places, scores)
    best = predicted(process, places)[0].max()
    mean, std = predicted(process, coordinates(space, points))
    above = (mean - best) / std
    return std * (above * norm.cdf(above) + norm.pdf(above))


def known(results: Sequence[Result]) -> list[Result]:
    """Return the results that did not fail, in their order; of more than ``MOST`` the best."""
    trials = [r for r in results if r.state != "failed"]
    best = sorted(range(len(trials)), key=lambda i: _level(trials[i]))[-MOST:]
    return [trials[i] for i in sorted(best)]


def _level(result: Result) -> tuple[float, float]:
    return (-np.inf if result.score is None else result.score, -result.info.get("loss", np.inf))


def normal_scores(trials: Sequence[Result]) -> NDArray[np.float64]:
    """Return the quantiles of the normal distribution at the ranks of the trials."""
    from scipy.stats import norm, rankdata

    levels = {level: number for number, level in enumerate(sorted({_level(r) for r in trials}))}
    return norm.ppf((rankdata([levels[_level(r)] for r in trials]) - 0.5) / len(trials))


def _milestone(count: int) -> int:
    """Return how many of the trials decide the lengths: the last number of a geometric series.

    >>> [_milestone(count) for count in (5, 8, 40, 43, 100)]
    [5, 8, 39, 42, 94]
    """
    number = FEW
    while (following := max(number + 1, math.floor(number * GROWTH))) <= count:
        number = following
    return min(number, count)


def most_likely(places: NDArray[np.float64], scores: NDArray[np.float64]) -> Kernel:
    """Return the kernel with the most likely lengths and noise; that of the last trials is kept."""
    return _most_likely(places.tobytes(), scores.tobytes(), len(scores))


@lru_cache(maxsize=2)
def _most_likely(places: bytes, scores: bytes, count: int) -> Kernel:
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    at = np.frombuffer(places).reshape(count, -1)
    matern = Matern([0.3] * at.shape[1], (0.05, 10), nu=2.5)  # pyright: ignore[reportArgumentType]
    kernel = ConstantKernel(1.0, (0.05, 20)) * matern + WhiteKernel(0.2, (0.01, 2))
    return fitted(kernel, at, np.frombuffer(scores), optimizer="fmin_l_bfgs_b").kernel_  # pyright: ignore[reportReturnType]


def fitted(
    kernel: Kernel, places: NDArray[np.float64], scores: NDArray[np.float64], optimizer: str | None = None
) -> GaussianProcessRegressor:
    """Return the process that knows the scores; its kernel is optimized only with an ``optimizer``."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    process = GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0)  # pyright: ignore[reportArgumentType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound: the key does not matter
        return process.fit(places, scores)


def predicted(
    process: GaussianProcessRegressor, places: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of the expected scores, which have no noise."""
    mean, std = process.predict(places, return_std=True)  # pyright: ignore[reportAssignmentType]
    noise = process.kernel_.k2.noise_level  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(mean), np.sqrt(np.maximum(np.square(std) - noise, 1e-9))


def coordinates(space: Space, points: Sequence[Point]) -> NDArray[np.float64]:
    """Return the coordinates of points, shape ``(number, coordinates)``."""
    return np.array([place(space, point) for point in points])


def place(space: Space, point: Point) -> list[float]:
    """Return the coordinates of a point: from 0 to 1 for numbers, one per choice, the middle for keys that it does not have."""
    coordinates: list[float] = []
    for dimension in space:
        distribution, value = dimension.distribution, point.get(dimension.name)
        if distribution.numeric:
            coordinates.append(0.5 if value is None else distribution.unit(number(value)))
        else:
            coordinates += [float(value == choice) for choice in distribution.choices]
    return coordinates


def apart(space: Space, one: Point, other: Point) -> bool:
    """Whether two points differ by more than a little in some key."""
    differences = np.abs(np.array(place(space, one)) - np.array(place(space, other)))
    return bool((differences >= APART).any())
