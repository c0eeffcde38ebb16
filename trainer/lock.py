"""One writer per directory: a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from trainer.errors import ConfigError, Problem
from trainer.files import make_directory, remove_empty, remove_temporaries
from trainer.formats import JsonObject

LOCK = ".lock"
BEAT = 30.0  # seconds between two signs of life
LEASE = 120.0  # seconds without one after which a writer on another machine counts as dead
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # by the file system: the signs of life decide

_handles: set[int] = set()  # descriptors of the locks that this process holds


def _close_in_child() -> None:
    """Close the locks in a forked process, such as a worker of a data loader, which may outlive the process that holds them."""
    for handle in _handles:
        with suppress(OSError):
            os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the lock of a file and hold it."""
    make_directory(path.parent)
    handle = _acquire(path, wait=True)
    assert handle is not None
    try:
        yield
    finally:
        _release(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.is_file():
        return False
    handle = _acquire(path, wait=False)
    if handle is not None:
        _release(handle)
    return handle is None


@contextmanager
def one_writer(directory: Path, key: str = "output") -> Iterator[None]:
    """Hold the lock of a directory, which is created if it does not exist, and removed at the end if it is still empty.

    The lock is that of the file ``.lock``, which names the process and its machine and is removed at the end; one that a
    killed process has left is taken over, and the temporary files that it has left are removed, there and in the
    directories below it, such as those of a sweep's jobs. On file systems that do not share locks between machines, the
    time of the file, which is set every ``BEAT`` seconds, says whether a process on another machine is still alive.

    Args:
        directory: The directory.
        key: The key of the config that names it.

    Raises:
        ConfigError: Another process holds the lock, or the directory cannot be written.
    """
    path = directory / LOCK
    try:
        make_directory(directory)
        handle = _acquire(path, wait=False)
        if handle is None or (owner := _owner_elsewhere(path)):
            raise _is_held(directory, key, _read(path) if handle is None else owner, handle)
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        hint = "another output=<directory>" if key == "output" else ""
        raise ConfigError(Problem(key, str(directory), text, hint)) from None
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, stop), daemon=True)
    try:
        _write(handle)
        remove_temporaries(directory)
        _unlock_below(directory)
        beat.start()
        yield
    finally:
        stop.set()
        if beat.is_alive():
            beat.join()
        with suppress(OSError):
            path.unlink()  # before the lock ends, so that nobody removes that of the next writer
        _release(handle)
        remove_empty(directory)


def _unlock_below(directory: Path) -> None:
    """Remove what killed processes have left in the directories below: a finished run has no other writer that would."""
    for path in directory.glob(f"*/{LOCK}"):
        if path.is_symlink() or path.parent.is_symlink():
            continue
        with suppress(OSError):
            if (handle := _acquire(path, wait=False)) is None:
                continue
            try:
                if not _owner_elsewhere(path):
                    remove_temporaries(path.parent)
                    path.unlink()
            finally:
                _release(handle)


def machine() -> str:
    """What identifies this machine since its start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.is_file() else os.uname().nodename


def _acquire(path: Path, wait: bool) -> int | None:
    """A descriptor that holds the lock of a file, which is created; None if another process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                os.close(handle)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return None
                raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                _handles.add(handle)
                return handle
        os.close(handle)  # its last holder has removed the file meanwhile


def _release(handle: int) -> None:
    _handles.discard(handle)
    with suppress(OSError):
        os.close(handle)


def _beat(handle: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with suppress(OSError):
            os.utime(handle)


def _write(handle: int) -> None:
    owner = {"host": os.uname().nodename, "machine": machine(), "pid": os.getpid(), "since": _now()}
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps(owner) + "\n").encode(), 0)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _read(path: Path) -> JsonObject:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _owner_elsewhere(path: Path) -> JsonObject:
    """The owner that a lock file names if it is on another machine and has given a sign of life lately; else empty."""
    owner = _read(path)
    age = time.time() - path.stat().st_mtime
    return {**owner, "age": age} if owner.get("machine", machine()) != machine() and age < LEASE else {}


def _is_held(directory: Path, key: str, owner: JsonObject, handle: int | None) -> ConfigError:
    if handle is not None:
        _release(handle)
    since = f" since {owner['since']}" if "since" in owner else ""
    text = f"is being written by process {owner.get('pid', '?')} on {owner.get('host', 'this machine')}{since}"
    hint = "wait for it, or end it" if key == "resume" else "wait for it, end it, or another output=<directory>"
    if "age" in owner:
        hint += f"; its last sign of life is {owner['age']:.0f} s old, and it counts as dead after {LEASE:.0f} s"
    return ConfigError(Problem(key, str(directory), text, hint))
