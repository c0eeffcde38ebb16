"""What one sees of a search: importances, plots, progress, warnings."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from searching import bowl, searched
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from trainer.search import figures
from trainer.search.distribution import distribution
from trainer.search.importance import importances
from trainer.search.points import points
from trainer.search.progress import Progress, expected_gain, status
from trainer.search.space import Dimension, Space
from trainer.search.stages import Entry, Result
from trainer.search.summary import trials_csv, warnings
from trainer.search.tensorboard import write_trials

SPACE = Space(
    (
        Dimension("optimizer", "optimizer", distribution("choice(sgd,adam)")),
        Dimension("lr", "lr", distribution("log(1e-4,1)")),
        Dimension("momentum", "momentum", distribution("1-log(0.01,0.3)")),
        Dimension("depth", "depth", distribution("int(2,6)")),
    )
)


def results_of(score, space=SPACE, count=64):
    return [
        Result(Entry(i, "planned", p), p, score(p), "done", (0.1, score(p)), (1.0, 2.0))
        for i, p in enumerate(points("sobol", space, count, seed=0))
    ]


def test_the_importance_of_keys_is_that_of_the_variance_they_cause():
    values = importances(SPACE, results_of(lambda p: math.log10(p["lr"]) + 0.5 * (p["optimizer"] == "adam")))
    assert list(values)[:2] == ["lr", "optimizer"]
    assert values["lr"] > 0.7
    assert max(values["momentum"], values["depth"]) < 0.05
    assert sum(values.values()) == pytest.approx(1)


def test_few_trials_or_equal_scores_have_no_importance():
    assert importances(SPACE, results_of(lambda p: math.log10(p["lr"]), count=8)) == {}
    assert importances(SPACE, results_of(lambda p: 0.5)) == {}


def test_axes_have_the_scale_of_their_key_and_lines_at_the_borders():
    results = results_of(lambda p: math.log10(p["lr"]))
    figure = figures.space_figure([SPACE, SPACE], [results, results[:8]], "accuracy")
    by_name = {ax.get_xlabel(): ax for ax in figure.axes}
    assert by_name["lr"].get_xscale() == "log"
    assert by_name["momentum"].get_xscale() == "function"
    assert by_name["depth"].get_xscale() == "linear"
    assert [t.get_text() for t in by_name["optimizer"].get_xticklabels()] == ["sgd", "adam"]
    borders = {round(float(np.asarray(line.get_xdata())[0]), 6) for line in by_name["lr"].lines}
    assert borders == {0.0001, 1.0}


def test_isolation_shows_the_best_of_each_part_of_a_range():
    results = results_of(lambda p: -abs(math.log10(p["lr"]) + 2) - p["depth"])
    figure = figures.isolation_figure(SPACE, results, "score")
    best = {ax.get_xlabel(): np.asarray(ax.lines[0].get_ydata(), float) for ax in figure.axes if ax.lines}
    for i in range(6):  # parts of two thirds of a decade
        low = -4 + i * 4 / 6
        inside = [r.score for r in results if low <= math.log10(r.point["lr"]) < low + 4 / 6]
        assert best["lr"][i] == pytest.approx(max(inside))


@pytest.mark.parametrize("count", [1, 3, 64])
def test_every_plot_can_be_drawn_of_any_number_of_trials(count):
    conditional = Space(
        (*SPACE.dimensions, Dimension("adam.eps", "eps", distribution("log(1e-8,1e-3)"), "optimizer", "adam"))
    )
    results = results_of(lambda p: random.Random(str(p)).random(), conditional, count)
    results.append(Result(Entry(count, "planned", {}), results[0].point, None, "diverged"))
    results.append(Result(Entry(count + 1, "default", {}), {}, 0.5, "done", (0.5,), (1.0,)))
    for figure in (
        figures.space_figure([conditional, conditional], [results, []], "x"),
        figures.isolation_figure(conditional, results, "x"),
        figures.parallel_figure(conditional, results, "x"),
        figures.curves_figure([("stage-1", results)], "x"),
        figures.narrowing_figure([conditional, conditional], [results, []]),
    ):
        assert figure is not None
        figure.canvas.draw()


def test_the_expected_gain_is_that_of_a_simulation():
    scores = [random.Random(i).random() for i in range(20)]
    rng = random.Random(0)
    simulated = np.mean([max(rng.sample(scores, 10)) for _ in range(20_000)])
    assert expected_gain(scores) == pytest.approx(max(scores) - simulated, abs=2e-3)
    assert expected_gain(scores[:3]) is None


def test_the_status_line_names_the_best_and_counts_the_rest():
    results = results_of(lambda p: p["lr"], count=8)
    text = status(
        "stage-1", results, {"running": 2, "done": 8, "pruned": 1, "failed": 3}, 16, "validation_accuracy", 75.0
    )
    assert text.startswith("stage-1: 12 of 16 trials, best ")
    for part in ("2 running", "1 pruned", "3 failed", "doubling the trials may gain", "1min15s left"):
        assert part in text


def test_on_a_terminal_the_status_is_renewed_and_lines_stay(capsys):
    progress = Progress()
    progress.live = True
    progress.show("a long status")
    progress.line("a line")
    progress.show("short")
    out = capsys.readouterr().out
    assert out.endswith("a line\nshort")
    assert "\r" + " " * len("a long status") + "\r" in out


def test_warnings_name_borders_that_remain_and_many_lost_trials(tmp_path):
    def objective(tree):
        return math.nan if tree["optimizer"]["weight_decay"] > 1e-5 else tree["optimizer"]["lr"]

    found = warnings(searched(tmp_path, objective, "job.epochs=[1]", "job.trials=[16]", "job.seeds=0"))
    assert any("the best optimizer.lr is still near the upper border" in w for w in found)
    assert any("diverged or failed: a smaller space is better" in w for w in found)


def test_every_trial_is_a_session_of_tensorboards_hparams(tmp_path):
    session = searched(tmp_path / "s", bowl, "job.epochs=[2]", "job.trials=[4]", "job.seeds=1", "job.pruner=none")
    write_trials(tmp_path / "events", [("stage-1", session.stages[0].results)], "validation_accuracy")
    runs = sorted((tmp_path / "events").iterdir())
    assert (
        len(runs)
        == len(session.stages[0].results)
        == len(trials_csv(session).splitlines()) - 1 - len(session.repetitions)
    )
    events = EventAccumulator(str(runs[1]))
    events.Reload()
    result = session.stages[0].results[1]
    assert [e.value for e in events.Scalars("2_accuracy/validation")] == pytest.approx(result.curve)
    data = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(data).session_start_info.hparams
    assert values["optimizer.lr"].number_value == pytest.approx(result.point["optimizer.lr"])
