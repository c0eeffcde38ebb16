"""The report of every kind of task: its curves, tables and plots."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.jobs.fit import summary
from trainer.observers.diagnosis import dataset_info
from trainer.observers.history_file import write_history
from trainer.report import write_report
from trainer.report.curves import curves_figure, panels
from trainer.report.html import self_contained_html
from trainer.report.page import page
from trainer.run_dir import write_json

SMALL = (
    "data=mnist5k_multitask", "data.limit=200", "data.validation=120", "architecture.widths=[4]", "device=cpu",
    "precision=float32", "regularizer=[]", "augmentation=none",
)  # fmt: skip


def report_of(folder: Path, *overrides: str) -> tuple[Any, str]:
    """A run with files that the report is made of, and the report."""
    run = build(load_config([*SMALL, *overrides]), folder)
    fit(run)
    write_history(folder, run.history)
    write_json(
        folder / "result.json", {"status": "finished", "stop_reason": "finished", "findings": [], **summary(run)}
    )
    write_json(folder / "dataset_info.json", dataset_info(RunView(run)))
    (folder / "report").mkdir()
    for name in ("confusion_digit", "labels_properties", "predicted_slant"):
        (folder / "report" / f"{name}.png").write_bytes(b"")
    return run, write_report(folder).read_text()


@pytest.fixture(scope="module")
def multitask(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    overrides = ("task=multitask", "task.weighting=dwa", "averaging=ema", "data.sampling=balanced", "epochs=3")
    return report_of(tmp_path_factory.mktemp("report"), *overrides)


def lines_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    below = text.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below.splitlines()]


def test_the_report_of_several_tasks_has_all_metrics_and_the_plots_of_each_task(multitask):
    run, text = multitask
    names, _, *rows = lines_of(text, "History")
    assert {"train_digit_loss", "validation_properties_map", "averaged_slant_mae", "weight_ink"} <= set(names)
    assert len(rows) == 3
    assert rows[-1][names.index("validation_ink_mae")] == f"{run.history[-1]['validation_ink_mae']:.4g}"
    for title in ("Confusion matrix: digit", "Labels: properties", "Predicted and true numbers: slant"):
        assert f"## {title}\n" in text
    assert "| properties_map | " in text
    assert "| | best, validation | best, test | averaged, validation |" in text


def test_curves_of_several_tasks_share_a_legend_and_show_the_weights(multitask):
    run, _ = multitask
    rows = list(run.history)
    titles = [panel.title for panel in panels(rows[-1], "")]
    assert titles == [
        "loss, sum over tasks", "digit: accuracy", "parity: accuracy", "loops: accuracy", "properties: map", "slant: mae",
        "ink: mae", "weights of the losses", "learning rate",
    ]  # fmt: skip
    figure = curves_figure(rows)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation", "averaged"]
    with_legend = [axes.get_title() for axes in figure.axes if axes.get_legend() is not None]
    assert with_legend == ["weights of the losses"]
    slant = next(axes for axes in figure.axes if axes.get_title() == "slant: mae")
    assert np.asarray(slant.lines[1].get_ydata()).tolist() == run.history.column("validation_slant_mae")


def test_the_curves_of_a_classification_are_loss_accuracy_and_learning_rate():
    row: Any = {"train_loss": 1.0, "train_accuracy": 0.5, "lr": 0.1}
    plots = panels(row, "cross-entropy, nats")
    assert [(p.title, p.unit) for p in plots] == [
        ("loss", "cross-entropy, nats"), ("accuracy", "fraction of images"), ("learning rate", ""),
    ]  # fmt: skip


def test_the_report_states_the_effective_frequencies_and_the_weights_of_classes(multitask, tmp_path):
    run, text = multitask
    names, _, *rows = lines_of(text, "Classes: digit")
    assert names == ["class", "training images", "images per epoch", "weight in the loss"]
    assert [int(row[1]) for row in rows] == list(run.task.parts[0].spec.counts)
    assert sum(int(row[2]) for row in rows) == 200
    overrides = ("task=classification", "task.target=loops", "task.class_weights=balanced", "task.metrics=[kappa]")
    weighted, text = report_of(tmp_path, *overrides, "epochs=1")
    rows = lines_of(text, "Classes")[2:]
    counts = weighted.task.parts[0].spec.counts
    assert [float(row[3]) for row in rows] == pytest.approx([200 / (3 * n) for n in counts], rel=1e-3)
    assert "| kappa | " in text
    assert json.loads((tmp_path / "dataset_info.json").read_text())["tasks"][0]["class_weights"] is not None


def test_a_single_classification_has_no_table_of_classes_and_scores_by_column(tmp_path):
    _, text = report_of(tmp_path, "task=classification", "task.target=digit", "epochs=1")
    assert "## Classes" not in text
    assert "| | accuracy | loss |\n|---|---|---|\n| best, validation | " in text


def test_the_report_begins_with_scores_findings_and_curves_and_counts_epochs_over_the_phases():
    rows: Any = [
        {"phase": phase, "epoch": 1.0, "step": 3, "train_loss": 1.0, "train_accuracy": 0.25}
        for phase in ("head", "all")
    ]
    score = {"accuracy": 0.5, "loss": 1.0}
    result: Any = {
        "stop_reason": "finished",
        "validation": score,
        "test": score,
        "seconds": 3.0,
        "observer_fraction": 0.5,
    }
    environment: Any = {"begun": "2026-11-28T09:05:00+00:00", "versions": {}}
    text = page(rows, result, (["seed=1"], []), [], {"batch", "curves"}, environment, data=["", "## Data", "", "none"])
    assert text.startswith("# seed=1\n\nfinished, begun 2026-11-28 09:05.\n\n| | accuracy | loss |")
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == ["Findings", "Training curves", "Data", "Training images", "History", "Reproduce"]
    assert "| best, test | 50.00 % | 1 |" in text
    assert "| all | 2 | 1 | 25.00 % |" in text


def test_the_curves_name_the_phases_and_have_whole_epochs():
    rows: Any = [
        {"phase": phase, "epoch": float(epoch), "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5}
        for phase in ("head", "all")
        for epoch in (1, 2)
    ]
    axes = curves_figure(rows).axes[0]
    assert [text.get_text() for text in axes.texts] == ["head", "all"]
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_plots_but_not_photographs_are_marked_to_follow_a_dark_page(tmp_path):
    (tmp_path / "report").mkdir()
    for name in ("curves", "batch"):
        (tmp_path / f"report/{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    html = self_contained_html("![a](report/curves.png)\n\n![b](report/batch.png)", tmp_path)
    assert re.findall(r'class="(\w+)" loading="lazy"', html) == ["plot", "photo"]
