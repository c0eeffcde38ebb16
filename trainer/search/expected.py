"""What a config is expected to score with other random numbers: a Gaussian process smooths the scores over the space."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from trainer.search.distribution import number
from trainer.search.points import different
from trainer.search.space import Point, Space
from trainer.search.stages import Result, best_first

FEW = 6  # trials, below which their neighbors say too little
MOST = 300  # of the best trials: the time grows with the third power of their number
APART = 0.05  # of a range, by which finalists differ in at least one key


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
    from scipy.stats import norm, rankdata
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    trials = [r for r in results if r.state != "failed"]
    keys = [(-np.inf if r.score is None else r.score, -r.info.get("loss", np.inf)) for r in trials]
    order = sorted(range(len(trials)), key=lambda i: keys[i])[-MOST:]
    levels = {key: level for level, key in enumerate(sorted({keys[i] for i in order}))}
    scores = norm.ppf((rankdata([levels[keys[i]] for i in order]) - 0.5) / len(order))
    places = np.array([place(space, trials[i].point) for i in order])
    lengths = [0.3] * places.shape[1]
    matern = Matern(lengths, (0.05, 10), nu=2.5)  # pyright: ignore[reportArgumentType]
    kernel = ConstantKernel(1.0, (0.05, 20)) * matern + WhiteKernel(0.2, (0.01, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound: the key does not matter
        process = GaussianProcessRegressor(kernel, random_state=0).fit(places, scores)
    predicted = process.predict(np.array([place(space, point) for point in points]))
    return np.asarray(predicted).tolist()


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
