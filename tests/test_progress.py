"""Progress: a line in a terminal at once, a line now and then elsewhere, nothing for callers from Python."""

from __future__ import annotations

import os
import pty

import pytest

from trainer import gpus, progress
from trainer.progress import PROGRESS, activity, steps


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is a terminal; what was written to it is returned by a call."""
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.delenv("TERM", raising=False)
    for name in ("enabled", "live", "shown", "file"):
        monkeypatch.setattr(PROGRESS, name, False)
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        PROGRESS.enable()  # pytest has its own stream in the test itself

        def written() -> str:
            os.write(PROGRESS.file, b"END")  # a terminal hands on what was written in pieces
            text = ""
            while not text.endswith("END"):
                text += os.read(reader, 10_000).decode()
            return text.removesuffix("END")

        yield written
    os.close(reader)


def test_an_activity_is_shown_at_once_and_its_line_is_removed_at_its_end(terminal):
    with activity("loading torch"):
        pass
    written = terminal()
    assert written.startswith(f"{progress.CLEAR}loading torch ...")
    assert written.endswith(progress.CLEAR)


def test_steps_are_counted_in_a_terminal(terminal, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert list(steps("evaluating batches", range(3), 3)) == [0, 1, 2]
    assert "evaluating batches: 1 of 3" in terminal()


def test_without_a_terminal_a_long_activity_prints_lines(monkeypatch, capsys):
    for name, value in (("enabled", True), ("live", False)):
        monkeypatch.setattr(PROGRESS, name, value)
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    list(steps("LR range test", range(2), 2))
    assert capsys.readouterr().err == "LR range test: 1 of 2\nLR range test: 2 of 2\n"


def test_callers_from_python_see_nothing(monkeypatch, capsys):
    monkeypatch.setattr(PROGRESS, "enabled", False)
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.0)
    with activity("loading torch"):
        list(steps("LR range test", range(2), 2))
    assert capsys.readouterr() == ("", "")


def test_a_gpu_is_looked_for_without_torch_as_torch_does(monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.version.hip is None:
        assert (gpus.why_no_gpu() == "") == torch.cuda.is_available()
    monkeypatch.setattr(gpus, "driver_gpus", lambda: 2)
    if torch.version.cuda is not None:
        assert gpus.why_no_gpu(1) == ""
        assert gpus.why_no_gpu(2) == "there are 2 GPUs"
