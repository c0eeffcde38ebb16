"""Which workers of a search are alive: a lock that ends with the process, and a sign of life for other machines."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from trainer.lock import file_lock, is_locked, machine
from trainer.search.records import Claim

BEAT = 30.0  # seconds between two signs of life
LEASE = 300.0  # seconds without one after which a worker on another machine counts as dead


class Presence:
    """The presence of this process in a search, as a context manager.

    Attributes:
        claim: What a trial records about the worker that runs it.
    """

    def __init__(self, run_dir: Path, beat: Callable[[str, int], None]) -> None:
        """``beat(worker, count)`` records a sign of life."""
        self.directory = (run_dir / ".workers").absolute()
        self.beat = beat
        self.worker = uuid.uuid4().hex[:12]
        self.stop = threading.Event()
        self.seen: dict[str, tuple[int | None, float]] = {}

    def __enter__(self) -> Presence:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / self.worker
        self.lock = file_lock(self.path)
        self.lock.__enter__()
        self.claim: Claim = {"worker": self.worker, "place": place(self.directory), "pid": os.getpid()}
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
        self.path.unlink(missing_ok=True)
        self.lock.__exit__(None, None, None)

    def _beat(self) -> None:
        count = 0
        while not self.stop.wait(BEAT):
            count += 1
            self.beat(self.worker, count)

    def alive(self, claim: Claim | None, beats: dict[str, int]) -> bool:
        """Whether the worker that made a claim is still there.

        Args:
            claim: As recorded; None, of a process that was killed before it had recorded it, is of nobody.
            beats: The last sign of life of each worker.
        """
        if claim is None:
            return False
        if claim["worker"] == self.worker:
            return True
        if claim["place"] == place(self.directory):
            return is_locked(self.directory / claim["worker"])
        beat, now = beats.get(claim["worker"]), time.monotonic()
        if claim["worker"] not in self.seen or self.seen[claim["worker"]][0] != beat:
            self.seen[claim["worker"]] = (beat, now)
        return now - self.seen[claim["worker"]][1] < LEASE


def place(directory: Path) -> str:
    """Return what identifies a directory on this machine since its start."""
    status = directory.stat()
    return f"{machine()}:{status.st_dev}:{status.st_ino}"
