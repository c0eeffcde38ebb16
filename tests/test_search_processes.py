"""Searches whose processes are killed, and searches that several processes share, in every storage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from searching import OPENED, bowl, searched, session_of, trials_of

from trainer.search.presence import Presence
from trainer.search.storage import close_storage

SMALL = ("job.epochs=[1,3]", "job.trials=[8,4]", "job.finalists=2", "job.seeds=3")
STORAGES = ["journal", "sqlite", "postgresql"]


def in_a_child(work: Callable[[], Any]) -> int:
    """Run a function in a forked process, which starts at once and without warnings; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return pid


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server of its own, which is reached through a socket in a temporary directory."""
    programs = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    for directory_of_version in sorted(Path("/usr/lib/postgresql").glob("*/bin")):  # where Debian puts them
        programs = {name: path or shutil.which(name, path=str(directory_of_version)) for name, path in programs.items()}
    if not all(programs.values()):
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    pytest.importorskip("psycopg")
    # The server refuses to run as root; the path of a socket has at most 107 characters.
    account: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    place = Path(f"/tmp/trainer-postgresql-{os.getpid()}")
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    options = {**account, "check": True, "capture_output": True, "cwd": place}
    try:
        subprocess.run([programs["initdb"], "-D", place / "data", "-A", "trust", "-U", "test", "-N"], **options)
        server = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
        log = ["-l", place / "log"]
        subprocess.run([programs["pg_ctl"], "-D", place / "data", "-w", "-o", server, *log, "start"], **options)
        try:
            yield f"postgresql://test@/postgres?host={place}"
        finally:
            subprocess.run([programs["pg_ctl"], "-D", place / "data", "-m", "immediate", "stop"], **options)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_opened()


def close_opened() -> None:
    """Close the connections to databases that are still open."""
    while OPENED:
        close_storage(OPENED.pop().ledger.storage)


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The override of a storage."""
    if request.param == "journal":
        yield []
    elif request.param == "sqlite":
        yield [f"job.storage=sqlite:///{tmp_path}/trials.db", "job.study=shared"]
    else:
        with postgresql() as url:
            yield [f"job.storage={url}", "job.study=shared"]
            close_opened()


def killed_again_and_again(start: Callable[[], int], moments: int) -> int:
    """Kill a search at random moments; return how often it was still running."""
    rng, killed = random.Random(0), 0
    for _ in range(moments):
        pid = start()
        time.sleep(rng.uniform(0.05, 0.4))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
    return killed


def trials_in(session: Any, stage: str) -> list[Any]:
    return session.ledger.storage.get_all_trials(session.ledger.study(stage))


def check_that_no_trial_is_lost_or_run_twice(session: Any) -> None:
    for stage in ("stage-1", "stage-2", "final"):
        indices = [t.user_attrs["entry"]["index"] for t in trials_in(session, stage)]
        assert sorted(indices) == list(range(len(indices)))
        assert session.ledger.counts(stage)["running"] == 0


@pytest.mark.parametrize(("address", "moments"), [
    pytest.param("journal", 3),
    *(pytest.param(storage, 20, marks=pytest.mark.slow) for storage in STORAGES),
], indirect=["address"])  # fmt: skip
def test_a_search_that_is_killed_at_random_moments_ends_with_the_same_trials(address, moments, tmp_path):
    options = [*SMALL, "job.sampler=tpe"]
    unbroken = trials_of(searched(tmp_path / "unbroken", bowl, *options))

    def start() -> int:
        return in_a_child(lambda: searched(tmp_path / "k", bowl, *options, *address, delay=lambda: time.sleep(0.02)))

    killed = killed_again_and_again(start, moments)
    session = searched(tmp_path / "k", bowl, *options, *address)
    assert killed
    assert trials_of(session) == unbroken
    check_that_no_trial_is_lost_or_run_twice(session)


@pytest.mark.slow
@pytest.mark.parametrize("address", STORAGES, indirect=True)
@pytest.mark.parametrize("apart", [False, True], ids=["one directory", "a directory each"])
def test_three_processes_share_a_search_and_survive_kills(address, apart, tmp_path, monkeypatch):
    if apart and not any("postgresql" in o for o in address):
        pytest.skip("a file is shared through one directory")
    monkeypatch.setattr("trainer.search.presence.BEAT", 0.1)  # of the children too, which are forks
    monkeypatch.setattr("trainer.search.presence.LEASE", 1.5)
    options = ["job.epochs=[1,2]", "job.trials=[24,8]", "job.seeds=2", "job.pruner=none"]

    def start(number: int) -> int:
        place = tmp_path / (f"s{number}" if apart else "s")
        return in_a_child(lambda: searched(place, bowl, *options, *address, delay=lambda: time.sleep(0.03)))

    rng, processes = random.Random(1), [start(number) for number in range(3)]
    for _ in range(4):
        time.sleep(rng.uniform(0.3, 0.6))
        number = rng.randrange(3)
        os.kill(processes[number], signal.SIGKILL)
        os.waitpid(processes[number], 0)
        processes[number] = start(number)
    assert [os.waitpid(pid, 0)[1] for pid in processes] == [0, 0, 0]
    session = searched(tmp_path / ("s0" if apart else "s"), bowl, *options, *address)
    assert trials_of(session) == trials_of(searched(tmp_path / "alone", bowl, *options))
    workers = Counter(t.user_attrs["claim"]["worker"] for t in trials_in(session, "stage-1"))
    assert len(workers) >= 3, "the trials were shared"
    check_that_no_trial_is_lost_or_run_twice(session)


@pytest.mark.slow
def test_a_process_that_ends_in_the_same_trial_again_and_again_makes_it_fail(tmp_path):
    """Such a trial, which for example needs too much memory, would otherwise end all workers."""

    def objective(tree):
        if tree["optimizer"]["lr"] > 0.3:
            os._exit(1)
        return 0.5

    survivor = session_of(tmp_path, bowl, *SMALL)
    with Presence(tmp_path, survivor.ledger.beat) as presence:
        for _ in range(6):
            os.waitpid(in_a_child(lambda: searched(tmp_path, objective, *SMALL)), 0)
            survivor.ledger.reclaim("stage-1", presence)
    results = survivor.ledger.results("stage-1")
    assert any(r.state == "failed" and "ended 3 times" in r.info["error"] for r in results)


def test_a_journal_whose_last_line_is_incomplete_can_be_continued(tmp_path):
    session_of(tmp_path, bowl, *SMALL)
    journal = tmp_path / "search.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker')
    again = searched(tmp_path, bowl, *SMALL)
    assert len(again.repetitions) == 9
    assert journal.read_bytes().startswith(whole)
