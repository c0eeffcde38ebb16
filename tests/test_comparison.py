"""Comparison: varied keys, groups over seeds, intervals and effects of synthetic outcomes; the job on real sweeps; reports."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import cv2
import pytest

from trainer.analysis.comparison import (
    Outcome,
    differences_to_best,
    effects,
    flat_settings,
    group_runs,
    significant,
    varied_keys,
)
from trainer.analysis.intervals import difference
from trainer.config.options import OptionFiles
from trainer.errors import ConfigError
from trainer.jobs.compare import edge_warnings
from trainer.jobs.compare_tables import group_rows
from trainer.records import read_jsonl, read_result
from trainer.run_dir import find_run_dir, read_config, write_json

SMALL = ("data=fake", "data.size=8", "data.count=300", "architecture.widths=[4]", "epochs=2", "observer=[jsonl]")


def outcome(score: float | None, **settings: object) -> Outcome:
    return Outcome(f"run{score}", {"seed": 0, "optimizer": "SGD", "optimizer.lr": 0.1, **settings}, score)


def test_runs_that_differ_only_in_seed_or_directory_form_a_group():
    runs = [outcome(0.8, seed=0), outcome(0.9, seed=1), outcome(0.5, **{"optimizer.lr": 1.0})]
    tree = {"seed": 3, "output": "a", "engine": {"threads": 2}, "optimizer": {"_target_": "x.SGD", "lr": 0.1}}
    assert flat_settings(tree) == {"seed": 3, "optimizer": "SGD", "optimizer.lr": 0.1}
    groups = group_runs(runs)
    assert varied_keys(runs) == ["optimizer.lr"]
    assert [g.scores for g in groups] == [[0.8, 0.9], [0.5]]
    assert groups[0].interval().mean == pytest.approx(0.85)


def test_a_key_below_an_option_counts_only_between_runs_with_the_same_option():
    a, b = outcome(0.5), outcome(0.6, optimizer="Adam", **{"optimizer.lr": 0.001})
    assert varied_keys([a, b]) == ["optimizer"]
    assert varied_keys([a, b, outcome(0.7, **{"optimizer.lr": 0.2})]) == ["optimizer", "optimizer.lr"]


def test_a_list_option_that_only_some_runs_have_is_one_difference():
    mixup = {"regularizer.mixup": "Mixup", "regularizer.mixup.alpha": 0.2}
    assert varied_keys([outcome(0.5), outcome(0.6, **mixup)]) == ["regularizer.mixup"]


def test_differences_have_welchs_interval_which_decides_their_significance():
    scores = {1: (0.80, 0.81, 0.82), 2: (0.90, 0.91, 0.92)}
    runs = [outcome(s, seed=i, width=w) for w, values in scores.items() for i, s in enumerate(values)]
    small, large = group_runs(runs)
    to_best = differences_to_best([small, large])
    assert to_best[0] == difference(large.scores, small.scores)
    assert significant(to_best[0]) is True
    assert to_best[1].mean == 0
    assert differences_to_best([small, large], higher_is_better=False)[0].mean == 0
    assert significant(difference([0.5], [0.6])) is None


def test_the_effect_of_a_key_is_measured_while_all_others_are_equal():
    """A full cross of two keys: width adds exactly .1, depth .02, so the intervals are zero."""
    runs = [outcome(0.5 + 0.1 * w + 0.02 * d, width=w, depth=d) for w in (0, 1) for d in (0, 1, 2)]
    by_key = {(row["key"], row["to"]): row for row in effects(group_runs(runs))}
    assert by_key["width", "1"]["effect"] == pytest.approx(0.1)
    assert by_key["width", "1"]["pairs"] == 3
    assert by_key["depth", "2"]["effect"] == pytest.approx(0.04)
    assert by_key["depth", "2"]["half"] == pytest.approx(0.0, abs=1e-12)
    assert by_key["width", "1"]["significant"]


def test_a_run_without_a_score_is_counted_but_not_averaged():
    groups = group_runs([outcome(0.5, width=1), outcome(None, width=1, seed=1), outcome(None, width=2)])
    assert [g.scores for g in groups] == [[0.5], []]
    assert groups[1].interval() is None
    assert differences_to_best(groups)[1] is None
    assert effects(groups) == []
    assert math.isinf(groups[0].interval().half)


def test_a_run_is_labeled_by_the_names_of_its_options_as_typed():
    files = OptionFiles()
    assert all(
        files.option_name("optimizer", files.keys("optimizer", [name])) == name for name in files.groups["optimizer"]
    )
    resnet = files.keys("architecture", ["resnet56"])
    assert files.option_name("architecture", resnet) == "resnet56"
    assert files.option_name("architecture", resnet | {"norm": "group"}) == "resnet56"
    assert files.option_name("optimizer", {"_target_": "torch.optim.RAdam", "lr": 0.1}) == "RAdam"
    tree = {"activation": files.keys("activation", ["tanh"]), "regularizer": {"mixup": {"_target_": "x.Mixup"}}}
    settings = flat_settings(tree, files.option_name)
    assert settings["activation"] == "tanh"
    assert settings["regularizer.mixup"] == "on"


def test_the_job_compares_a_sweep_and_single_run_directories(train, tmp_path):
    assert train("-m", *SMALL, "optimizer.lr=0.05,0.0001", "seed=0,1,2", "output=sweep")[0] == 0
    code, out, err = train("job=compare", "runs=sweep", "output=comparison")
    assert code == 0, err
    assert re.search(r"0\.05\s.*3.*best", out)
    assert re.search(r"0\.0001\s.*3.*(worse|no clear difference)", out)
    assert "±" in out
    assert "warning: the best optimizer.lr, 0.05, is the largest of those compared: larger ones may be better" in err
    text = Path("comparison/compare.md").read_text()
    assert text.startswith("# 6 runs compared by test.accuracy")
    assert "| optimizer.lr | 0.05 -> 0.0001 | 1 |" in text
    rows = list(csv.DictReader(Path("comparison/compare.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "2", "0", "1", "2"]
    assert {row["optimizer.lr"] for row in rows} == {"0.05", "0.0001"}
    assert cv2.imread("comparison/compare.png").std() > 10
    runs = sorted(str(p.parent) for p in Path("sweep").glob("*/config.yaml"))
    code, out, err = train(
        "job=compare", f"runs=['{runs[0]}','{runs[3]}']", "job.score=last.validation.loss", "output=two"
    )
    assert code == 0, err
    assert "unknown: single run" in out
    assert train("job=compare", "runs=sweep/*seed=0*", "output=three")[0] == 0
    assert Path("three/compare.md").read_text().startswith("# 2 runs compared")


def test_a_best_value_at_the_edge_is_reported_unless_nothing_is_allowed_beyond_it():
    def warnings(key: str, scores: dict[object, float]) -> list[str]:
        tree = {"optimizer": {"_target_": "trainer.optimizers.SGD"}}
        return edge_warnings(group_runs([outcome(s, **{key: v}) for v, s in scores.items()]), "test.accuracy", tree)

    assert warnings("optimizer.lr", {0.1: 0.7, 0.2: 0.9, 0.4: 0.8}) == []
    assert "0.4, is the largest" in warnings("optimizer.lr", {0.1: 0.7, 0.2: 0.8, 0.4: 0.9})[0]
    assert "0.1, is the smallest" in warnings("optimizer.lr", {0.1: 0.9, 0.2: 0.8})[0]
    assert warnings("optimizer.weight_decay", {0.0: 0.9, 0.1: 0.8}) == [], "a weight decay cannot be less than 0"
    assert warnings("activation", {"ReLU": 0.9, "Tanh": 0.8}) == []


@pytest.mark.parametrize(("overrides", "parts"), [
    ([], ["runs: must be given"]),
    (["runs=nowhere"], ["runs = 'nowhere'", "no such directory"]),
    (["runs=empty"], ["runs = 'empty'", "contains no runs"]),
    (["runs=empty/*"], ["runs = 'empty/*'", "matches no run directory"]),
    (["runs=[one]"], ["names only one run"]),
    (["runs=both", "job.score=test.f1"], ["job.score = 'test.f1'", "is not a score of any of the runs", "test.accuracy"]),
])  # fmt: skip
def test_a_wrong_comparison_is_an_error_with_the_key_and_the_scores_there_are(overrides, parts, train, tmp_path):
    Path("empty").mkdir()
    if "runs=[one]" in overrides:
        assert train(*SMALL, "output=one")[0] == 0
    if "runs=both" in overrides:
        assert train("-m", *SMALL, "seed=0,1", "output=both")[0] == 0
    code, _, err = train("job=compare", *overrides)
    assert code == 2
    assert all(part in err for part in parts), err
    assert "Traceback" not in err


def test_the_report_is_regenerated_from_the_files_alone_with_its_plots_embedded(train, tmp_path):
    assert train("data=digits", "architecture.widths=[4,8]", "epochs=2", "output=run")[0] == 0
    first = Path("run/report.md").read_text()
    for name in ("report.md", "report.html", "report/curves.png", "report/steps.png", "report/distributions.png"):
        Path("run", name).unlink()
    Path("run").rename("moved")
    code, out, err = train("job=report", "run=moved")
    assert code == 0, err
    assert "moved/report.md" in out
    assert Path("moved/report.md").read_text() == first
    names = re.findall(r"\]\(report/(\w+)\.png\)", first)
    assert names == [
        "curves",
        "steps",
        "distributions",
        "filters",
        "batch",
        "confusion",
        "misclassified",
        "grad_cam",
        "embedding",
    ]
    assert all(cv2.imread(f"moved/report/{name}.png").std() > 5 for name in names)
    page = Path("moved/report.html").read_text()
    assert page.count("data:image/png;base64,") == len(names) - 1, "the curves are drawn as SVG"
    assert page.count("<polyline") == 5, "loss and accuracy of two splits, and the learning rate"
    assert not re.search(r"(src|href)=.(http|report/)", page)


@pytest.mark.slow
def test_the_report_of_a_killed_run_is_written_from_the_files_it_left(train, tmp_path):
    assert train("data=digits", "architecture.widths=[4]", "epochs=2", "output=run")[0] == 0
    for name in ("result.json", "findings.json", "predictions.json", "report.md", "dataset_info.json"):
        Path("run", name).unlink()
    history = Path("run/history.jsonl")
    history.write_text(history.read_text()[:-40])  # it was writing the second epoch
    assert train("job=report", "run=run")[0] == 0
    text = Path("run/report.md").read_text()
    assert "killed before its end" in text
    assert text.count("\n| 1 |") == 1
    assert "\n| 2 |" not in text


@pytest.mark.parametrize(("overrides", "parts"), [
    ([], ["run: must be given"]),
    (["run=nowhere"], ["no such directory"]),
    (["run=."], ["is not a run directory", "it contains the runs one"]),
])  # fmt: skip
def test_a_report_without_a_run_is_an_error_with_a_hint(overrides, parts, train, tmp_path):
    Path("one").mkdir()
    Path("one/config.yaml").write_text("seed: 0\n")
    code, _, err = train("job=report", *overrides)
    assert code == 2
    assert all(part in err for part in parts), err


def test_results_of_earlier_releases_are_read_with_the_current_names(train, tmp_path):
    old = {"status": "finished", "stop_reason": "tested", "range_test": {"floor": 0.01, "fixed": 0.05, "peak": 0.2}}
    old["reliability"] = [{"pictures": 3}]
    for name, factor in (("a", 1.0), ("b", 2.0)):
        scaled = {k: v * factor for k, v in old["range_test"].items()}
        write_json(tmp_path / name / "result.json", old | {"range_test": scaled})
        (tmp_path / name / "config.yaml").write_text(f"seed: 0\nepochs: {factor}\n")
    assert read_result(tmp_path / "a")["range_test"] == {"min_lr": 0.01, "suggested_lr": 0.05, "max_lr": 0.2}
    assert read_result(tmp_path / "a")["reliability"] == [{"images": 3}]
    assert read_result(tmp_path) == {}
    code, out, err = train("job=compare", "runs=[a,b]", "job.score=range_test.suggested_lr", "output=comparison")
    assert code == 0, err
    assert "0.0500" in out


@pytest.mark.parametrize("text", ["- a list", "seed: [", "\t:"])
def test_a_damaged_config_of_a_run_is_an_error_with_its_key(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"runs = .*config\.yaml"):
        read_config(find_run_dir("runs", str(tmp_path)), "runs")


def test_an_incomplete_row_of_a_killed_run_is_not_read(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"ep')
    assert read_jsonl(tmp_path / "history.jsonl") == [{"epoch": 1}, {"epoch": 2}]
    assert read_jsonl(tmp_path / "missing.jsonl") == []


def test_a_table_row_shows_whether_a_higher_score_is_better():
    groups = group_runs([outcome(s + 0.01 * i, seed=i, width=w) for w, s in ((1, 0.2), (2, 0.8)) for i in range(3)])
    assert [row[0] for row in group_rows("test.accuracy", groups, 0.95)] == ["2", "1"]
    assert [row[0] for row in group_rows("test.loss", groups, 0.95)] == ["1", "2"]
