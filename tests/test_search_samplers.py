"""The sampler by a Gaussian process: expected improvements against samples, what it learns from, where it looks."""

from __future__ import annotations

import numpy as np
import pytest
from searching import bowl, searched

from trainer.search.distribution import Distribution
from trainer.search.expected import expected, improvements
from trainer.search.points import points
from trainer.search.sample import gp
from trainer.search.space import Dimension, Point, Space
from trainer.search.stages import Entry, Result, best_first, first_plan, more, next_plan

KEYS = ("a", "b", "c", "d")
SQUARE = Space(tuple(Dimension(key, key, Distribution("uniform", 0.0, 1.0)) for key in KEYS))
FEW = Space(
    (Dimension("n", "n", Distribution("int", 1, 3)), Dimension("o", "o", Distribution("choice", choices=("x", "y"))))
)


def hill(point: Point) -> float:
    """Highest at (0.3, 0.3, ...); the first key matters most."""
    return -sum((float(value) - 0.3) ** 2 / (i + 1) for i, value in enumerate(point.values()))  # pyright: ignore[reportArgumentType]


def results_at(tried: list[Point], noise: float = 0.0, state: str = "done", first: int = 0) -> list[Result]:
    rng = np.random.default_rng(0)
    scores = [hill(point) + noise * rng.normal() for point in tried]
    entries = [Entry(first + i, "planned", point) for i, point in enumerate(tried)]
    return [Result(entry, point, score, state) for entry, point, score in zip(entries, tried, scores, strict=True)]


def test_the_expected_improvement_is_the_mean_of_samples_above_the_best_expected_score():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    results = results_at(points("sobol", SQUARE, 8, seed=1))
    new = points("sobol", SQUARE, 5, seed=2)
    scores = np.array(expected(SQUARE, results, [r.point for r in results]))
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern([0.3] * 4, (0.05, 10), nu=2.5) + WhiteKernel(0.2, (0.01, 2))
    from scipy.stats import norm, rankdata

    quantiles = norm.ppf((rankdata([r.score for r in results]) - 0.5) / 8)
    places = np.array([[r.point[key] for key in KEYS] for r in results])
    with pytest.warns(match="bound"):
        process = GaussianProcessRegressor(kernel, random_state=0).fit(places, quantiles)
    mean, covariance = process.predict(np.array([[p[key] for key in KEYS] for p in new]), return_cov=True)
    noiseless = np.sqrt(np.diag(covariance) - process.kernel_.k2.noise_level)
    samples = mean + noiseless * np.random.default_rng(0).normal(size=(400_000, 5))
    oracle = np.maximum(samples - scores.max(), 0).mean(axis=0)
    assert improvements(SQUARE, results, [], new) == pytest.approx(oracle, abs=0.005)
    assert oracle.max() > 0.05


def test_a_point_that_is_being_tried_promises_less():
    results = results_at(points("sobol", SQUARE, 20, seed=1))
    new = points("sobol", SQUARE, 64, seed=2)
    before = improvements(SQUARE, results, [], new)
    first = int(np.argmax(before))
    after = improvements(SQUARE, results, [new[first]], new)
    assert after[first] < 0.5 * before[first]
    assert gp(SQUARE, SQUARE, results, [], 5) != gp(SQUARE, SQUARE, results, [gp(SQUARE, SQUARE, results, [], 5)], 5)


def test_points_by_a_gaussian_process_are_better_than_quasi_random_ones_of_the_narrowed_space():
    start = results_at(points("sobol", SQUARE, 24, seed=3), noise=0.02)
    plan = next_plan(SQUARE, start, 24, 0.25, "sobol", seed=4, again=False)
    narrow = [hill(entry.point) for entry in plan.entries if entry.point]
    results = list(start)
    for number in range(24):
        point = gp(plan.space, SQUARE, results, [], seed=1000 * number)
        results += results_at([point], noise=0.02, first=number)
    chosen = [hill(r.point) for r in results[24:]]
    assert np.mean(chosen) > np.mean(narrow)
    assert np.median(chosen) > np.quantile(narrow, 0.75)


def test_what_failed_is_left_out_and_what_diverged_is_avoided():
    tried = points("sobol", SQUARE, 24, seed=3)
    beyond = [r for r in results_at(tried, state="diverged") if float(r.point["a"]) > 0.5]  # pyright: ignore[reportArgumentType]
    lost = [Result(r.entry, r.point, None, r.state) for r in beyond]
    good = [r for r in results_at(tried) if float(r.point["a"]) <= 0.5]  # pyright: ignore[reportArgumentType]
    chosen = [gp(SQUARE, SQUARE, [*good, *lost], [], seed) for seed in range(6)]
    assert all(float(point["a"]) < 0.6 for point in chosen)  # pyright: ignore[reportArgumentType]
    failed = [Result(r.entry, r.point, None, "failed") for r in beyond]
    assert gp(SQUARE, SQUARE, [*good, *failed], [], 0) == gp(SQUARE, SQUARE, good, [], 0)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_an_adaptive_sampler_has_no_more_trials_than_the_space_has_points(sampler):
    first = first_plan(FEW, 32, sampler, seed=0)
    assert len(first.entries) == 1 + 6, "and the config as typed"
    tried = points("grid", FEW, 6, seed=0)
    results = [Result(Entry(i, "planned", p), p, 0.5, "done") for i, p in enumerate(tried)]
    plan = more(FEW, results[:4], 4, 32, sampler, seed=0)
    assert plan is not None
    assert [entry.index for entry in plan.entries] == [4, 5]
    assert all(entry.point in tried[4:] for entry in plan.entries)
    assert more(FEW, results, 6, 32, sampler, seed=0) is None


def test_gp_tries_no_point_twice_while_there_are_others():
    tried = points("grid", FEW, 6, seed=0)
    results = [Result(Entry(i, "planned", p), p, i / 10, "done") for i, p in enumerate(tried[:5])]
    assert gp(FEW, FEW, results, [], 0) == tried[5]
    assert gp(FEW, FEW, results[:4], [tried[5]], 0) == tried[4]


def test_a_second_stage_of_the_same_length_learns_from_the_first_unless_the_sampler_is_typed(tmp_path):
    space = [
        "data.count=100",
        "job.seeds=0",
        "job.space.optimizer.lr=log(1e-4,1)",
        "job.space.optimizer.weight_decay=default",
    ]
    for sampler in ("auto", "sobol"):
        session = searched(tmp_path / sampler, bowl, *space, f"job.sampler={sampler}")
        coarse, fine = session.stages
        assert all(entry.point for entry in coarse.plans[0].entries if entry.origin == "planned")
        left_open = [entry.point is None for entry in fine.plans[0].entries]
        assert left_open == [sampler == "auto"] * len(left_open)
        assert best_first(fine.results)[0].score >= best_first(coarse.results)[0].score
