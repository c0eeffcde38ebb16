"""Where trials are recorded, through Optuna: a journal file, SQLite, or PostgreSQL."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ConfigError, Problem
from trainer.files import make_directory
from trainer.literal import print_literal
from trainer.lock import file_lock
from trainer.search.sample import quiet_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

SEARCH_LOCK = ".search.lock"  # in the run directory
JOURNAL = ("search.journal", ".search.journal.lock")  # there, if no other storage is typed
FIRST = b'{"op_code":'  # with which every line of a journal begins
ADVISORY_LOCK = 0x747261696E  # "train", among the locks of other programs in the same database
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "9p"}


def open_storage(address: str | None, run_dir: Path) -> BaseStorage:
    """Return the storage of ``job.storage``.

    Raises:
        ConfigError: It cannot be opened.
    """
    quiet_optuna()
    if address is None:
        run_dir.mkdir(parents=True, exist_ok=True)
        return _journal(run_dir / JOURNAL[0])
    if "://" not in address:
        path = Path(address).expanduser()
        _make_directory(path.parent, address)
        return _journal(path)
    if address.startswith("sqlite"):
        _check_sqlite(address)
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    # Psycopg 3 is what the extra installs; a plain postgresql:// would ask for version 2.
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", address)
    options = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        engine = create_engine(url)
        try:
            with storage_lock(engine, run_dir):  # two processes would create the same tables
                return RDBStorage(url, engine_kwargs=options)
        finally:
            engine.dispose()
    except (SQLAlchemyError, OSError, ImportError, RuntimeError) as error:
        reason = re.sub(r"//[^/@]*@", "//...@", str(error.__cause__ or error).strip().splitlines()[0])
        raise ConfigError(Problem("job.storage", without_password(address), f"cannot be opened: {reason}")) from None


@contextmanager
def storage_lock(engine: Engine | None, run_dir: Path) -> Iterator[None]:
    """Hold the lock of a search among all processes that share it, through its directory or through its server.

    Args:
        engine: Of a database; None for a journal.
        run_dir: Run directory of the search.
    """
    with file_lock(run_dir / SEARCH_LOCK):
        if engine is None or engine.dialect.name != "postgresql":
            yield
            return
        from sqlalchemy import text

        # The server releases it when the connection ends, so that a killed process blocks nobody.
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a database."""
    storage.remove_session()
    engine = getattr(storage, "engine", None)
    if engine is not None:
        engine.dispose()


def without_password(address: str) -> str:
    """Return an address as it may be printed and saved.

    >>> without_password("postgresql://user:secret@host/db")
    'postgresql://user:***@host/db'
    """
    return re.sub(r"(//[^/:@]*):[^/@]*@", r"\1:***@", address)


def _check_sqlite(address: str) -> None:
    """Raise ConfigError for a file on a network file system, whose locks SQLite cannot rely on."""
    path = Path(address.partition("///")[2]).absolute()
    _make_directory(path.parent, address)
    kind = filesystem(path.parent)
    if kind in NETWORK:
        hint = "a journal file (job.storage=<path>) or PostgreSQL"
        raise ConfigError(
            Problem("job.storage", address, f"is on a network file system ({kind}), on which SQLite loses data", hint)
        )


def _make_directory(path: Path, address: str) -> None:
    """Create the directory of a file and say so: a misspelled one would begin a new search."""
    if path.is_dir():
        return
    try:
        make_directory(path)
    except OSError as error:
        text = f"is in a directory that cannot be created: {error.strerror}"
        raise ConfigError(Problem("job.storage", address, text)) from None
    print_literal(
        f"note: job.storage={address} is in a directory that did not exist: {path} is created", file=sys.stderr
    )


def filesystem(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that a path is on; empty where it is not known."""
    best, kind = "", ""
    for line in mounts.read_text().splitlines() if mounts.is_file() else []:
        _, place, name, *_ = line.split()
        if str(path).startswith(place) and len(place) >= len(best):
            best, kind = place, name
    return kind


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    check_journal(path)
    lock = path.with_name(f".{path.name}.lock")

    class Journal(JournalFileBackend):
        """A journal whose lock the kernel releases when its process ends, so that a killed one blocks nobody.

        A line that a killed process left incomplete is removed before the next one is appended: Optuna would not read on.
        """

        def append_logs(self, logs: list[dict[str, object]]) -> None:
            with file_lock(lock):
                remove_incomplete_line(path)
                super().append_logs(logs)

    class NoLock(JournalFileOpenLock):
        """In place of Optuna's own lock, which the one above replaces."""

        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    try:
        with file_lock(lock):
            remove_incomplete_line(path)
        return JournalStorage(Journal(str(path), lock_obj=NoLock(str(path))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"is not a journal that can be read: {error}"
        raise ConfigError(Problem("job.storage", str(path), text, "another file, or remove it")) from None


def check_journal(path: Path) -> None:
    """Raise ConfigError if a file that exists is not a journal: nothing may be appended to it or removed from it."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(len(FIRST))
    if start != FIRST[: len(start)]:
        text = "is a file, but not a journal of trials"
        raise ConfigError(Problem("job.storage", str(path), text, "the path of a new file, such as trials.journal"))


def remove_incomplete_line(path: Path) -> None:
    """Cut a file after its last newline."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


__all__ = ["close_storage", "open_storage", "storage_lock", "without_password"]
