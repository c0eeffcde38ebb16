"""The standard streams of a program that continues although nobody reads it any more, as in ``train ... | head -3``."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Any, TextIO


class UnreadStream:
    """A text stream that drops what is written to it once its reader has gone.

    Args:
        stream: The stream that it stands for.
        note: Printed to the standard error stream when that happens.
    """

    def __init__(self, stream: TextIO, note: str = "") -> None:
        self.stream, self.note, self.unread = stream, note, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return len(text) if self.unread else self.stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            if not self.unread:
                self.stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        self.unread = True
        discard(self.stream)
        if self.note:
            print(self.note, file=sys.stderr, flush=True)


def discard(stream: TextIO) -> None:
    """Let what Python still holds back for a stream whose reader has gone go nowhere, instead of failing at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):
        pass  # not a file, as in a notebook
    finally:
        os.close(nowhere)


def keep_running_unread() -> None:
    """Go on if the reader of the standard output or error stream goes."""
    note = "nobody reads the standard output any more: the run continues, see its run directory"
    if not isinstance(sys.stdout, UnreadStream):
        sys.stdout = UnreadStream(sys.stdout, note)  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(sys.stderr, UnreadStream):
        sys.stderr = UnreadStream(sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]


def accept_all_characters() -> None:
    """Print a question mark for what the standard streams cannot encode: an ASCII pipe must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's is not
            stream.reconfigure(errors="replace")
