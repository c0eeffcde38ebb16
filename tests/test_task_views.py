"""What one sees of every kind of task: predictions, tables, curves, TensorBoard's events, findings, comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.evaluation import logits
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.jobs.fit import summary
from trainer.observers.context import Context
from trainer.observers.options import Predictions
from trainer.observers.predicted import KINDS, PredictedNumbers

SMALL = (
    "data.limit=200", "data.validation=120", "architecture.widths=[4]", "device=cpu", "precision=float32", "regularizer=[]",
    "augmentation=none",
)  # fmt: skip
MULTI = ("data=mnist5k_multitask", "task=multitask", *SMALL)


def outputs_of(run: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets of all validation images, of the run's present weights."""
    run.model.eval()
    with torch.inference_mode():
        pairs = [(logits(run.model, x, run.precision).double(), y) for x, y in run.validation.batches(0)]
    return tuple(torch.cat(columns).numpy() for columns in zip(*pairs, strict=True))  # pyright: ignore


@pytest.fixture(scope="module")
def multitask(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run of six tasks after two epochs, with what the observer of predictions wrote."""
    folder = tmp_path_factory.mktemp("multitask")
    run = build(load_config([*MULTI, "epochs=2", "averaging=ema"]), folder)
    fit(run)
    context = Context(run)
    Predictions(worst=3).build(context).on_fit_end(RunView(run), {"status": "finished"})
    context.event_writer.close()
    return run, folder


def test_every_task_has_an_entry_and_figures_of_its_own(multitask):
    _, folder = multitask
    content = json.loads((folder / "predictions.json").read_text())
    assert content["split"] == "validation"
    assert list(content["tasks"]) == ["digit", "parity", "loops", "properties", "slant", "ink"]
    names = {path.stem for path in (folder / "report").glob("*.png")}
    classes = {
        f"{kind}_{task}" for kind in ("confusion", "misclassified", "grad_cam") for task in ("digit", "parity", "loops")
    }
    numbers = {f"{kind}_{task}" for kind in ("predicted", "largest_errors") for task in ("slant", "ink")}
    assert names == classes | numbers | {"labels_properties", "embedding"}


def test_predictions_of_each_task_are_those_of_scikit_learn(multitask):
    run, folder = multitask
    tasks = json.loads((folder / "predictions.json").read_text())["tasks"]
    with RunView(run).best_weights():
        z, y = outputs_of(run)
    digit = tasks["digit"]["confusion"]
    assert digit == confusion_matrix(y[:, :10].argmax(1), z[:, :10].argmax(1), labels=range(10)).tolist()
    columns = run.task.parts[3].values
    probabilities = 1 / (1 + np.exp(-z[:, columns]))
    for k, label in enumerate(tasks["properties"]["labels"]):
        assert label["threshold"] == run.task.thresholds["model"]["properties"][k]
        predicted, truth = probabilities[:, k] >= label["threshold"], y[:, columns][:, k] > 0.5
        assert label["precision"] == pytest.approx(precision_score(truth, predicted))
        assert label["recall"] == pytest.approx(recall_score(truth, predicted))
    slant, numbers = run.task.parts[4], run.validation.dataset.target("slant")[:, 0]
    errors = np.abs(0.1 * z[:, slant.outputs][:, 0] * slant.spec.std[0] + slant.spec.mean[0] - numbers)
    assert tasks["slant"]["targets"][0]["mae"] == pytest.approx(errors.mean(), rel=1e-5)
    largest = tasks["slant"]["largest_errors"]
    assert [error["index"] for error in largest] == np.argsort(-errors)[:3].tolist()
    assert largest[0]["true"] == pytest.approx(numbers[largest[0]["index"]], rel=1e-5)


def test_images_without_a_label_are_left_out():
    run = build(load_config([*MULTI, "task.tasks={digit:{},slant:{}}"]))
    for part in run.task.parts:
        part.spec.masked = True
    digit, slant = (type(p)(p.option, p.spec, b, v) for p, b, v in zip(run.task.parts, (0, 10), (0, 11), strict=True))
    outputs, y = torch.zeros(3, 11), torch.zeros(3, 13)
    y[:, 0] = y[:, 10] = 1.0  # digit 0 and its mask
    outputs[:, 1] = 1.0  # digit 1 is predicted
    y[1, 10] = 0.0
    y[:, 11], y[:, 12] = 5.0, torch.tensor([1.0, 1.0, 0.0])  # slant and its mask
    x = torch.zeros(3, 1, 28, 28)
    classes, numbers = KINDS["classification"](digit, 5), PredictedNumbers(slant, 5)
    for predicted in (classes, numbers):
        predicted.add(x, outputs, y, 100)
    content = classes.content()
    assert content["confusion"][0][1] == np.sum(content["confusion"]) == 2
    assert [error["index"] for error in content["misclassified"]] == [100, 102]
    assert numbers.content()["targets"][0]["images"] == 2
    assert [error["index"] for error in numbers.content()["largest_errors"]] == [100, 101]


@pytest.mark.parametrize(("overrides", "key", "figures"), [
    (("task=multilabel", "task.target=properties"), "labels", {"labels"}),
    (("task=regression", "task.target=slant"), "targets", {"predicted", "largest_errors"}),
])  # fmt: skip
def test_a_single_task_needs_no_name(overrides, key, figures, tmp_path):
    run = build(load_config([*MULTI, *overrides, "epochs=1"]), tmp_path)
    fit(run)
    Predictions().build(Context(run)).on_fit_end(RunView(run), {"status": "finished"})
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert key in content
    assert "tasks" not in content
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == {*figures, "embedding"}


def test_the_images_of_a_batch_have_a_line_per_task():
    from trainer.observers.images import first_batch

    run = build(load_config([*MULTI]))
    *_, captions, _ = first_batch(run, 2)
    index = next(run.train.indices(0, 0))[1][0]
    digit = run.train.dataset.labels[index]
    assert captions[0].split("\n")[:2] == [str(digit), "odd" if digit % 2 else "even"]
    assert captions[0].endswith("… 3 more")


def table_of(run: Any, width: int = 160) -> list[str]:
    from trainer.observers.epoch_table import EpochTable

    view = RunView(run)
    table = EpochTable(view, width)
    return [
        "; ".join(table.notes()),
        table.heading(),
        *(table.line(view, row, i) for i, row in enumerate(view.history)),
    ]


def test_the_table_of_a_classification_has_the_columns_of_accuracy():
    note = "lr: mean over the epoch's steps; *: best validation_accuracy so far"
    run = build(load_config(["data=digits", "averaging=ema"]))
    heading = "  epoch        lr  train loss  train acc  val loss   val acc   avg acc  images/s   seconds"
    assert table_of(run) == [note, heading]
    left_out = "too wide for: train acc, train loss, lr, images/s, seconds (the history has all)"
    assert table_of(run, 41) == [
        f"{left_out}; *: best validation_accuracy so far",
        "  epoch  val loss   val acc   avg acc",
    ]
    assert table_of(run, 10)[1] == "  epoch   avg acc"


@pytest.mark.parametrize(("overrides", "columns"), [
    (("task=multilabel", "task.target=properties"), ["train label acc", "val loss", "val map", "images/s"]),
    (("task=regression", "task.target=slant", "averaging=ema"), ["train mae", "val loss", "val mae", "avg mae", "images/s"]),
    (("task=classification", "task.target=digit", "task.metrics=[balanced_accuracy]", "metric=validation_balanced_accuracy"),
     ["train acc", "val loss", "val acc", "val balanced acc", "images/s"]),
])  # fmt: skip
def test_the_table_has_the_metrics_of_the_task_and_the_one_that_decides(overrides, columns):
    _, heading = table_of(build(load_config([*MULTI, *overrides])))
    positions = [heading.index(column) for column in columns]
    assert positions == sorted(positions)


def test_the_table_of_several_tasks_drops_columns_from_the_right_and_says_which(multitask):
    run, _ = multitask
    note, heading, *lines = table_of(run)
    assert "too wide for: parity loss" in note
    assert all(f"  {task}" in heading for task in ("digit acc", "properties map", "ink mae"))
    row = run.history[-1]
    assert f"{100 * row['validation_digit_accuracy']:.2f} %" in lines[-1]
    assert f"{row['validation_slant_mae']:#.4g}" in lines[-1]
    assert all(len(line) <= 160 for line in (heading, *lines))
    narrow_note, narrow, *_ = table_of(run, 100)
    assert "digit acc" in narrow
    assert "ink mae" not in narrow
    assert "ink mae" in narrow_note
    assert "too wide" not in table_of(run, 400)[0]
    assert "ink loss" in table_of(run, 400)[1]


def test_progress_within_an_epoch_shows_the_running_metric_of_each_task(multitask):
    from trainer.observers.epoch_table import outputs_text, running_text

    run, _ = multitask
    metrics = {
        name.removeprefix("train_"): value for name, value in run.history[-1].items() if name.startswith("train_")
    }
    text = running_text(run.task, metrics, 200)
    assert text.startswith(f"loss {metrics['loss']:.4f}  digit acc {100 * metrics['digit_accuracy']:.2f} %  parity acc")
    assert f"slant mae {metrics['slant_mae']:#.4g}" in text
    assert running_text(run.task, metrics, 10) == f"loss {metrics['loss']:.4f}  +6 more"
    assert outputs_text(run.task).endswith("properties (4 labels), slant, ink")
    single = build(load_config(["data=digits"])).task
    assert running_text(single, {"loss": 0.5, "accuracy": 0.25}, 0) == "loss 0.5000  accuracy 25.00 %"
    assert running_text(single, {"loss": 0.5, "accuracy": 0.25}, 0, short=True) == "loss 0.5000  acc 25.00 %"
    assert outputs_text(single) == "10 classes"


def test_the_end_of_a_run_shows_loss_and_main_metric_of_each_task(multitask):
    from trainer.observers.summary import summary_lines

    run, _ = multitask
    result: Any = summary(run)
    lines = summary_lines(RunView(run), result)
    for split in ("validation", "test"):
        scores = result[split]
        begin = next(
            i for i, line in enumerate(lines) if line.startswith(f"{split}: loss {scores['loss']:.4f} (best epoch")
        )
        averaged = result["averaged"][split]["digit_accuracy"]
        text = f"  digit: accuracy {100 * scores['digit_accuracy']:.2f} %, loss {scores['digit_loss']:.4f}"
        assert lines[begin + 1] == f"{text} · averaged weights {100 * averaged:.2f} %"
        assert lines[begin + 5].startswith(f"  slant: mae {scores['slant_mae']:#.4g}, loss")


def test_the_end_of_a_run_with_a_main_task_shows_that_task_alone_of_the_test_images():
    from trainer.columns import tasks_of
    from trainer.observers.summary import score_lines

    whole = {"loss": 2.0, "ink_loss": 0.5, "ink_mae": 0.25, "kind_loss": 1.5, "kind_accuracy": 0.5}
    result: Any = {"best_epoch": 2.0, "validation": whole, "test": {"ink_loss": 0.75, "ink_mae": 0.125}}
    lines = score_lines(result, tasks_of([f"train_{name}" for name in whole]), "validation_ink_mae")
    assert lines[0] == "validation: loss 2.0000 (best epoch 2)"
    assert lines[3] == "test ink: mae 0.1250, loss 0.7500 (best epoch 2)"
    assert len(lines) == 4


def test_the_end_of_a_single_task_shows_the_metric_that_decides_too():
    from trainer.columns import tasks_of
    from trainer.observers.summary import score_lines

    result: Any = {"best_epoch": 2.0, "validation": {"loss": 0.5, "accuracy": 0.9, "kappa": 0.8}, "test": None}
    tasks = tasks_of(["train_loss", "train_accuracy"])
    assert score_lines(result, tasks, "validation_accuracy") == [
        "validation: accuracy 90.00 %, loss 0.5000 (best epoch 2)"
    ]
    assert score_lines(result, tasks, "validation_kappa") == [
        "validation: accuracy 90.00 %, kappa 0.8000, loss 0.5000 (best epoch 2)"
    ]


def test_columns_are_read_as_the_options_of_tasks_name_them():
    from trainer.columns import MAIN, RUNNING
    from trainer.tasks.options import KINDS as OPTIONS

    assert {option.running_metric for option in OPTIONS.values()} == set(RUNNING)
    assert all(
        MAIN.get(option.running_metric, option.running_metric) == option.main_metric for option in OPTIONS.values()
    )


def findings_of(run: Any, **info: Any) -> dict[str, Any]:
    from trainer.analysis.diagnosis import diagnose
    from trainer.observers.diagnosis import dataset_info

    facts: Any = {**dataset_info(RunView(run)), "status": "finished", **info}
    return {finding.name: finding for finding in diagnose(run.history.rows, [], facts)}


def with_curves(run: Any, **curves: list[float]) -> Any:
    """The run with a history of given columns."""
    from trainer.history import History

    length = max(map(len, curves.values()))
    common = {"phase": "train", "lr": 0.1, "momentum": None, "seconds": 1.0, "images_per_second": 1.0}
    rows: Any = [
        {**common, "epoch": i + 1.0, "step": 100 * (i + 1), **{name: values[i] for name, values in curves.items()}}
        for i in range(length)
    ]
    run.history = History(rows)
    return run


def test_each_of_several_tasks_is_judged_by_its_own_columns_and_never_by_the_sum():
    run = build(load_config([*MULTI, "task.tasks={digit:{},slant:{},properties:{}}", "task.weighting=uncertainty"]))
    falling = [2.0, 1.0, 0.1, 0.01]
    findings = findings_of(with_curves(
        run, train_loss=[9.0] * 4, validation_loss=[99.0] * 4,
        train_digit_loss=falling, validation_digit_loss=[2.2, 1.5, 1.6, 2.9],
        train_digit_accuracy=[0.2, 0.6, 0.9, 1.0], validation_digit_accuracy=[0.2, 0.5, 0.5, 0.5],
        train_slant_loss=[1.0, 1.01, 0.99, 1.0], validation_slant_loss=[1.0, 1.0, 1.0, 1.0],
        train_slant_mae=[0.2] * 4, validation_slant_mae=[0.2] * 4,
        train_properties_loss=[0.6, 0.4, 0.2, 0.1], validation_properties_loss=[0.6, 0.5, 0.5, 0.5],
        train_properties_label_accuracy=[0.6, 0.8, 0.9, 1.0], validation_properties_label_accuracy=[0.6, 0.8, 0.8, 0.8],
        validation_properties_map=[0.6, 0.9, 0.8, 0.7],
    ))  # fmt: skip
    assert set(findings) == {"digit: overfitting", "slant: not learning", "properties: overfitting"}
    assert "its best was 0.9" in findings["properties: overfitting"].evidence
    assert "0.7" in findings["properties: overfitting"].evidence


def test_numbers_are_compared_with_the_best_constant_and_overfit_by_their_main_metric():
    run = build(load_config([*MULTI, "task=regression", "task.target=slant"]))
    guessing = run.task.parts[0].guessing_loss()
    assert guessing == pytest.approx(1, abs=0.01)
    curves = {"train_mae": [0.2] * 4, "validation_mae": [0.2, 0.1, 0.1, 0.1]}
    names = findings_of(with_curves(run, train_loss=[1.0] * 4, validation_loss=[guessing] * 4, **curves))
    assert set(names) == {"not learning"}
    assert f"{guessing:.3f}" in names["not learning"].evidence
    curves["validation_mae"] = [0.2, 0.1, 0.11, 0.14]
    train, validation = [0.9, 0.3, 0.2, 0.1], [0.9, 0.3, 0.35, 0.38]
    assert set(findings_of(with_curves(run, train_loss=train, validation_loss=validation, **curves))) == {"overfitting"}
    curves["validation_mae"] = [0.2, 0.1, 0.08, 0.06]
    names = findings_of(with_curves(run, train_loss=train, validation_loss=[0.9, 0.3, 0.2, 0.15], **curves))
    assert set(names) <= {"good fit", "still improving"}


def test_class_imbalance_of_a_task_names_metric_weights_and_sampling_that_are_not_used_yet():
    def attempt(name: str, *overrides: str) -> str:
        run = build(load_config([*MULTI, *overrides]))
        for part in run.task.parts:
            if part.has_classes:
                part.spec.counts = (100, *([5] * (part.size - 1)))
        run = with_curves(run, train_loss=[1.0])
        return " or ".join(findings_of(run)[name].attempt)

    single = ("task=classification", "task.target=loops")
    assert attempt("class imbalance", *single).startswith(
        "task.class_weights=balanced or data.sampling=balanced or metric=validation_balanced_accuracy"
    )
    for used in ("task.class_weights=balanced", "data.sampling=balanced"):
        text = attempt("class imbalance", *single, used)
        assert "metric=validation_balanced_accuracy" in text
        assert "class_weights" not in text
        assert "sampling" not in text
    override, metric, *_ = attempt("loops: class imbalance").split(" or ")
    assert metric == "metric=validation_loops_balanced_accuracy"
    run = build(load_config([*MULTI, metric, override]))
    assert run.task.parts[2].class_weights() is not None
    assert run.metric in [f"validation_{name}" for name in run.task.evaluate(torch.zeros(2, 21), torch.zeros(2, 21))]


def test_tensorboard_has_a_section_per_task_and_the_learned_weights(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from trainer.observers.options import TensorBoard

    run = build(load_config([*MULTI, "task.weighting=dwa", "task.main=digit", "epochs=2"]), tmp_path)
    context = Context(run)
    observer = TensorBoard().build(context)
    fit(run, [observer])
    observer.on_result(RunView(run), {"status": "finished"})
    context.event_writer.close()

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    curves = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for split in ("train", "validation"):
        assert curves[f"1_loss/{split}"] == pytest.approx(run.history.column(f"{split}_loss"), rel=1e-6)
        for task, metric in (("digit", "accuracy"), ("slant", "mae")):
            values = run.history.column(f"{split}_{task}_{metric}")
            assert curves[f"2_{task}/{metric}_{split}"] == pytest.approx(values, rel=1e-6)
    maps = run.history.column("validation_properties_map")
    assert curves["2_properties/map_validation"] == pytest.approx(maps, rel=1e-6)
    assert curves["2_loss_weight/digit"] == pytest.approx(run.history.column("weight_digit"), rel=1e-6)
    assert len(curves["2_loss_weight/ink"]) == 2
    assert len(curves["*best/digit_accuracy_validation"]) == 2


def test_the_metric_that_decides_is_among_those_of_hparams():
    from trainer.columns import tasks_of
    from trainer.observers.tensorboard import hparams_metrics

    tasks = tasks_of(["train_loss", "train_accuracy"])
    assert hparams_metrics(tasks, "validation_accuracy") == ["accuracy", "loss"]
    assert hparams_metrics(tasks, "validation_kappa") == ["kappa", "accuracy", "loss"]
