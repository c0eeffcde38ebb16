"""Observers are independent: neither their order nor other observers change what one of them reports, nor the training."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import load, result_of, same

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.observer import Observer, ObserverGroup
from trainer.engine.view import RunView
from trainer.interrupt import Interrupt
from trainer.jobs.fit import train_and_evaluate
from trainer.observers import Console, Diagnosis

DEFAULT = (
    "histograms", "filters", "predictions", "diagnosis", "console", "tensorboard", "checkpoint", "history_file", "report",
)  # fmt: skip
# A run with findings about curves, and two snapshots of the layers: the first step and the end.
SMALL = ("data=digits", "data.limit=300", "architecture.widths=[4]", "epochs=4", "optimizer.lr=0.001", "schedule=constant",
         "regularizer=[]", "device=cpu", "precision=float32")  # fmt: skip
WALL_TIMES = ("seconds", "images_per_second", "observer_seconds", "observer_fraction")


def run_of(*overrides: str) -> Any:
    return build(load_config([*SMALL, *overrides]))


def trained(train: Any, folder: str, observers: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """``result.json`` without wall-clock times, and the standard output of a run with the given observers."""
    every = ["observer.histograms.every=100000"] if "histograms" in observers else []
    code, out, err = train(*SMALL, f"observer=[{','.join(observers)}]", *every, f"output={folder}")
    assert code == 0, err
    return {k: v for k, v in result_of(folder).items() if k not in WALL_TIMES}, out


ORDERS = [DEFAULT, *(tuple(random.Random(seed).sample(DEFAULT, len(DEFAULT))) for seed in range(5))]


@pytest.mark.slow
def test_result_and_output_do_not_depend_on_the_order_of_the_observers(train):
    expected, _ = trained(train, "default", DEFAULT)
    assert expected["findings"]
    for i, order in enumerate(ORDERS[1:]):
        result, out = trained(train, f"order_{i}", order)
        assert result == expected, order
        for finding in expected["findings"]:
            assert f"{finding['name']}: {finding['evidence']}" in out, order
        for name in ("findings.json", "dataset_info.json", "predictions.json"):
            assert Path(f"order_{i}", name).read_text() == Path("default", name).read_text(), order
        assert same(load(f"order_{i}")["state"]["model"], load("default")["state"]["model"])


@pytest.mark.parametrize(
    "left_out",
    [("report",), ("history_file", "checkpoint", "console"), ("report", "console", "tensorboard", "predictions", "filters")],
    ids=",".join,
)  # fmt: skip
def test_the_findings_do_not_depend_on_other_observers(left_out, train):
    expected, _ = trained(train, "default", DEFAULT)
    result, _ = trained(train, "few", tuple(name for name in DEFAULT if name not in left_out))
    if "filters" in left_out:
        expected.pop("filters")  # what this observer itself reports
    assert result == expected


def test_without_the_diagnosis_there_are_no_findings(train):
    result, _ = trained(train, "run", tuple(name for name in DEFAULT if name != "diagnosis"))
    assert "findings" not in result
    assert not Path("run/findings.json").exists()


def test_result_json_is_complete_before_any_observer_shows_the_result(tmp_path):
    run = build(load_config(list(SMALL)), tmp_path)
    seen = []

    class Show(Observer):
        def on_result(self, view, result):
            seen.append((json.loads((view.folder / "result.json").read_text())["findings"], result["findings"]))

    train_and_evaluate(run, [Show(), Diagnosis()])
    ((written, shown),) = seen
    assert written
    assert [f["name"] for f in written] == [f["name"] for f in shown]


NAN = ("architecture=mlp", "architecture.widths=[64,64]", "architecture.norm=none", "optimizer=sgd", "optimizer.lr=1e12",
       "observer.diagnosis.every=2")  # fmt: skip


@pytest.mark.parametrize("observers", ["diagnosis", "console,diagnosis", "diagnosis,console"])
def test_an_alert_is_printed_with_and_without_console(observers, train):
    small = [o for o in SMALL if not o.startswith(("architecture", "optimizer"))]
    code, _, err = train(*small, *NAN, f"observer=[{observers}]", "output=run")
    assert code == 1, "it diverged"
    (line,) = [line for line in err.splitlines() if "step 4 " in line]
    assert "1 (Linear, in its weights)" in line


def test_alerts_go_through_the_display_of_the_console_while_it_is_drawn(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    run, displays = run_of(), []

    class Alert(Observer):
        def on_step_end(self, view):
            if view.step == 1:
                displays.append(run.alert.display)
                run.alert("look at this")

    train_and_evaluate(run, [Console(), Alert()])
    assert displays != [None]
    assert run.alert.display is None
    out, err = capsys.readouterr()
    assert "look at this" in out
    assert "look at this" not in err


def test_the_engines_own_alerts_are_printed_without_observers(capsys):
    run = run_of("recipe=finetune", "recipe.head_epochs=1", "epochs=2")
    fit(run)
    assert "phase all: peak learning rate" in capsys.readouterr().err


def test_writing_to_the_view_raises():
    run = run_of()
    view = RunView(run)
    for name in ("interrupted", "history", "best", "lr", "model", "anything"):
        with pytest.raises(AttributeError, match=f"RunView.{name} is read-only"):
            setattr(view, name, None)
        with pytest.raises(AttributeError, match="read-only"):
            delattr(view, name)
    view.history.append({"epoch": 1.0})
    assert len(run.history) == 0


def test_every_property_of_the_view_is_documented_and_readable():
    run = run_of("epochs=1")
    fit(run)
    names = [name for name, value in vars(RunView).items() if isinstance(value, property)]
    assert len(names) > 25
    for name in names:
        assert getattr(RunView, name).__doc__, name
        getattr(RunView(run), name)


def test_an_observer_cannot_change_a_row_or_the_result():
    errors = []

    class Meddle(Observer):
        def on_epoch_end(self, view, row):
            with pytest.raises(TypeError) as error:
                row["validation_accuracy"] = 1.0
            errors.append(error)

        def on_fit_end(self, view, result):
            with pytest.raises(TypeError) as error:
                result["test"] = None
            errors.append(error)

    train_and_evaluate(run_of("epochs=2"), [Meddle()])
    assert len(errors) == 3


def test_an_observer_that_sets_a_key_of_the_result_is_an_error_and_the_result_is_still_written(tmp_path):
    class Overwrite(Observer):
        def on_fit_end(self, view, result):
            return {"test": {"accuracy": 1.0}}

    run = build(load_config([*SMALL, "epochs=1"]), tmp_path)
    with pytest.raises(ValueError, match=r"Overwrite cannot set result\['test'\]"):
        train_and_evaluate(run, [Overwrite()])
    assert result_of(tmp_path)["test"]["accuracy"] < 1.0
    group = ObserverGroup([Overwrite(), Overwrite()])
    group.on_fit_start(RunView(run))
    with pytest.raises(ValueError, match="exists already"):
        group.on_fit_end(RunView(run), {})


def test_an_interrupt_stops_training_after_the_next_step():
    interrupt = Interrupt()

    class Ask(Observer):
        def on_step_end(self, view):
            if view.step == 3:
                interrupt.ask()

    run = run_of()
    assert fit(run, [Ask()], interrupt)["stop_reason"] == "interrupted"
    assert run.clock.step == 4
