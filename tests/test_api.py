"""The Python API: compose, train, read back, predict; the page docs/python.md runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET

from trainer import build, fit, load_config, load_run
from trainer.data import Digits
from trainer.errors import ConfigError

PAGE = (Path(__file__).parents[1] / "docs/python.md").read_text()
SMALL = ("data=digits", "data.limit=200", "architecture=mlp", "epochs=2", QUIET)


def test_training_from_python_equals_the_command_line_bit_for_bit(train):
    result = fit(build(load_config([*SMALL, "output=python"])))
    assert train(*SMALL, "output=shell")[0] == 0
    python, shell = load_run("python"), load_run("shell")
    assert result["test"] == shell.result["test"] == python.result["test"]
    columns = ["epoch", "train_loss", "validation_loss", "validation_accuracy"]
    assert python.history[columns].equals(shell.history[columns])


def test_a_prediction_has_the_accuracy_that_the_run_reports():
    result = fit(build(load_config([*SMALL, "output=run"])))
    model, test = load_run("run").model(), Digits().load().test
    assert test is not None
    probabilities = model.predict(test.images)
    assert probabilities.sum(1) == pytest.approx(np.ones(len(test)), abs=1e-5)
    assert (probabilities.argmax(1) == test.labels).mean() == pytest.approx(result["test"]["accuracy"])
    with pytest.raises(ValueError, match=r"uint8 of shape \(N, 8, 8, 1\)"):
        model.predict(test.images[:, :7])


def test_errors_are_those_of_the_command_line(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'adam'(.|\n)*epochs = -1"):
        load_config(["optimizer=adm", "epochs=-1"])
    with pytest.raises(ConfigError, match="is not a run directory"):
        load_run(tmp_path)
    fit(build(load_config([*SMALL, "output=run"])))
    with pytest.raises(ConfigError, match="already contains a run"):
        build(load_config([*SMALL, "output=run"]))


@pytest.mark.slow
def test_the_page_on_python_runs_as_written(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), namespace)
