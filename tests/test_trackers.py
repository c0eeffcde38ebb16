"""Weights & Biases and MLflow, without a network: what is sent, and what happens if it cannot be."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import history_of, result_of

from trainer.observers.context import build_observers
from trainer.observers.tracker import TRACKERS, TrackerObserver
from trainer.records import read_table

SMALL = ("data=digits", "architecture=mlp", "architecture.widths=[8]", "data.limit=120", "epochs=2")


class Recorder(TrackerObserver):
    """A tracker that remembers what it is sent; it fails in the method that ``fails`` names."""

    name = "recorder"
    fails: str | None = None
    calls: ClassVar[list[tuple]] = []

    def __init__(self, context=None, files=True):
        super().__init__(context, files)

    def _record(self, method, *content):
        if self.fails == method:
            raise OSError("no route to the server")
        self.calls.append((method, *content))

    def start(self, view, settings, tracked):
        self._record("start", dict(settings), tracked)
        return tracked or "id-1"

    def log(self, step, values):
        self._record("log", step, values)

    def finish(self, status, scores, files):
        self._record("finish", status, scores, [name for _, name in files])


class RecorderOption:
    def build(self, context):
        return Recorder(context)


@pytest.fixture
def recorder(monkeypatch):
    """Add the recorder to the observers of every run, in front of the others."""
    monkeypatch.setattr(Recorder, "calls", [])
    monkeypatch.setattr(Recorder, "fails", None)
    original = build_observers
    monkeypatch.setattr(
        "trainer.jobs.fit.build_observers", lambda options, context: original([RecorderOption(), *options], context)
    )
    return Recorder


def test_a_tracker_gets_the_config_every_row_the_scores_and_the_files_that_others_wrote(train, recorder):
    assert train(*SMALL, "observer=[checkpoint,history_file,report]", "output=run")[0] == 0
    (start, settings, tracked), *logs, (finish, status, scores, files) = recorder.calls
    assert (start, tracked, finish, status) == ("start", None, "finish", "finished")
    assert settings["epochs"] == 2
    assert [values["train_loss"] for _, _, values in logs] == [row["train_loss"] for row in history_of("run")]
    assert [step for _, step, _ in logs] == [row["step"] for row in history_of("run")]
    assert scores["test/accuracy"] == result_of("run")["test"]["accuracy"]
    assert files == ["config.yaml", "history.jsonl", "result.json", "report.html", "checkpoints/best.pt"]


def test_a_resumed_run_continues_the_same_run_of_the_tracker(train, recorder):
    assert train(*SMALL, "observer=[checkpoint]", "output=run")[0] == 0
    assert read_table(Path("run", TRACKERS)) == {"recorder": "id-1"}
    recorder.calls.clear()
    assert train("resume=run", "epochs=3")[0] == 0
    assert recorder.calls[0][2] == "id-1"


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(train, recorder, method):
    recorder.fails = method
    code, out, err = train(*SMALL, "observer=[checkpoint,history_file]", "output=run")
    assert code == 0
    assert (out + err).count("recorder: no route to the server; this run is no longer tracked there") == 1
    assert result_of("run")["status"] == "finished"
    assert len(history_of("run")) == 2


def test_a_tracker_that_is_not_installed_is_an_error_that_says_what_to_install(train, monkeypatch):
    monkeypatch.setattr("trainer.existing.find_spec", lambda name: None)
    code, _, err = train(*SMALL, "observer=[wandb,mlflow]", "output=run")
    assert code == 2
    assert "observer.wandb = 'on': needs wandb, which is not installed" in err
    assert "pip install 'trainer[mlflow]'" in err
    assert not Path("run").exists()


def test_the_preset_of_observers_is_the_default_to_which_others_can_be_added(train):
    from trainer.config.load import load_config

    assert list(load_config(["observer=[standard]"]).observer) == list(load_config([]).observer)
    added = load_config(["observer=[standard,profile]"])
    assert set(added.observer) == {*load_config([]).observer, "profile"}


@pytest.mark.slow
def test_mlflow_has_the_run_with_its_parameters_metrics_and_files_and_continues_it(train):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries under it
        address = "sqlite:///tracked.db"
        overrides = ("observer=[checkpoint,history_file,mlflow]", f"observer.mlflow.uri={address}", "output=run")
        assert train(*SMALL, *overrides)[0] == 0
        assert train("resume=run", "epochs=3")[0] == 0
        client = tracking.MlflowClient(tracking_uri=address)
        (experiment,) = [e for e in client.search_experiments() if e.name == "trainer"]
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["architecture"].lower() == "mlp"
        assert run.data.metrics["test/accuracy"] == pytest.approx(result_of("run")["test"]["accuracy"])
        losses = [m.value for m in client.get_metric_history(run.info.run_id, "train_loss")]
        assert losses == pytest.approx([row["train_loss"] for row in history_of("run")])
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"config.yaml", "history.jsonl", "result.json", "checkpoints"} <= names


@pytest.mark.slow
def test_wandb_keeps_a_run_offline_in_the_run_directory_and_continues_it(train):
    pytest.importorskip("wandb", reason="wandb is not installed")
    overrides = ("observer=[checkpoint,history_file,wandb]", "observer.wandb.mode=offline", "output=run")
    assert train(*SMALL, *overrides)[0] == 0
    assert train("resume=run", "epochs=3")[0] == 0
    number = read_table(Path("run", TRACKERS))["wandb"]
    kept = list(Path("run/wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))
    assert kept
    content = b"".join(file.read_bytes() for file in kept)
    assert b"train_loss" in content
    assert b"test/accuracy" in content
