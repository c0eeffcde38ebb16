"""A disk that fails, a directory that vanishes, a reader that leaves: one clear error, and a run that can be resumed."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, STATEFUL, history_of, load, result_of, same, same_run

WATCHED = "observer=[checkpoint,diagnosis,filters,histograms,history_file,predictions,report,tensorboard]"
SMALL = (*STATEFUL, QUIET, "epochs=2")


def files_in(directory: Path | str) -> set[str]:
    """The names of all files of a run but the list of its resumes.

    Of TensorBoard's, of which a resumed run begins another one, only the directories.
    """
    files = (p for p in Path(directory).rglob("*") if p.is_file() and p.name != "resumed.jsonl")
    return {
        str(p.relative_to(directory) if "tfevents" not in p.name else p.parent.relative_to(directory)) for p in files
    }


class Fault:
    """Lets the calls of an operation on files of the run fail: the one with a number, or all of them from there on.

    The number of calls is counted, so that a test can fail each of them in turn.
    """

    def __init__(self, error: int = errno.ENOSPC, number: int = -1, lasting: bool = False, name: str = "") -> None:
        self.error, self.number, self.lasting, self.name, self.count = error, number, lasting, name, 0

    def __call__(self, path: object) -> None:
        if "/run/" not in f"/{path}/" or self.name not in str(path):
            return
        self.count += 1
        if self.count == self.number or (self.lasting and self.count > self.number > 0):
            raise OSError(self.error, os.strerror(self.error), str(path))


def inject(monkeypatch: pytest.MonkeyPatch, operation: str, fault: Fault) -> None:
    """Let ``os.replace``, ``fsync`` of a file, or ``open`` for writing fail."""
    from trainer import files

    def replace(source: Path, target: Path, real=os.replace) -> None:
        fault(target)
        real(source, target)

    def sync(path: Path, real=files.sync) -> None:
        fault(path)
        real(path)

    def opened(path: Path, mode: str = "r", *arguments: Any, real=Path.open, **keywords: Any) -> Any:
        if "r" not in mode:
            fault(path)
        return real(path, mode, *arguments, **keywords)

    if operation == "replace":
        monkeypatch.setattr(files.os, "replace", replace)
    elif operation == "fsync":
        monkeypatch.setattr(files, "sync", sync)
    else:
        monkeypatch.setattr(Path, "open", opened)


@pytest.fixture
def whole(train, tmp_path) -> Path:
    """The uninterrupted run."""
    assert train(*SMALL, f"output={tmp_path / 'uninterrupted'}")[0] == 0
    return tmp_path / "uninterrupted"


# Creating the directory takes the first operations: there the command is refused with code 2.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "lasting"),
    [("replace", False), ("fsync", True)]
    + [
        pytest.param(*p, marks=pytest.mark.slow)
        for p in (("replace", True), ("fsync", False), ("open", False), ("open", True))
    ],
)
def test_a_failing_disk_ends_a_run_with_one_error_and_resuming_it_is_exact(
    operation, lasting, train, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        inject(patch, operation, counted := Fault())
        assert train(*SMALL, "output=run")[0] == 0
    shutil.rmtree("run")
    assert counted.count >= 10
    for number in range(1, counted.count + 1, 1 + counted.count // 6):
        error = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)[number % 4]
        with monkeypatch.context() as patch:
            inject(patch, operation, Fault(error, number, lasting))
            code, _, err = train(*SMALL, "output=run")
        assert code in (1, 2), number
        assert "cannot be written: " + os.strerror(error) in err
        assert str(tmp_path / "run") in err or "run/" in err or "'run'" in err
        assert err.count(os.strerror(error)) == 1, "one error"
        assert "Traceback" not in err
        if code == 1:
            assert "resume=run" in err
            assert train("resume=run")[0] == 0, number
        else:
            shutil.rmtree("run", ignore_errors=True)
            assert train(*SMALL, "output=run")[0] == 0
        assert same_run(whole, "run"), number
        assert files_in("run") == files_in(whole), number
        assert result_of("run")["test"] == result_of(whole)["test"]
        shutil.rmtree("run")


def test_a_file_that_cannot_grow_further_is_named(train, whole):
    """A real limit of the system, EFBIG: torch's own writer hides the error of the disk behind one of its own."""
    size = (whole / "checkpoints" / "last.pt").stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        code, _, err = train(*SMALL, "output=run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert code == 1
    assert "run/checkpoints/last.pt cannot be written: File too large" in err
    assert "Traceback" not in err
    assert train("resume=run")[0] == 0
    assert same_run(whole, "run")
    assert files_in("run") == files_in(whole)


LAST_FILES = ("report.md", "predictions.json", "findings.json", "report.html", "result.json")
ENDS = [
    pytest.param(file, end, marks=[] if (file, end) == ("report.md", "ENOSPC") else pytest.mark.slow)
    for file in LAST_FILES
    for end in ("ENOSPC", "Ctrl-C")
]


@pytest.mark.parametrize(("file", "end"), ENDS)
def test_a_run_that_ends_before_its_last_file_is_completed_by_resuming_it(file, end, train, monkeypatch):
    """Trained to its last step; at the end it writes result, predictions, findings and report."""
    from trainer import files

    overrides = [*STATEFUL, "epochs=1", WATCHED]

    def replace(source: Path, target: Path, real=os.replace) -> None:
        if target.name == file:
            raise OSError(errno.ENOSPC, "No space left on device") if end == "ENOSPC" else KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace)
        assert train(*overrides, "output=run")[0] == (1 if end == "ENOSPC" else 130)
    assert not Path("run", file).exists()
    assert train("resume=run")[0] == 0
    assert result_of("run")["status"] == "finished"
    assert result_of("run")["complete"] is True
    assert train(*overrides, "output=uninterrupted")[0] == 0
    assert files_in("run") == files_in("uninterrupted")
    code, out, _ = train("resume=run")
    assert code == 0
    assert "the run is complete" in out


