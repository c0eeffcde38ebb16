"""A file of TensorBoard events, whose loss never ends a run."""

from __future__ import annotations

import os
import socket
import struct
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

FLUSH = 120.0  # seconds after which an event brings those before it to the file

_numbers = count()


def close_quietly(file: IO[bytes]) -> None:
    """Close a file that is of no further use, also on a full disk."""
    with suppress(OSError):
        file.close()


def record(data: bytes) -> bytes:
    """Return a record of a TFRecord file: length, its checksum, data, their checksum.

    TensorBoard computes the checksums in Python, which takes 0.1 microseconds per byte.
    """
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as TFRecord files have it."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class EventFile:
    """What torch's ``FileWriter`` writes to, without the thread of TensorBoard's own, which prints a traceback if it fails.

    Args:
        directory: Where the file is created.
        failed: Called with the file and the first error; events are dropped from then on.
    """

    def __init__(self, directory: Path, failed: Callable[[Path, OSError], None]) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.path, self.failed = directory / name, failed
        self.records: IO[bytes] | None = None
        self.flushed = time.monotonic()
        self._attempt(self._open)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def _open(self) -> None:
        self.path.parent.mkdir(exist_ok=True)  # not its parents: a run directory that was removed stays so
        self.records = self.path.open("wb")
        weakref.finalize(self, close_quietly, self.records)  # where nobody closes it, as in a notebook

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            records, self.records = self.records, None
            if records is not None:
                with suppress(OSError):
                    records.close()
            self.failed(self.path, error)

    def get_logdir(self) -> str:
        return str(self.path.parent)

    def add_event(self, event: Event) -> None:
        if self.records is not None:
            records, data = self.records, record(event.SerializeToString())
            self._attempt(lambda: records.write(data))
            if time.monotonic() - self.flushed > FLUSH:
                self.flush()

    def flush(self) -> None:
        self.flushed = time.monotonic()
        if self.records is not None:
            self._attempt(self.records.flush)

    def close(self) -> None:
        if self.records is not None:
            self._attempt(self.records.close)
            self.records = None


class EventWriter(SummaryWriter):
    """torch's ``SummaryWriter``, writing to an ``EventFile``.

    Args:
        directory: Where the file is created.
        purge_step: Events of earlier files from this step on are dropped by TensorBoard.
        failed: Called with the file and the first error.
    """

    def __init__(self, directory: Path, purge_step: int | None, failed: Callable[[Path, OSError], None]) -> None:
        self.failed = failed
        super().__init__(str(directory), purge_step=purge_step)

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            writer = FileWriter.__new__(FileWriter)
            writer.event_writer = EventFile(Path(self.log_dir), self.failed)  # pyright: ignore[reportAttributeAccessIssue]
            self.file_writer, self.all_writers = writer, {self.log_dir: writer}  # pyright: ignore[reportAttributeAccessIssue]
            if self.purge_step is not None:
                writer.add_event(Event(step=self.purge_step, session_log=SessionLog(status=SessionLog.START)))
                self.purge_step = None
        return self.file_writer  # pyright: ignore[reportReturnType]
