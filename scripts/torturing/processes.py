"""Forked processes that run the program, and what they may not do: an audit hook notes every foreign call."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds of the clock for one process; the machine may be loaded
CPU_LIMIT = 5.0  # seconds of the processor for one input
CALLS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "ctypes.call_function",
)
CHANGES = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def fork(work: Callable[[], int], folder: Path, log: str = "log") -> int:
    """Run a function in a forked process, its working directory ``folder``, its output in ``log``; return the process id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def train(folder: Path, *overrides: str, before: Callable[[], object] = lambda: None) -> int:
    """Start the program in a forked process; return the process id."""

    def work() -> int:
        from trainer.cli import main

        before()
        return main(list(overrides))

    return fork(work, folder)


def wait(child: int, limit: float = LIMIT) -> int:
    """Return the exit code of a process, negative if a signal ended it; one that does not end is killed and counts as 124."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


class Watch:
    """Notes foreign calls and writes outside some directories, for the rest of the process.

    Attributes:
        seen: What was noted.
    """

    def __init__(self, *allowed: Path) -> None:
        self.allowed = tuple(os.path.realpath(path) for path in allowed)
        self.seen: list[str] = []
        self.active = True
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & WRITES:
                self.check(event, path)
        elif event in CHANGES:
            for path in arguments[:2]:
                if isinstance(path, str | bytes):
                    self.check(event, path)
        elif event == "subprocess.Popen":
            if os.path.basename(str(arguments[0])) != "git":  # the commit of the working directory
                self.seen.append(f"{event}: {arguments[1]!r}")
        elif event in CALLS:
            self.seen.append(f"{event}: {arguments!r}"[:200])

    def check(self, event: str, path: str | bytes) -> None:
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith(self.allowed) and not place.startswith("/dev/"):
            self.seen.append(f"{event}: {place}")
