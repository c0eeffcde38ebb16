"""What observers write: TensorBoard's events as read back, the console's lines, the report."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import STATEFUL, history_of, load, result_of, start
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.api_pb2 import Experiment
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from trainer.cli import main

ROOT = Path(__file__).parents[1]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the default observers, whose output was not a terminal."""
    folder = tmp_path_factory.mktemp("run")
    process = start(*STATEFUL, "output=run", "observer.tensorboard.every=1", cwd=folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    (folder / "run" / "out.txt").write_text(out)
    return folder / "run"


def test_train_validation_and_averaged_curves_share_a_section(run):
    rows, curves = history_of(run), scalars(run)
    for split in ("train", "validation", "averaged"):
        for section, name in (("1_loss", "loss"), ("2_accuracy", "accuracy")):
            curve = curves[f"{section}/{split}"]
            assert [step for step, _ in curve] == [row["step"] for row in rows]
            assert [v for _, v in curve] == pytest.approx([row[f"{split}_{name}"] for row in rows], rel=1e-6)


def test_a_run_is_one_line_of_the_run_selector_and_its_sections_are_in_the_order_in_which_one_looks(run):
    assert {path.parent for path in run.rglob("events.*")} == {run}
    events = EventAccumulator(str(run))
    events.Reload()
    tags = [tag for kind in ("scalars", "histograms") for tag in events.Tags()[kind]]
    sections = sorted({tag.split("/")[0] for tag in tags if tag[0].isdigit()})
    assert sections == [
        "1_loss", "2_accuracy", "3_lr", "4_steps", "5_update_to_weight", "6_dead", "7_activations", "8_gradients",
        "9_weights",
    ]  # fmt: skip
    assert {tag.split("/")[0] for tag in tags if not tag[0].isdigit()} == {"*best"}


def test_the_learning_rate_of_every_step_is_written(run):
    curves = scalars(run)
    steps = history_of(run)[-1]["step"]
    assert [step for step, _ in curves["3_lr/used"]] == list(range(1, steps + 1))
    from trainer.schedules import Cosine, Product, Warmup

    schedule = Product((Warmup(), Cosine(total=3)))
    expected = [0.05 * schedule(i / (steps / 3)) for i in range(steps)]
    assert [lr for _, lr in curves["3_lr/used"]] == pytest.approx(expected, rel=1e-5)


def test_the_config_is_a_text_and_the_run_is_a_line_of_the_hparams_tab(run):
    events = EventAccumulator(str(run))
    events.Reload()
    assert "config/text_summary" in events.Tags()["tensors"]
    assert b"warmup" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert "_hparams_/session_start_info" in str(events.summary_metadata.keys())
    found, result = scalars(run), result_of(run)
    assert found["*best/accuracy_test"][-1][1] == pytest.approx(result["test"]["accuracy"], rel=1e-6)


def hparams_of(logdir: Path) -> Experiment:
    """The columns and metrics of the HPARAMS tab as TensorBoard itself finds them in a directory of runs."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    context = Context(TBContext(data_provider=provider))
    metadata = context.hparams_metadata(RequestContext(), "")
    return context.experiment_from_metadata(RequestContext(), "", True, metadata, [])


def test_hparams_has_what_was_set_and_the_usual_settings_with_options_by_their_names(train, tmp_path):
    overrides = ["seed=3", "activation=elu", "schedule=[warmup,cosine]", "optimizer.momentum=0.8", "output=run"]
    small = ["data=digits", "data.limit=200", "architecture.widths=[4]", "epochs=1", "observer=[tensorboard]"]
    assert train(*overrides, *small)[0] == 0
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()} == {
        "seed": 3, "activation": "elu", "schedule": "warmup, cosine", "optimizer.momentum": 0.8, "data": "digits",
        "data.limit": 200, "architecture.widths": "[4]", "epochs": 1,
        "architecture": "cnn", "optimizer": "momentum", "optimizer.lr": pytest.approx(0.05), "batch_size": 64,
    }  # fmt: skip


def test_hparams_shows_first_what_differs_between_runs_and_the_metrics_of_the_best_weights(sweep):
    experiment = hparams_of(sweep)
    assert [info.name for info in experiment.hparam_infos if info.differs] == ["optimizer", "optimizer.lr", "seed"]
    assert [info.name for info in experiment.hparam_infos[:3]] == ["optimizer", "optimizer.lr", "seed"]
    assert [info.name.tag for info in experiment.metric_infos[:4]] == [
        "*best/accuracy_test", "*best/accuracy_validation", "*best/loss_test", "*best/loss_validation",
    ]  # fmt: skip


def test_events_after_a_checkpoint_are_not_duplicated_on_resume(run, train, tmp_path):
    folder = tmp_path / "run"
    small = [*STATEFUL, f"output={folder}", "epochs=2", "observer=[tensorboard,checkpoint,history_file]"]
    assert train(*small)[0] == 0
    assert train(f"resume={folder}", "epochs=3")[0] == 0
    # Both files are of the same second here, so that their order is that of their names, not of time.
    steps = sorted(step for step, _ in scalars(folder)["1_loss/train"])
    assert steps == [row["step"] for row in history_of(folder)]


def test_lines_are_plain_if_the_output_is_not_a_terminal(run):
    text = (run / "out.txt").read_text()
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if re.match(r"\s+\d\s", line)]
    assert len(lines) == 3
    for row, line in zip(history_of(run), lines, strict=True):
        assert f"{row['train_loss']:.4f}" in line
        assert f"{100 * row['validation_accuracy']:.2f} %" in line


def on_a_terminal(folder: Path, columns: str, *overrides: str, **variables: str) -> str:
    """All that ``train`` writes to a terminal with the given number of columns."""
    master, slave = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": columns,
        "LINES": "40",
        "OMP_NUM_THREADS": "1",
    } | variables
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *overrides], cwd=folder, env=environment, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.mark.slow
def test_a_terminal_shows_bars_loss_accuracy_learning_rate_speed_and_time_left(tmp_path):
    overrides = [
        *STATEFUL,
        "data.count=3000",
        "output=run",
        "epochs=2",
        "observer=[console]",
        "observer.console.every=0.02",
    ]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(tmp_path, "140", *overrides))
    assert re.search(r"epoch 2 .*loss \d\.\d{4}  acc \d+\.\d\d %  lr \d\.\d\de-\d\d  [\d,]+ images/s", text)
    assert re.search(r"step \d+\s+\d+:\d\d", text)


@pytest.mark.slow
def test_a_command_started_by_a_notebook_prints_plain_lines_and_draws_without_the_notebooks_backend(tmp_path):
    overrides = [*STATEFUL, "output=run", "epochs=2"]
    notebook = {"JPY_PARENT_PID": "1", "MPLBACKEND": "module://a_backend.of_another_environment"}
    text = on_a_terminal(tmp_path, "140", *overrides, **notebook)
    assert "\x1b" not in text
    assert "Traceback" not in text
    assert (tmp_path / "run" / "report" / "batch.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_contains_the_result_and_the_curves(run):
    text, result = (run / "report.md").read_text(), result_of(run)
    assert f"{100 * result['test']['accuracy']:.2f} %" in text
    for image in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (run / image).read_bytes().startswith(b"\x89PNG")
    assert "resume" not in text.splitlines()[0]


def test_files_of_a_run_are_strict_json(run):
    def refuse(word: str) -> None:
        raise AssertionError(word)

    for name in ("result.json", "environment.json"):
        json.loads((run / name).read_text(), parse_constant=refuse)
    for line in (run / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_the_best_checkpoint_holds_the_weights_of_the_best_epoch(run):
    best, rows = load(run, "best"), history_of(run)
    accuracies = [row["validation_accuracy"] for row in rows]
    assert best["row"]["validation_accuracy"] == max(accuracies)
    assert best["row"]["epoch"] == rows[accuracies.index(max(accuracies))]["epoch"] == result_of(run)["best_epoch"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs."""
    folder = tmp_path_factory.mktemp("sweep")
    overrides = ["data=digits", "data.limit=200", "architecture.widths=[4,8]", "epochs=2", f"output={folder / 'six'}"]
    assert main(["-m", *overrides, "optimizer=sgd,momentum,adam", "seed=0,1"]) == 0
    return folder / "six"


def test_every_run_of_a_sweep_has_one_line_of_hparams_with_its_scores_and_no_stray_sub_runs(sweep):
    runs = sorted(p.parent for p in sweep.glob("*/config.yaml"))
    assert len(runs) == 6
    assert {p.parent for p in sweep.rglob("events.*")} == set(runs)
    for folder in runs:
        events = EventAccumulator(str(folder))
        events.Reload()
        keys = set(events.summary_metadata)
        assert {"_hparams_/session_start_info", "_hparams_/session_end_info"} <= keys
        found, result = scalars(folder), result_of(folder)
        assert found["*best/accuracy_test"][-1][1] == pytest.approx(result["test"]["accuracy"], rel=1e-6)
        assert found["*best/accuracy_validation"][-1][1] == pytest.approx(result["validation"]["accuracy"], rel=1e-6)
        assert found["2_accuracy/validation"][-1][1] == pytest.approx(
            result["last"]["validation"]["accuracy"], rel=1e-6
        )


@pytest.mark.slow
def test_a_killed_run_has_a_line_of_hparams_too(tmp_path):
    overrides = ["data=digits", "architecture.widths=[4]", "epochs=500", "output=run", "regularizer=[]"]
    process = start(*overrides, cwd=tmp_path)
    while not list((tmp_path / "run").glob("checkpoints/best.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "_hparams_/session_end_info" not in events.summary_metadata


def test_an_interrupted_run_ends_as_a_failure_in_hparams(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    from trainer.observers.tensorboard import end_hparams, start_hparams

    for finished in (True, False):
        writer = SummaryWriter(str(tmp_path / str(finished)))
        start_hparams(writer, {"seed": 0})
        end_hparams(writer, finished=finished)
        writer.close()
        events = EventAccumulator(str(tmp_path / str(finished)))
        events.Reload()
        content = events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
        status = HParamsPluginData.FromString(content).session_end_info.status
        assert status == (1 if finished else 2)


def test_tensorboard_holds_images_texts_and_a_layout(run):
    folder = run
    events = EventAccumulator(str(folder), {"images": 0, "tensors": 0})
    events.Reload()
    assert {"filters", "batch", "schedule", "confusion", "misclassified"} <= set(events.Tags()["images"])
    assert {e.step for e in events.Images("batch")} == {0}, "the first batch, whenever it was drawn"
    assert [e.step for e in events.Images("filters")] == [0, *(row["step"] for row in history_of(folder))]
    for name in ("filters", "batch", "schedule", "confusion", "misclassified"):
        image = cv2.imdecode(np.frombuffer(events.Images(name)[-1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert image.std() > 5, name
    assert {"config/text_summary", "notes/text_summary", "diagnosis/text_summary", "custom_scalars__config__"} <= set(
        events.Tags()["tensors"]
    )


def test_the_graph_of_the_network_is_written_on_request(train, tmp_path):
    overrides = ("data=digits", "architecture.widths=[4]", "epochs=1", "observer=[tensorboard]", "output=run")
    assert train(*overrides, "observer.tensorboard.graph=true")[0] == 0
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert events.Tags()["graph"]
    assert b"Conv2d" in events.Graph().SerializeToString()


def test_the_confusion_matrix_and_the_errors_are_those_of_the_best_weights(train, tmp_path):
    assert train("data=digits", "architecture.widths=[4]", "epochs=3", "output=run")[0] == 0
    predictions, result = json.loads((tmp_path / "run" / "predictions.json").read_text()), result_of(tmp_path / "run")
    confusion = np.array(predictions["confusion"])
    assert np.trace(confusion) / confusion.sum() == pytest.approx(result["validation"]["accuracy"])
    losses = [m["loss"] for m in predictions["misclassified"]]
    assert losses == sorted(losses, reverse=True)
    assert all(m["class"] != m["predicted"] for m in predictions["misclassified"])
    assert len(losses) == min(24, confusion.sum() - np.trace(confusion))


def test_filters_are_drawn_of_kernels_and_of_units_that_see_the_whole_image():
    from trainer.observers.images import first_filters

    for layer, shape, expected in (
        (nn.Conv2d(3, 5, 3), (3, 8, 8), (5, 3, 3, 3)),
        (nn.Conv2d(4, 5, 3), (4, 8, 8), (5, 3, 3, 1)),
        (nn.Linear(64, 7), (1, 8, 8), (7, 8, 8, 1)),
    ):
        filters = first_filters(nn.Sequential(nn.Flatten(0, 0), layer), shape)
        assert filters.shape == expected
        assert filters.min() == 0
        assert filters.max() == 1
    assert first_filters(nn.Linear(10, 2), (1, 8, 8)) is None
    assert first_filters(nn.Conv2d(3, 2, 1), (3, 8, 8)) is None


def test_a_sparkline_follows_the_values_and_fits_its_width():
    from trainer.observers.summary import sparkline

    assert sparkline([1.0, 2.0, 3.0], 10) == "▁▅█"
    assert sparkline(list(range(100)), 5) == "▁▃▅▆█"
    assert sparkline([1.0, float("nan"), 1.0], 5) == "▁▁"
    assert sparkline([], 5) == sparkline([1.0], 5) == ""


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["30", "60", "200"])
def test_no_line_of_the_bars_is_wider_than_the_terminal(columns, tmp_path):
    text = on_a_terminal(
        tmp_path, columns, "data=fake", "data.count=3000", "data.size=12", "epochs=3", "observer=[console]"
    )
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    bars = [line for line in frames if "━" in line]
    assert bars
    assert max(map(len, bars)) <= int(columns)


@pytest.mark.slow
def test_a_pipe_that_supports_only_ascii_gets_no_sparkline(tmp_path):
    overrides = ("data=digits", "architecture.widths=[4]", "epochs=3", "observer=[console]", "output=run")
    process = start(*overrides, cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "validation loss" not in out
    assert "▁" not in out


def test_the_time_spent_in_observers_is_reported_at_the_end(train, tmp_path):
    """With a user's own observer, which sleeps."""
    (tmp_path / "mine" / "observer").mkdir(parents=True)
    (tmp_path / "mine" / "slow_observer.py").write_text(
        "import time\nfrom dataclasses import dataclass\nfrom trainer.observers import Observer\n\n"
        "@dataclass\nclass Slow(Observer):\n    def on_epoch_end(self, view, row):\n        time.sleep(0.25)\n"
    )
    (tmp_path / "mine" / "observer" / "slow.yaml").write_text("# Sleeps.\nslow:\n  _target_: slow_observer.Slow\n")
    overrides = ("data=digits", "epochs=2", "observer=[console,slow]", "output=run")
    code, out, err = train("--config-dir", str(tmp_path / "mine"), *overrides)
    assert code == 0, err
    result = result_of(tmp_path / "run")
    assert 0.5 <= result["observer_seconds"] < 0.6 + result["seconds"]
    assert f"observers took {result['observer_seconds']:.1f} s\n" in out, "no fraction of a run of a few seconds"


def test_the_fraction_of_time_spent_in_observers_is_that_of_a_long_run():
    from trainer.builder import build
    from trainer.config.load import load_config
    from trainer.engine.view import RunView
    from trainer.observers.summary import summary_lines

    view = RunView(build(load_config(["data=digits"])))
    for seconds, text in ((2.0, "after 2.0 s of training; observers took 1.0 s"), (50.0, "took 1.0 s, 2.0 %")):
        result = {
            "stop_reason": "finished",
            "seconds": seconds,
            "observer_seconds": 1.0,
            "observer_fraction": 1 / seconds,
        }
        assert summary_lines(view, result)[0].endswith(text)


@pytest.mark.parametrize("columns", [80, *(pytest.param(n, marks=pytest.mark.slow) for n in (120, 60, 40))])
def test_the_table_of_epochs_and_the_bars_fit_into_the_terminal(columns, tmp_path):
    overrides = [*STATEFUL, "output=run", "epochs=2", "observer=[console]", "observer.console.every=0.02"]
    text = on_a_terminal(tmp_path, str(columns), *overrides)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("\n")
    begin = next(i for i, line in enumerate(lines) if line.strip().startswith("epoch "))
    end = next(i for i, line in enumerate(lines) if line.startswith("finished, after"))
    assert "val acc" in lines[begin]
    assert ("images/s" in lines[begin]) == (columns >= 120)
    table = [line.rstrip() for line in lines[begin:end]]
    assert sum("%" in line for line in table) >= 2
    assert max(map(len, table)) <= columns, max(table, key=len)


def test_the_observer_csv_writes_the_history_as_a_table_also_of_a_resumed_run(train):
    small = (
        "data=fake",
        "data.size=8",
        "data.count=60",
        "data.num_classes=3",
        "architecture.widths=[4]",
        "batch_size=16",
    )
    assert train(*small, "epochs=1", "observer=[checkpoint,csv]", "output=table")[0] == 0
    assert train("resume=table", "epochs=2")[0] == 0
    rows = list(csv.DictReader(Path("table/history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1.0", "2.0"]
    assert all(float(row["validation_loss"]) > 0 for row in rows)