@pytest.mark.slow
def test_a_resumed_run_leaves_the_files_of_an_uninterrupted_one(train, monkeypatch):
    import trainer.engine.loop as loop

    def step(run: Any, *batch: Any, real=loop.train_step) -> None:
        if run.clock.step == 12:
            raise KeyboardInterrupt
        real(run, *batch)

    overrides = [*STATEFUL, "epochs=2", WATCHED, "schedule=[warmup,clr]"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        assert train(*overrides, "output=run")[0] == 130
    assert train("resume=run")[0] == 0
    assert train(*overrides, "output=uninterrupted")[0] == 0
    assert same_run("run", "uninterrupted")
    assert files_in("run") == files_in("uninterrupted")
    assert "report/schedule.png" in files_in("run")
    assert not list(Path("run").rglob("*.tmp"))


def at_step(number: int, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    import trainer.engine.loop as loop

    def step(run: Any, *batch: Any, real=loop.train_step) -> None:
        if run.clock.step == number:
            action()
        real(run, *batch)

    monkeypatch.setattr(loop, "train_step", step)


def remove(directory: Path) -> None:
    """Remove a directory, also while another thread renames a checkpoint in it."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(
    "observers",
    [QUIET, "observer=[history_file]", "observer=[checkpoint]", pytest.param(WATCHED, marks=pytest.mark.slow)],
)
def test_a_run_directory_that_vanishes_ends_the_run_and_is_not_created_again(observers, train, monkeypatch):
    at_step(8, monkeypatch, lambda: remove(Path("run")))
    code, _, err = train(*STATEFUL, observers, "epochs=2", "output=run")
    assert code == 1
    assert "run" in err
    assert "the directory has been removed" in err
    assert "Traceback" not in err
    assert not Path("run").exists()


def test_a_history_that_vanishes_is_written_again(train, whole, monkeypatch):
    at_step(8, monkeypatch, lambda: Path("run/history.jsonl").unlink())
    assert train(*SMALL, "output=run")[0] == 0
    assert same_run(whole, "run")


def test_a_row_that_the_disk_has_cut_short_is_taken_back(tmp_path, monkeypatch):
    from trainer import files
    from trainer.errors import WriteError

    path = tmp_path / "history.jsonl"
    files.append_text(path, "1\n")
    files.append_text(path, "2\n")

    def write(handle: int, data: bytes, real=os.write) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:2])

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", write)
        with pytest.raises(WriteError, match=r"history\.jsonl cannot be written: No space left on device"):
            files.append_text(path, "333\n")
    assert path.read_text() == "1\n2\n"
    path.unlink()
    files.append_text(path, "3\n", lambda: "1\n2\n")
    assert path.read_text() == "1\n2\n3\n"


def test_tensorboard_that_fails_never_ends_a_run(train, monkeypatch):
    overrides = [*STATEFUL, "epochs=2", "observer=[checkpoint,history_file,tensorboard]"]
    assert train(*overrides, "output=uninterrupted")[0] == 0
    with monkeypatch.context() as patch:
        inject(patch, "open", fault := Fault(number=1, lasting=True, name="tfevents"))
        code, _, err = train(*overrides, "output=run")
    assert fault.count >= 1
    assert code == 0
    assert err.count("cannot be written: No space left on device; the run continues without TensorBoard") == 1
    assert same_run("run", "uninterrupted")


def test_event_files_that_fail_while_they_are_written_are_dropped(tmp_path):
    from trainer.observers.event_writer import LazyEventWriter

    alerts: list[str] = []
    events = LazyEventWriter(tmp_path, alert=alerts.append)
    writer = events()
    writer.add_scalar("loss", 1.0, 1)

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        flush = close = lambda self: self.write(b"")

    file = writer._get_file_writer().event_writer
    file.records.close()  # pyright: ignore
    file.records = Full()  # pyright: ignore
    for step in range(3):
        writer.add_scalar("loss", 1.0, step)
    events.flush()
    events().add_scalar("loss", 1.0, 1)
    events.close()
    assert len(alerts) == 1
    assert "tfevents" in alerts[0]


def test_training_continues_if_nobody_reads_what_it_prints(train, whole, capsys, monkeypatch):
    """As in ``train ... | head -3``."""

    class Pipe:
        encoding, lines = "utf-8", 0

        def write(self, text: str) -> int:
            self.lines += text.count("\n")
            if self.lines > 3:
                raise BrokenPipeError
            return len(text)

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

        def fileno(self) -> int:
            raise ValueError

    monkeypatch.setattr(sys, "stdout", Pipe())
    code, _, err = train(*STATEFUL, "epochs=2", "observer=[checkpoint,console,history_file]", "output=run")
    assert code == 0
    assert "nobody reads the standard output any more: the run continues" in err
    assert same_run(whole, "run")
    assert train("-m", *SMALL, "epochs=1", "seed=1,2,3", "output=sweep")[0] == 0
    assert len(list(Path("sweep").glob("*/result.json"))) == 3


def test_a_sweep_reports_the_job_whose_disk_failed_and_continues_it(train, monkeypatch):
    overrides = ["-m", *SMALL, "epochs=1", "seed=1,2", "output=run"]
    with monkeypatch.context() as patch:
        inject(patch, "replace", Fault(number=1, name="best.pt"))
        code, _, err = train(*overrides)
    assert code == 1
    assert "#0 failed: run/0_seed=1" in err
    assert "best.pt cannot be written: No space left on device" in err
    assert "Traceback" not in err
    assert train(*overrides)[0] == 0
    assert [job["state"] for job in json.loads(Path("run/sweep.json").read_text())["jobs"]] == ["finished"] * 2


KINDS = {
    "seeds": ("job.models=2",),
    "folds": ("job.kind=folds", "job.models=2"),
    "snapshots": ("job.kind=snapshots", "job.models=2", "schedule=warm_restarts", "schedule.warm_restarts.cycle=1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("again", ["resume", "same command"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_ensemble_continues_where_it_was(kind, again, train, monkeypatch):
    import trainer.engine.loop as loop

    steps = [0]
    command = ("job=ensemble", *STATEFUL, QUIET, "epochs=2", *KINDS[kind])

    def step(run: Any, *batch: Any, real=loop.train_step) -> None:
        steps[0] += 1
        if steps[0] == stop:
            raise KeyboardInterrupt
        real(run, *batch)

    stop = {"seeds": 20, "folds": 15, "snapshots": 10}[kind]  # in the second member; after the first cycle
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        assert train(*command, "output=run")[0] == 130
    steps[0], stop = 0, -1
    monkeypatch.setattr(loop, "train_step", step)
    first = Path("run/member_0/checkpoints/last.pt")
    before = first.read_bytes() if first.exists() else b""
    code, out, err = train("resume=run") if again == "resume" else train(*command, "output=run")
    assert code == 0, err
    assert not before or first.read_bytes() == before, "a complete member is not trained again"
    trained = steps[0]
    assert train(*command, "output=uninterrupted")[0] == 0
    assert trained < steps[0] - trained
    ours, theirs = load("run", "best")["members"], load("uninterrupted", "best")["members"]
    assert [m["name"] for m in ours] == [m["name"] for m in theirs]
    assert same([m["model"] for m in ours], [m["model"] for m in theirs])
    assert files_in("run") == files_in("uninterrupted")
    code, out, _ = train("resume=run")
    assert code == 0
    assert "the ensemble is complete" in out


def test_another_ensemble_does_not_continue_the_one_that_is_there(train, monkeypatch):
    command = ("job=ensemble", *SMALL, "job.models=2", "output=run")
    with monkeypatch.context() as patch:
        at_step(3, patch, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train(*command)[0] == 130
    code, _, err = train(*command, "optimizer.lr=0.3")
    assert code == 2
    assert "contains another ensemble: optimizer.lr: 0.05 there, 0.3 here" in err


def test_the_rows_of_a_failed_run_are_those_of_its_checkpoint_when_it_is_resumed(train, whole, monkeypatch):
    with monkeypatch.context() as patch:
        inject(patch, "replace", Fault(number=2, name="last.pt"))
        assert train(*SMALL, "output=run")[0] == 1
    assert len(history_of("run")) <= 1
    assert train("resume=run")[0] == 0
    assert same_run(whole, "run")


@pytest.mark.parametrize(
    "text", ["Read error [127.0.0.1]:24787: Connection reset by peer. This", "Connection closed by peer [127.0.0.1]"]
)
def test_a_process_whose_peer_has_ended_says_so(text, train, monkeypatch):
    """What gloo raises in the processes that are left, after one of them was killed."""

    def lost(*_: object, **__: object) -> None:
        raise RuntimeError(f"[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] {text}")

    monkeypatch.setattr("trainer.config.load.load_config", lost)
    code, _, err = train("data=fake")
    assert code == 1
    assert err.startswith("error: another process of this run has ended: ")
    assert text[:10] in err
