"""Atomic writes: whoever reads a file finds the old content or the new content, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainer.errors import WriteError

_created: set[Path] = set()  # directories that this process has created and may remove while they are empty


@contextmanager
def atomic_path(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the directory of ``path``; when the block ends, sync it and rename it to ``path``.

    The directory is created if it does not exist. If the block raises, the temporary file is removed and ``path``
    stays as it was. The file that ``path`` was before is kept as ``previous`` if that is given.

    Raises:
        WriteError: The file cannot be written, such as on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            commit(temporary, path, previous)
        finally:
            with suppress(OSError):  # the first error counts
                temporary.unlink(missing_ok=True)


def commit(temporary: Path, path: Path, previous: Path | None = None) -> None:
    """Sync a temporary file and rename it to ``path``; the file of before is kept as ``previous`` if that is given."""
    sync(temporary)
    if previous is not None and path.is_file():
        keep(path, previous)
    os.replace(temporary, path)
    sync(path.parent)


def keep(path: Path, previous: Path) -> None:
    """Make ``previous`` another name of the file ``path``, which is about to be replaced."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, previous)
        return
    os.replace(link, previous)
    link.unlink(missing_ok=True)  # a rename between two names of one file does nothing


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into a WriteError that names ``path``."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str, before: Callable[[], str] = str) -> None:
    """Append ``text`` to a file at once; a file that is missing is rewritten, with the text of ``before`` in front.

    What a full disk has cut short is taken back.
    """
    with writing(path):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            require(path.parent)
            write_text(path, before() + text)
            return
        try:
            size, data = os.fstat(handle).st_size, text.encode()
            written = 0
            try:
                while written < len(data):
                    written += os.write(handle, data[written:])
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def require(directory: Path) -> None:
    """Raise WriteError if a run directory has been removed or unmounted: what is left of the run would not be a run."""
    if not directory.is_dir():
        raise WriteError(directory, "the directory has been removed")


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory after a rename, have reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Create a directory and its parents; ``remove_empty`` removes them again."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    _created.update(p.absolute() for p in missing)


def make_new_directory(first: Path) -> Path:
    """Create a directory that did not exist: ``first``, or with the first free number from 2 on at the end of its name.

    Two processes that do this at once get two directories.
    """
    make_directory(first.parent)
    path, number = first, 1
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = first.with_name(f"{first.name}_{number}")
        else:
            _created.add(path.absolute())
            return path


def remove_empty(path: Path) -> None:
    """Remove a directory and its parents as far as they are empty and this process has created them."""
    for directory in (path.absolute(), *path.absolute().parents):
        if directory not in _created:
            return
        try:
            directory.rmdir()
        except OSError:
            return
        _created.discard(directory)


def remove_temporaries(run_dir: Path) -> None:
    """Remove the temporary files that a killed process has left in a run directory."""
    for pattern in (".*.tmp", "checkpoints/.*.tmp", "report/.*.tmp"):
        for temporary in run_dir.glob(pattern):
            if not temporary.is_symlink() and temporary.is_file():
                temporary.unlink(missing_ok=True)
