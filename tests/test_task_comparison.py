"""Comparison of runs by the metrics of their tasks, and of tasks alone with tasks together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from trainer.analysis.comparison import Outcome, group_runs
from trainer.analysis.scores import own_score
from trainer.analysis.transfer import transfers
from trainer.jobs.compare_tables import group_rows, transfer_findings
from trainer.run_dir import write_json, write_text

ALONE = {"task": "classification", "task.target": "digit", "architecture": "cnn"}
TOGETHER = {"task": "multitask", "task.weighting": "fixed", "architecture": "cnn"}


def single(value: float, seed: int, metric: str = "accuracy", **settings: Any) -> Outcome:
    scores = {"test.loss": 0.5, f"test.{metric}": value}
    return Outcome("alone", {**ALONE, "seed": seed, **settings}, value, (), scores)


def several(digit: float, seed: int, **settings: Any) -> Outcome:
    scores = {
        "test.loss": 2.0, "test.digit_loss": 0.5, "test.digit_accuracy": digit, "test.slant_loss": 1.0,
        "test.slant_mae": 0.1 + digit / 100,
    }  # fmt: skip
    return Outcome("together", {**TOGETHER, "seed": seed, **settings}, 2.0, (), scores)


def test_a_task_that_does_better_alone_is_negative_transfer_with_welchs_interval():
    alone, together = [0.95, 0.96, 0.97], [0.90, 0.92, 0.91]
    runs = [single(v, i) for i, v in enumerate(alone)] + [several(v, i) for i, v in enumerate(together)]
    (found,) = transfers(group_runs(runs))
    bounds = stats.ttest_ind(together, alone, equal_var=False).confidence_interval(0.95)
    assert found.difference.low == pytest.approx(bounds.low)
    assert found.difference.high == pytest.approx(bounds.high)
    assert found.verdict == "better alone"
    (finding,) = transfer_findings([found])
    assert finding.startswith("negative transfer: digit does better alone than with task=multitask")
    assert "96.00 % and 91.00 %, a difference of -5.00 % ± " in finding


def test_a_lower_error_with_others_is_better_with_others():
    slant = {"task": "regression", "task.target": "slant"}
    runs = [single(v, i, "mae", **slant) for i, v in enumerate((0.20, 0.21, 0.22))]
    runs += [several(v, i) for i, v in enumerate((0.90, 0.92, 0.91))]
    (found,) = transfers(group_runs(runs))
    assert (found.target, found.metric, found.verdict) == ("slant", "test.mae", "better with others")
    assert transfer_findings([found]) == []


def test_runs_that_differ_in_more_than_the_task_are_not_compared():
    runs = [single(0.9, 0, architecture="mlp"), several(0.8, 0), several(0.8, 0, architecture="mlp")]
    found = transfers(group_runs(runs))
    assert [t.verdict for t in found] == ["unknown: single run"]
    assert "architecture=mlp" in found[0].setting


def test_a_task_of_another_name_is_found_by_its_target():
    runs = [single(0.9, 0, **{"task.target": "number"}), several(0.8, 0, **{"task.tasks.digit.target": "number"})]
    assert [t.target for t in transfers(group_runs(runs))] == ["number"]
    assert transfers(group_runs([single(0.9, 0, **{"task.target": "parity"}), several(0.8, 0)])) == []


def test_the_score_is_the_runs_own_metric_and_runs_of_other_tasks_have_none():
    accuracy: Any = {"metric": "validation_accuracy", "test": {"loss": 0.1, "accuracy": 0.9}}
    mae: Any = {"metric": "validation_mae", "validation": {"loss": 0.1, "mae": 0.9}, "test": None}
    averaged: Any = {
        "metric": "averaged_accuracy",
        "averaged": {"test": {"accuracy": 0.8}},
        **{"test": accuracy["test"]},
    }
    sums: Any = {"metric": "validation_loss", "test": {"loss": 3.0, "a_loss": 1.0, "a_accuracy": 0.5}}
    by_loss: Any = {"metric": "validation_loss", "test": {"loss": 0.1, "accuracy": 0.9}}
    assert own_score([accuracy, {}]) == ("test.accuracy", [True, False])
    assert own_score([mae, mae]) == ("validation.mae", [True, True])
    assert own_score([averaged]) == ("averaged.test.accuracy", [True])
    assert own_score([by_loss, by_loss, accuracy]) == ("test.loss", [True, True, True])
    assert own_score([by_loss, by_loss, sums]) == ("test.loss", [True, True, False])
    assert own_score([{}, {}]) == ("test.accuracy", [False, False])


def test_small_errors_keep_their_digits_and_the_lowest_comes_first():
    groups = group_runs([single(v, i, "mae", width=w) for w, v in ((1, 0.00123), (2, 0.00117)) for i in range(2)])
    rows = group_rows("test.mae", groups, 0.95)
    assert [row[0] for row in rows] == ["2", "1"]
    assert rows[0][2].startswith("0.001170")


def write_run(place: Path, task: str, scores: dict[str, float], metric: str, seed: int) -> None:
    write_text(place / "config.yaml", f"seed: {seed}\n{task}")
    content = {"status": "finished", "metric": metric, "validation": scores, "test": scores}
    write_json(place / "result.json", content)


def test_the_job_compares_by_any_metric_and_tells_which_task_does_better_alone(train, tmp_path):
    target = "task:\n  _target_: trainer.tasks.Classification\n  target: digit\n"
    several_tasks = "task:\n  _target_: trainer.tasks.Multitask\n  tasks: null\n  weighting: fixed\n"
    for seed, (a, b) in enumerate(((0.95, 0.90), (0.96, 0.91), (0.97, 0.90))):
        scores = {"loss": 0.1, "accuracy": a, "balanced_accuracy": a - 0.1}
        write_run(tmp_path / "runs" / f"a{seed}", target, scores, "validation_accuracy", seed)
        scores = {"loss": 3.0, "digit_loss": 0.2, "digit_accuracy": b, "ink_loss": 1.0, "ink_mae": 0.03}
        write_run(tmp_path / "runs" / f"b{seed}", several_tasks, scores, "validation_loss", seed)
    code, out, err = train("job=compare", "runs=runs", "output=all")
    assert code == 0, err
    text = Path("all/compare.md").read_text()
    assert text.startswith("# 6 runs compared by test.accuracy")
    assert "better alone" in out
    assert "* negative transfer" in text
    assert "## Tasks alone and with others" in text
    assert "| test.digit_accuracy |" in text
    assert "job.score names another score" in err
    rows = list(csv.DictReader(Path("all/compare.csv").read_text().splitlines()))
    assert {row["test.digit_accuracy"] for row in rows} == {"", "0.9", "0.91"}
    assert train("job=compare", "runs=runs/a*", "job.score=test.balanced_accuracy", "output=one")[0] == 0
    assert Path("one/compare.md").read_text().startswith("# 3 runs compared by test.balanced_accuracy")
    (tmp_path / "runs/b0/result.json").write_text('{"status": "finished", "images": {"test": 100}}')  # as of job=plan
    assert "other tasks" not in train("job=compare", "runs=[runs/a0,runs/b0]", "output=planned")[2]


def test_the_table_of_a_sweep_shows_the_runs_own_metric():
    from trainer.sweep.table import COLUMNS

    accuracy: Any = {"metric": "validation_accuracy", "validation": {"accuracy": 0.5, "loss": 1.0}, "test": None}
    mae: Any = {"metric": "validation_mae", "test": {"loss": 1.0, "mae": 0.031416}}
    averaged: Any = {"metric": "averaged_accuracy", "averaged": {"test": {"accuracy": 0.25}}, "test": {"accuracy": 0.5}}
    assert [COLUMNS["validation"](result) for result in (accuracy, mae, {})] == ["50.00 %", "", ""]
    assert [COLUMNS["test"](result) for result in (accuracy, mae, averaged)] == ["", "mae 0.03142", "25.00 %"]
