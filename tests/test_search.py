"""The search on objectives with known optima: stages, borders, samplers, ties, failures, interruption."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from searching import bowl, searched, session_of, trials_of

from trainer.analysis.intervals import interval
from trainer.errors import ConfigError
from trainer.search.budget import repetitions
from trainer.search.choice import Candidate, candidates, choose, gains_over
from trainer.search.distribution import Distribution
from trainer.search.expected import finalists
from trainer.search.options import SearchSettings
from trainer.search.run import take_part
from trainer.search.space import Dimension, Space
from trainer.search.stages import Entry, Result, best_first, borders, next_plan
from trainer.search.storage import close_storage, open_storage

SMALL = ("job.epochs=[1,3]", "job.trials=[8,4]", "job.finalists=2", "job.seeds=3")


def the_choice(session):
    return choose(candidates(session.full_length.results, session.repetitions, session.points, session.trials.metric))


def best(session, stage=-1):
    return best_first(session.stages[stage].results)[0]


def test_the_config_as_typed_is_the_first_trial_of_every_stage(tmp_path):
    session = searched(tmp_path, bowl, *SMALL)
    for stage in session.stages:
        assert (stage.results[0].entry.origin, stage.results[0].point) == ("default", {})
    assert session.repetitions[0].point == {}


def test_stages_narrow_around_the_optimum_and_repeat_the_best(tmp_path):
    session = searched(tmp_path, bowl, "job.trials=[32,16,8]", "job.seeds=2")
    first, second, third = session.stages
    for earlier, later in ((first, second), (second, third)):
        ratio = {k: d.high / d.low for k in ("optimizer.lr",) for d in [later.plans[0].space[k].distribution]}
        assert ratio["optimizer.lr"] < 0.5 * (earlier.plans[0].space["optimizer.lr"].distribution.high / 1e-4)
        kept = [r.point for r in later.results if r.entry.origin == "kept"]
        ranked = [r.point for r in best_first(earlier.results) if r.point]
        assert kept == ranked[: len(kept)]
        assert later.plans[0].space["optimizer.lr"].distribution.contains(0.02)
    assert abs(math.log10(best(session).point["optimizer.lr"] / 0.02)) < 0.3


def test_a_longer_stage_still_tries_augmentation_which_a_short_one_cannot_judge():
    choices = {"augmentation": ("none", "translation"), "optimizer": ("sgd", "adam")}
    groups = [Dimension(key, key, Distribution("choice", choices=values)) for key, values in choices.items()]
    space = Space((*groups, Dimension("optimizer.lr", "optimizer.lr", Distribution("log", 1e-4, 1.0))))
    scores = {("none", "sgd"): 0.9, ("none", "adam"): 0.6, ("translation", "sgd"): 0.5, ("translation", "adam"): 0.4}
    results = [
        Result(Entry(i, "planned", point), point, score, "done")
        for i, ((augmentation, optimizer), score) in enumerate(scores.items())
        for point in [{"augmentation": augmentation, "optimizer": optimizer, "optimizer.lr": 0.01}]
    ]
    plan = next_plan(space, results, 12, 0.25, "sobol", seed=0)
    assert plan.space["augmentation"].distribution.choices == ("none", "translation")
    assert plan.space["optimizer"].distribution.choices == ("sgd",)
    assert plan.space["optimizer.lr"].distribution.low > 1e-4


def test_few_trials_of_an_option_say_nothing_about_the_borders_of_its_parameters():
    choice = Dimension("regularizer", "regularizer", Distribution("choice", choices=([], ["dropout"])))
    p = Dimension(
        "regularizer.dropout.p", "regularizer.dropout.p", Distribution("uniform", 0.1, 0.5), "regularizer", "dropout"
    )
    space = Space((choice, p))
    points = [{"regularizer": ["dropout"], p.name: 0.3}, *[{"regularizer": []}] * 8]
    results = [Result(Entry(i, "planned", point), point, 0.9 - i / 100, "done") for i, point in enumerate(points)]
    assert borders(space, results) == []


@pytest.mark.parametrize(("optimum", "space", "words"), [
    (5.0, "log(1e-4,1)", "optimizer.lr from log(0.0001,1) to log(0.0001,10)"),
    (3e-6, "log(1e-4,1e-2)", "optimizer.lr from log(0.0001,0.01) to log(1e-05,0.01)"),
])  # fmt: skip
def test_an_optimum_beyond_a_border_is_found_and_reported(optimum, space, words, tmp_path, capsys):
    def objective(tree):
        return 0.9 / (1 + abs(math.log10(tree["optimizer"]["lr"] / optimum)))

    overrides = ["job.epochs=[2]", "job.trials=[8]", "job.seeds=0", f"job.space.optimizer.lr={space}"]
    session = session_of(tmp_path, objective, *overrides)
    take_part(session, tmp_path)
    assert f"the best lies near the border: {words}" in capsys.readouterr().out
    assert abs(math.log10(best(session).point["optimizer.lr"] / optimum)) < 0.5
    added = [r for r in session.stages[0].results if r.entry.origin == "extension"]
    low, high = (float(x) for x in space[4:-1].split(","))
    assert added
    assert not any(low <= r.point["optimizer.lr"] <= high for r in added), "new points only in the added part"


def test_a_border_that_no_value_may_cross_is_not_extended(tmp_path):
    def objective(tree):
        return 0.9 - tree["regularizer"]["dropout"]["p"]

    overrides = ["regularizer=[dropout]", "job.space.regularizer.dropout.p=uniform(0.001,0.6)"]
    session = searched(tmp_path, objective, *overrides, "job.epochs=[1]", "job.trials=[16]", "job.seeds=0")
    assert all(0 < r.point["regularizer.dropout.p"] < 1 for r in session.stages[0].results if r.point)


def test_equal_configs_end_as_a_tie_that_the_config_as_typed_wins(tmp_path):
    def noise(tree):
        return random.Random(repr((tree["seed"], sorted(tree["optimizer"].items())))).gauss(0.7, 0.02)

    session = searched(tmp_path, noise, "job.trials=[64,16,8]", "job.seeds=5")
    choice = the_choice(session)
    assert choice.winner.number == 0
    assert "no finalist is better" in choice.reason
    finalist = choice.candidates[1]
    assert finalist.search_score > finalist.mean.mean, "the best of many looks better than it is"


def test_a_clearly_better_config_wins_with_its_paired_gain(tmp_path):
    choice = the_choice(searched(tmp_path, bowl, *SMALL))
    assert choice.winner.number > 0
    assert choice.winner.gain.n == 3
    assert choice.winner.gain.low > 0
    assert {seed for c in choice.candidates for seed in c.scores} == {1, 2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["sobol", "random", "grid", "gp", "tpe", "cmaes"])
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(sampler, tmp_path):
    options = [f"job.sampler={sampler}", "job.epochs=[1]", "job.trials=[20]", "job.seeds=1"]
    first, again = (trials_of(searched(tmp_path / name, bowl, *options)) for name in ("a", "b"))
    assert first == again
    other = trials_of(searched(tmp_path / "c", bowl, *options, "seed=1"))
    points = [[t[2] for t in trials if t[0] == "stage-1"] for trials in (first, other)]
    assert (points[0] == points[1]) == (sampler == "grid")


@pytest.mark.parametrize("sampler", ["gp", "tpe", "cmaes"])
def test_an_adaptive_sampler_does_better_than_the_points_it_starts_from(sampler, tmp_path):
    session = searched(tmp_path, bowl, f"job.sampler={sampler}", "job.epochs=[1]", "job.trials=[48]", "job.seeds=0")
    results = [r for r in session.stages[0].results if r.entry.origin == "planned"]
    start, later = results[:8], results[-16:]
    mean = [sum(r.score for r in part) / len(part) for part in (start, later)]
    assert mean[1] > mean[0]


def test_an_option_that_is_searched_brings_its_own_spaces(tmp_path):
    def objective(tree):
        return 0.5 + 0.3 * tree["optimizer"]["_target_"].endswith("Adam")

    session = searched(tmp_path, objective, "job.space.optimizer=choice(sgd,adam)", "job.epochs=[1,2]", "job.seeds=1")
    for r in session.stages[0].results[1:]:
        name = r.point["optimizer"]
        assert set(r.point) == {"optimizer", f"optimizer.{name}.lr", f"optimizer.{name}.weight_decay"}
    assert best(session).point["optimizer"] == "adam"
    assert {r.point["optimizer"] for r in session.stages[1].results if r.entry.origin == "kept"} == {"adam"}
    assert set(session.stages[1].plans[0].space.describe()) == {
        "optimizer", "optimizer.adam.lr", "optimizer.adam.weight_decay"
    }  # fmt: skip


def test_a_region_of_nan_is_counted_and_left(tmp_path):
    def objective(tree):
        return math.nan if tree["optimizer"]["lr"] > 0.02 else 0.5 + tree["optimizer"]["lr"]

    session = searched(tmp_path, objective, "job.trials=[16,8,8]", "job.seeds=0", "job.sampler=tpe")
    first, *_, last = session.stages
    assert 4 <= sum(r.state == "diverged" for r in first.results) <= 12
    assert last.plans[0].space["optimizer.lr"].distribution.high < 0.2
    assert best(session).point["optimizer.lr"] <= 0.02


@pytest.mark.parametrize("pruner", ["none", "quartile", "median", "successive_halving", "hyperband"])
def test_hopeless_trials_end_early_and_the_best_is_still_found(pruner, tmp_path):
    session = searched(tmp_path, bowl, f"job.pruner={pruner}", "job.epochs=[9]", "job.trials=[32]", "job.seeds=2")
    states = Counter(r.state for r in session.stages[0].results)
    assert (states["pruned"] > 4) == (pruner != "none")
    if pruner in ("quartile", "median"):  # not in the first third, in which the schedule decides who is ahead
        first = max(3, math.ceil(session.least_epochs))
        assert min(len(r.curve) for r in session.stages[0].results if r.state == "pruned") == first
    assert session.stages[0].results[0].state == "done", "the config as typed is never pruned"
    assert all(r.state == "done" for r in session.repetitions)
    assert abs(math.log10(best(session).point["optimizer.lr"] / 0.02)) < 1


def test_a_failing_trial_is_recorded_and_a_failing_config_as_typed_ends_the_search(tmp_path):
    def objective(tree):
        if tree["optimizer"]["lr"] > 0.2:
            raise ValueError("no such lr")
        return 0.5

    session = searched(tmp_path / "a", objective, *SMALL)
    failed = [r for r in session.stages[0].results if r.state == "failed"]
    assert failed
    assert all(r.info["error"] == "ValueError: no such lr" for r in failed)
    assert "no such lr" in next((tmp_path / "a" / "errors").iterdir()).read_text()

    def always(tree):
        raise ConfigError("batch_size is too large")

    with pytest.raises(ConfigError, match="batch_size is too large"):
        searched(tmp_path / "b", always, *SMALL)


def test_another_search_under_the_same_name_is_refused_with_the_difference(tmp_path):
    searched(tmp_path, bowl, *SMALL)
    assert trials_of(searched(tmp_path, bowl, *SMALL, "job.workers=1", "job.budget=1h"))
    with pytest.raises(ConfigError, match=r"another search: batch_size: 64 there, 32 here; job.seeds: 3 there, 4 here"):
        session_of(tmp_path, bowl, *SMALL[:3], "job.seeds=4", "batch_size=32")


@pytest.mark.slow
def test_a_budget_limits_the_time_and_all_parts_get_some(tmp_path):
    started = time.monotonic()
    session = searched(tmp_path, bowl, "job.epochs=[1,2]", "job.budget=6s", delay=lambda: time.sleep(0.01))
    assert 4 < time.monotonic() - started < 7.5
    assert all(len(stage.results) > 8 for stage in session.stages)
    assert len(session.repetitions) > 20, "what is left of the budget repeats the finalists with more than 5 seeds"


@pytest.mark.parametrize(("settings", "steps", "lengths"), [
    ({}, 40, (1.0, 5.0, 20.0)),
    ({}, 39, (5.0, 20.0)),
    ({}, 8, (5.0, 20.0)),
    ({}, 7, (20.0, 20.0)),
    ({"epochs": (1.0, 5.0)}, 1, (1.0, 5.0)),
    ({"trials": (8, 4, 2)}, 1, (1.0, 5.0, 20.0)),
])  # fmt: skip
def test_stages_too_short_to_tell_configs_apart_are_left_out_unless_they_are_typed(settings, steps, lengths):
    assert SearchSettings(**settings).lengths(steps) == lengths


def test_a_search_says_which_stages_it_leaves_out(tmp_path, capsys):
    overrides = ["data.count=1000", "job.seeds=0", "job.pruner=none"]
    session = session_of(tmp_path, bowl, *overrides)
    take_part(session, tmp_path)
    steps = session.trials.steps_per_epoch()
    assert 8 <= steps < 40
    assert [stage.epochs for stage in session.stages] == [5, 20]
    assert f"stages of fewer than 40 steps are left out: an epoch has {steps}" in capsys.readouterr().out


def test_where_only_the_last_length_is_left_a_second_stage_of_it_tries_new_points_near_the_best(tmp_path):
    session = searched(tmp_path, bowl, "data.count=100", "job.seeds=2", "job.space.optimizer.lr=log(1e-4,1)")
    coarse, fine = session.stages
    assert (coarse.epochs, fine.epochs) == (20, 20)
    assert all(r.entry.origin in ("planned", "extension") for r in fine.results), "nothing is run again"
    assert [r.entry.index for r in fine.results] == list(range(len(fine.results)))
    narrow, wide = (stage.plans[0].space["optimizer.lr"].distribution for stage in (fine, coarse))
    assert narrow.high / narrow.low < wide.high / wide.low / 10
    points = [r.point for stage in session.stages for r in stage.results]
    assert all(point in points for point in session.points)
    choice = the_choice(session)
    assert choice.winner.point["optimizer.lr"] == pytest.approx(0.02, rel=0.15)
    assert choice.candidates[0].search_score is not None, "that of the config as typed, of the first stage"


def test_stages_are_left_out_that_are_too_short_for_the_largest_batches_of_the_space(tmp_path, capsys):
    space = ("job.space.optimizer.lr=log(1e-4,1)", "job.space.batch_size=choice(16,128)")
    session = session_of(tmp_path, bowl, *space, "data.count=1000", "batch_size=16", "job.seeds=0", "job.trials=auto")
    images = len(session.trials.splits(session.config).train)
    assert images / 16 > 40 > images / 128
    assert session.lengths == ((20.0, 20.0) if images / 128 * 5 < 40 else (5.0, 20.0))
    take_part(session, tmp_path)
    assert f"an epoch has {math.ceil(images / 128)} with the largest batch size" in capsys.readouterr().out


@pytest.mark.parametrize(("pruner", "fraction"), [("quartile", 0.25), ("median", 0.5)])
def test_a_quantile_ends_that_part_of_equally_good_trials_however_many_there_are(pruner, fraction, tmp_path):
    def noise(tree):
        return random.Random(repr(tree["optimizer"])).uniform(0.5, 0.9)

    options = [f"job.pruner={pruner}", "job.epochs=[6]", "job.trials=[128]", "job.seeds=0"]
    results = searched(tmp_path, noise, *options).stages[0].results
    pruned = sum(r.state == "pruned" for r in results) / len(results)
    assert abs(pruned - fraction) < 0.12


@pytest.mark.parametrize(("seconds", "first", "total"), [(0.5, 40, 40), (80, 5, 17), (100_000, 0, 0)])
def test_a_budget_repeats_the_finalists_then_the_best_of_them_as_often_as_it_allows(seconds, first, total, tmp_path):
    session = session_of(tmp_path, bowl, "job.epochs=[1,2]", "job.trials=[8,4]", "job.finalists=3", "job.budget=1h")
    session.progress.quiet = True
    run = session.trials.run
    session.trials.run = lambda *arguments: replace(run(*arguments), seconds=seconds)
    take_part(session, tmp_path)
    seeds = [{r.entry.seed for r in session.repetitions if r.entry.candidate == number} for number in range(4)]
    best_number = the_choice(session).winner.number
    assert [len(s) for s in seeds] == [total if n in (0, best_number) else first for n in range(4)]
    assert seeds[0] == set(range(1, total + 1))
    if not total:
        assert the_choice(session).winner.point == session.points[0]
        assert session.clock.ends[-1] == 1.0, "the stages get the time"


@pytest.mark.parametrize("seeds", [None, 1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_repetitions_fit_into_the_trials_that_there_are(count, seeds):
    for trials in range(2 * max(seeds or 1, 2), 400):
        found = repetitions(trials, count, seeds)
        assert (found.finalists + 1) * found.first + 2 * (found.seeds - found.first) <= trials
        assert found.first >= 1
        assert 1 <= found.finalists <= count


def trial(index, score, lr, state="done", **point):
    return Result(Entry(index, "planned", None), {"lr": lr, **point}, score, state)


LR = Space((Dimension("lr", "lr", Distribution("log", 1e-3, 1.0)),))


def test_a_lucky_trial_among_bad_ones_is_no_finalist():
    good = [trial(i, 0.90 + 0.001 * (i % 3), 10 ** (-2.2 + 0.04 * i)) for i in range(10)]
    bad = [trial(10 + i, 0.5 + 0.01 * i, 10 ** (-0.6 + 0.04 * i)) for i in range(10)]
    lucky = trial(20, 0.95, 10**-0.5)
    assert best_first([*good, *bad, lucky])[0] is lucky
    chosen = finalists(LR, [*good, *bad, lucky], 3)
    assert all(10**-2.3 < point["lr"] < 10**-1.8 for point in chosen)
    units = sorted(LR["lr"].distribution.unit(point["lr"]) for point in chosen)
    assert units[1] - units[0] >= 0.05, "finalists are different"


def test_few_trials_are_ranked_by_their_scores():
    few = [trial(i, score, 10 ** (-1 - i / 10)) for i, score in enumerate([0.5, 0.9, 0.7, 0.8, 0.6])]
    assert [p["lr"] for p in finalists(LR, few, 2)] == [few[1].point["lr"], few[3].point["lr"]]


def test_finalists_are_found_among_options_and_trials_that_diverged():
    space = Space(
        (Dimension("optimizer", "optimizer", Distribution("choice", choices=("sgd", "adam"))), *LR.dimensions)
    )
    results = [
        trial(i, None if i % 4 == 3 else 0.6 + 0.2 * (i % 2), 10 ** (-3 + i / 8), "diverged" if i % 4 == 3 else "done",
              optimizer=("sgd", "adam")[i % 2])
        for i in range(20)
    ]  # fmt: skip
    chosen = finalists(space, results, 2)
    assert [point["optimizer"] for point in chosen] == ["adam", "adam"]
    assert all(any(r.point == point and r.state == "done" for r in results) for point in chosen)


def test_the_next_stage_lies_around_the_best_quarter_not_around_the_few_that_are_run_again():
    results = [trial(i, 0.9 - abs(i - 50) / 1000, 10 ** (-3 + 3 * i / 100)) for i in range(100)]
    plan = next_plan(LR, results, 6, 0.25, "sobol", 0)
    low, high = plan.space["lr"].distribution.bounds
    quarter = [math.log10(r.point["lr"]) for r in best_first(results)[:25]]
    assert low == pytest.approx(min(quarter) - 0.45, abs=0.01)
    assert high == pytest.approx(max(quarter) + 0.45, abs=0.01)
    assert sum(entry.origin == "kept" for entry in plan.entries) == 5


def test_a_budget_that_ends_in_an_early_stage_leaves_the_best_of_it(tmp_path, capsys):
    session = session_of(tmp_path, bowl, "job.epochs=[1,2,4]", "job.trials=[8,4,2]", "job.budget=1h")
    run, count = session.trials.run, []

    def slow(*arguments):
        count.append(1)
        if len(count) == 10:  # the first trial of stage 2, which uses up the budget
            session.clock.before += 3600
        return run(*arguments)

    session.trials.run = slow
    take_part(session, tmp_path)
    assert [stage.name for stage in session.stages] == ["stage-1"]
    assert the_choice(session).winner.point == best(session).point != {}
    assert "stage-2: left out, because the budget is used up; stage-1 decides" in capsys.readouterr().out


def test_a_budget_that_loading_uses_up_still_trains_the_config_as_typed(tmp_path, capsys):
    def late(objective):
        session = session_of(tmp_path, objective, "job.epochs=[1,2]", "job.budget=1h")
        session.clock.before += 3600
        return session

    def interrupted(tree):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # its trial is given back, and the same command runs it
        take_part(late(interrupted), tmp_path)
    session = late(bowl)
    take_part(session, tmp_path)
    assert [(stage.name, len(stage.results)) for stage in session.stages] == [("stage-1", 1)]
    assert the_choice(session).winner.point == {}
    assert "stage-1: job.budget=1h is too short for more than the config as typed" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["{}/trials.db", "sqlite:///{}/trials.db"])
def test_a_new_directory_of_a_storage_is_named_and_one_that_cannot_be_created_is_refused(address, tmp_path, capsys):
    new, file = tmp_path / "new" / "directory", tmp_path / "file"
    close_storage(open_storage(address.format(new), tmp_path))
    assert f"{new} is created" in capsys.readouterr().err
    close_storage(open_storage(address.format(new), tmp_path))
    assert capsys.readouterr().err == ""
    file.touch()
    with pytest.raises(ConfigError, match=r"job.storage = .* cannot be created: Not a directory"):
        open_storage(address.format(file / "directory"), tmp_path)


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    notes = tmp_path / "notes.txt"
    for text in ("a line\nwithout an end", "word", "[1]\n"):
        notes.write_text(text)
        with pytest.raises(ConfigError, match="not a journal of trials"):
            open_storage(str(notes), tmp_path)
        assert notes.read_text() == text


@pytest.mark.parametrize("lucky", [{1: 0.95, 2: 0.3, 3: 0.94}, {1: 0.95, 2: 0.95, 3: 0.94, 4: 0.3, 5: 0.96, 6: 0.2}])
def test_a_finalist_that_depends_on_luck_does_not_hide_a_reliable_one(lucky):
    """Neither by its spread nor because it was ahead at first and got more seeds."""
    default = {1: 0.84, 2: 0.85, 3: 0.85, 4: 0.84, 5: 0.84, 6: 0.85}
    reliable = {1: 0.93, 2: 0.935, 3: 0.93}
    gains = gains_over(default, [lucky, reliable])
    found = [
        Candidate(0, {}, 0.85, default, {}),
        Candidate(1, {"lr": 0.3}, 0.95, lucky, {}, gains[0]),
        Candidate(2, {"lr": 0.1}, 0.93, reliable, {}, gains[1]),
    ]
    assert choose(found).winner is found[2]


def test_with_one_common_seed_the_better_score_wins():
    default = Candidate(0, {}, 0.6, {1: 0.9}, {})
    better = Candidate(1, {"lr": 0.1}, 0.7, {1: 0.95}, {}, *gains_over({1: 0.9}, [{1: 0.95}]))
    worse = Candidate(2, {"lr": 0.2}, 0.8, {1: 0.85}, {}, *gains_over({1: 0.9}, [{1: 0.85}]))
    assert choose([default, better, worse]).winner is better
    assert choose([default, worse]).winner is default


def test_a_large_gain_over_three_seeds_wins_although_one_seed_had_bad_luck():
    default = {1: 0.84, 2: 0.85, 3: 0.84}
    lucky, steady = {1: 0.95, 2: 0.95, 3: 0.86}, {1: 0.93, 2: 0.93, 3: 0.92}
    gains = gains_over(default, [lucky, steady])
    assert interval([lucky[s] - default[s] for s in default]).low < 0 < gains[0].low
    assert gains[0].mean == pytest.approx(0.0767, abs=1e-4)


def test_ctrl_c_gives_the_trial_back(tmp_path):
    session = session_of(tmp_path, bowl, *SMALL)
    session.progress.quiet = True
    run = session.trials.run
    count = 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return run(*arguments)

    session.trials.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        take_part(session, tmp_path)
    counts = session.ledger.counts("stage-1")
    assert (counts["done"], counts["waiting"], counts["running"]) == (3, 1, 0)
    assert trials_of(searched(tmp_path, bowl, *SMALL)) == trials_of(searched(tmp_path / "b", bowl, *SMALL))


def test_nothing_is_left_of_processes_that_ended(tmp_path):
    searched(tmp_path, bowl, *SMALL)
    assert list(Path(tmp_path, ".workers").iterdir()) == []
