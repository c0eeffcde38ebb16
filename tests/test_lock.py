"""One writer per directory."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from conftest import QUIET, STATEFUL, same_run

from trainer import lock
from trainer.errors import ConfigError
from trainer.files import make_new_directory
from trainer.lock import LOCK, file_lock, is_locked, one_writer
from trainer.run_dir import new_run_dir


def files_in(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*"))


def test_a_second_writer_is_refused_and_told_who_the_first_one_is(tmp_path):
    with one_writer(tmp_path / "run"):
        with pytest.raises(ConfigError, match=f"is being written by process {os.getpid()} on .* since 20"):  # noqa: SIM117
            with one_writer(tmp_path / "run"):
                raise AssertionError
        assert is_locked(tmp_path / "run" / LOCK)
    with one_writer(tmp_path / "run"):
        pass


def test_a_directory_in_which_nothing_was_written_is_removed_again(tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("new/run", "own"):
        with one_writer(tmp_path / name):
            pass
    with one_writer(tmp_path / "kept" / "run"):
        (tmp_path / "kept" / "run" / "file").touch()
    assert files_in(tmp_path) == ["kept", "kept/run", "kept/run/file", "own"]


def test_a_lock_that_a_killed_process_has_left_is_taken_over_and_its_temporary_files_are_removed(tmp_path):
    owner = {"host": "here", "machine": lock.machine(), "pid": 1, "since": "2026-01-01T00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(owner))
    for name in (".result.json.1.tmp", "checkpoints/.last.pt.1.tmp", "report/.curves.png.1.tmp", "own.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with one_writer(tmp_path):
        assert files_in(tmp_path) == [LOCK, "checkpoints", "own.tmp", "report"]
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (lock.LEASE + 1, False)])
def test_a_writer_on_another_machine_counts_as_alive_until_its_signs_of_life_end(age, alive, tmp_path):
    """Its lock is not seen here, as on a network file system that does not share locks."""
    file = tmp_path / LOCK
    file.write_text(json.dumps({"host": "far", "machine": "other", "pid": 7, "since": "2026-01-01T00:00:00"}))
    os.utime(file, (file.stat().st_mtime - age,) * 2)
    if alive:
        with pytest.raises(ConfigError, match=r"process 7 on far .*\n.*counts as dead after"), one_writer(tmp_path):
            raise AssertionError
        assert file.exists()
    else:
        with one_writer(tmp_path):
            pass


def test_what_killed_jobs_of_a_sweep_left_is_removed_and_the_lock_of_a_living_one_is_kept(tmp_path):
    for name in ("killed", "living"):
        (tmp_path / name).mkdir()
        (tmp_path / name / LOCK).write_text("{}")
    (tmp_path / "killed" / ".result.json.tmp").touch()
    (tmp_path / "link").symlink_to(tmp_path / "living")
    with file_lock(tmp_path / "living" / LOCK), one_writer(tmp_path):
        assert not (tmp_path / "killed" / LOCK).exists()
        assert not (tmp_path / "killed" / ".result.json.tmp").exists()
        assert (tmp_path / "living" / LOCK).exists()


def test_a_forked_process_that_outlives_the_writer_does_not_hold_its_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    end = context.Event()
    with one_writer(tmp_path):
        child = context.Process(target=end.wait, args=(60,))
        child.start()
    with one_writer(tmp_path):
        pass
    with file_lock(tmp_path / "other"):
        assert is_locked(tmp_path / "other")
    assert not is_locked(tmp_path / "other")
    end.set()
    child.join()


def test_a_lock_file_that_was_removed_while_it_was_opened_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """The last writer removes the file between the open and the lock of the next one."""
    path, opened = tmp_path / LOCK, []

    def remove_once(*arguments: object, real=os.open) -> int:
        handle = real(*arguments)
        if not opened:
            path.unlink()
        opened.append(handle)
        return handle

    monkeypatch.setattr(lock.os, "open", remove_once)
    with one_writer(tmp_path):
        assert path.exists()
    assert len(opened) == 2


def test_default_directories_of_the_same_second_differ(tmp_path, monkeypatch):
    """Both look for a free name before either creates it."""
    monkeypatch.chdir(tmp_path)
    first = new_run_dir(["seed=1"])
    seen = Path.exists
    monkeypatch.setattr(Path, "exists", lambda p: p.name != first.name and seen(p))
    second = make_new_directory(first)
    assert second != first
    assert second.is_dir()


def test_the_run_directory_of_a_wrong_command_is_not_left_behind(train, tmp_path):
    assert train("data=fake", "architecture=mlp", "data.count=20", "data.test=500")[0] == 2
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "command",
    [
        ("resume=run",),
        ("job=evaluate", "checkpoint=run", "output=run/other"),
        ("job=report", "run=run"),
        ("-m", "seed=1,2", "output=sweep"),
        ("job=ensemble", "job.models=2", "output=new"),
        (*STATEFUL, "output=new"),
    ],
)
def test_every_job_that_writes_a_directory_holds_it(command, train, tmp_path):
    assert train(*STATEFUL, QUIET, "epochs=1", "output=run")[0] == 0
    place = dict(o.split("=", 1) for o in command if "=" in o)
    held = tmp_path / (place.get("output") or place.get("resume") or place["run"])
    before = files_in(tmp_path)
    with one_writer(held):
        code, _, err = train(*command)
    assert code == 2
    assert f"is being written by process {os.getpid()}" in err
    assert files_in(tmp_path) == before


def test_two_runs_into_one_directory_at_once_leave_the_first_one_unharmed(train, tmp_path, monkeypatch):
    import trainer.engine.loop as loop

    codes = []

    def step(run, *batch, real=loop.train_step):
        if not codes:
            codes.append(None)
            codes[0] = train(*STATEFUL, QUIET, "seed=1", "output=run")[0]
        real(run, *batch)

    assert train(*STATEFUL, QUIET, "output=alone")[0] == 0
    monkeypatch.setattr(loop, "train_step", step)
    assert train(*STATEFUL, QUIET, "output=run")[0] == 0
    assert codes == [2]
    assert same_run("alone", "run")
