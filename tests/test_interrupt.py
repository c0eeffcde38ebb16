"""Ctrl-C and SIGTERM: nothing is left behind, and whatever a library makes of them is still an interrupt."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import Any, cast

import pytest
from conftest import start

from trainer.interrupt import Interrupt, careful_interrupts, postpone, stop_now


def test_two_signals_that_arrive_together_leave_no_traceback(monkeypatch):
    """As from a terminal and from torchrun: Python handles both at its next instruction, one after the other."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    both, before = {signal.SIGINT, signal.SIGTERM}, signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            signal.pthread_sigmask(signal.SIG_BLOCK, both)
            for number in both:
                signal.raise_signal(number)
            with contextlib.suppress(KeyboardInterrupt):  # if SIGTERM comes first
                signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        assert interrupt.requested
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        signal.signal(signal.SIGTERM, before)
    assert reported == []


@pytest.mark.parametrize("handler", ["the second signal", "outside of an Interrupt"])
def test_a_signal_waits_until_no_lock_can_be_left_behind(handler):
    """KeyboardInterrupt within ``Condition.__enter__`` would leave the condition locked."""
    condition, postponed = Condition(), False
    thread = Thread(target=lambda: condition.__enter__() and condition.__exit__(None, None, None))
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with careful_interrupts(), Interrupt() as interrupt:
        interrupt.ask()
        handle = interrupt.handle if handler == "the second signal" else stop_now
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            with condition:
                thread.start()
                while (frame := sys._current_frames()[thread.ident or 0]).f_code is not Condition.__enter__.__code__:
                    time.sleep(0.001)
                handle(signal.SIGINT, frame)
                postponed = True
            while True:
                time.sleep(0.001)
        thread.join()
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGINT, outside)
    assert postponed
    assert after == before


@pytest.fixture
def handled() -> Iterator[None]:
    """SIGINT as in a terminal: it is ignored where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_library(*_: object, **__: object) -> Any:
    """As compiled code does that reports every exception as one of its own, with its text alone."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt as error:
        text = f"error: {type(error).__name__}"
    raise AttributeError(text)


@pytest.mark.usefixtures("handled")
def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), careful_interrupts():
        interrupted_library()
    with pytest.raises(ZeroDivisionError), careful_interrupts():  # an interrupt of before has been dealt with
        raise ZeroDivisionError


@pytest.mark.usefixtures("handled")
def test_an_interrupt_waits_until_a_module_is_imported(tmp_path, monkeypatch):
    """A library whose import was interrupted stays broken for the rest of the run, and torch ends the process."""
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nwhole = True\n"
    (tmp_path / "interrupted_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), careful_interrupts():  # noqa: PT012
        importlib.import_module("interrupted_module")
        time.sleep(1)
    assert sys.modules.pop("interrupted_module").whole


@pytest.mark.usefixtures("handled")
def test_an_import_that_takes_too_long_is_interrupted(tmp_path, monkeypatch):
    import trainer.interrupt as module

    monkeypatch.setattr(module, "LONGEST", 0.05)
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n"
    (tmp_path / "endless_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), careful_interrupts():
        importlib.import_module("endless_module")
    assert time.monotonic() - started < 4


@pytest.mark.usefixtures("handled")
def test_an_interrupt_that_python_ignores_is_raised_a_little_later(capsys):
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), careful_interrupts():  # noqa: PT012
        Finalized()
        time.sleep(1)
    assert "ignored" not in capsys.readouterr().err
    assert sys.unraisablehook is hook


@pytest.mark.usefixtures("handled")
def test_an_interrupt_that_waits_when_all_is_over_is_forgotten():
    before = signal.getsignal(signal.SIGALRM)
    with careful_interrupts():
        postpone(stop_now, signal.SIGINT)
        postpone(stop_now, signal.SIGINT)
    time.sleep(0.05)
    assert signal.getsignal(signal.SIGALRM) == before


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 2.5, 3.0, 3.5])
def test_a_process_that_is_interrupted_at_any_moment_says_so_and_nothing_else(seconds, tmp_path):
    """Also while it loads its libraries; a run that was faster has finished."""
    words = ["data=fake", "data.size=12", "data.count=150", "architecture.widths=[4,8]", "epochs=2", "output=run"]
    process = start(*words, cwd=tmp_path)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    for word in ("Traceback", "Error", "ignored", "left out"):
        assert word not in out + err


@pytest.mark.usefixtures("handled")
def test_an_interrupt_while_a_checkpoint_is_written_leaves_no_file(tmp_path, monkeypatch):
    """Torch's writer raises an error about the incomplete file instead."""
    from trainer.engine import checkpoint

    monkeypatch.setattr(checkpoint.torch, "save", interrupted_library)
    with pytest.raises(KeyboardInterrupt), careful_interrupts():
        checkpoint.write_temporary(cast(checkpoint.Content, {}), tmp_path / "last.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize(
    "place", ["trainer.config.load.instantiate_all", "trainer.jobs.fit.build", "trainer.jobs.fit.train"]
)
@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_an_interrupt_within_a_library_stops_the_run_without_a_traceback(place, sweep, train, monkeypatch):
    monkeypatch.setattr(place, interrupted_library)
    words = ["-m", "seed=1,2"] if sweep else []
    code, out, err = train(*words, "data=fake", "data.count=60", "data.size=8", "epochs=1", "output=run")
    assert code == 130
    assert "stopped" in err
    assert "Error" not in out + err
    assert not [path for path in Path("run").rglob("result.json") if "failed" in path.read_text()]
