"""What the program is doing while that takes long: in a terminal a line that is replaced, otherwise a line now and then.

Lines go to the standard error stream, and only where the command line has asked for them with ``enable``: a caller from
Python sees none.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

REFRESH = 0.25  # seconds between two states of the line in a terminal
PATIENCE = 0.5  # seconds before an activity with steps is shown: most are over by then
PLAIN_EVERY = 30.0  # seconds between two lines elsewhere
CLEAR = "\r\x1b[2K"

T = TypeVar("T")


class Progress:
    """The activities that are under way, of which the innermost is shown."""

    def __init__(self) -> None:
        self.enabled, self.live, self.shown, self.file = False, False, False, -1
        self.activities: list[Activity] = []

    def enable(self) -> None:
        """Show activities from now on, in one process of several that train together."""
        notebook = "JPY_PARENT_PID" in os.environ  # its output claims to be a terminal
        self.enabled = os.environ.get("RANK", "0") == "0" and not notebook
        self.live = self.enabled and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.file = sys.stderr.fileno() if self.live else -1

    def show(self, activity: Activity) -> None:
        """Show an activity in a terminal; a line too long for it is cut."""
        columns = os.get_terminal_size(self.file).columns or 80
        # Not by print, whose lock another thread may hold when a process with workers is forked.
        os.write(self.file, f"{CLEAR}{activity.line()[: columns - 1]}".encode(errors="replace"))
        self.shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self.shown:
            os.write(self.file, CLEAR.encode())
            self.shown = False


class Activity:
    """Something that takes long, and how far it is."""

    def __init__(self, text: str, total: int = 0) -> None:
        self.text, self.total, self.done = text, total, 0
        self.started = time.monotonic()
        self.next = self.started + (PATIENCE if PROGRESS.live else PLAIN_EVERY)

    def line(self) -> str:
        """The activity in words."""
        seconds = time.monotonic() - self.started
        steps = f": {self.done:,} of {self.total:,}" if self.total else " ..."
        return f"{self.text}{steps}" + (f" ({seconds:.0f} s)" if seconds >= 1 else "")

    def advance(self) -> None:
        """Count a step, and show it now and then."""
        self.done += 1
        now = time.monotonic()
        if PROGRESS.enabled and now >= self.next and PROGRESS.activities[-1:] == [self]:
            self.next = now + (REFRESH if PROGRESS.live else PLAIN_EVERY)
            if PROGRESS.live:
                PROGRESS.show(self)
            else:
                print(self.line(), file=sys.stderr, flush=True)


PROGRESS = Progress()


@contextmanager
def activity(text: str) -> Iterator[None]:
    """Show in a terminal, at once, what is done in the ``with`` block, such as ``loading torch``, and for how long already."""
    if not PROGRESS.live:
        yield
        return
    own, over = Activity(text), threading.Event()
    PROGRESS.activities.append(own)
    PROGRESS.show(own)
    # Imports and drawing have no steps at which the line could be replaced.
    thread = threading.Thread(target=_keep_showing, args=(own, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        PROGRESS.activities.remove(own)
        PROGRESS.clear()


def _keep_showing(own: Activity, over: threading.Event) -> None:
    while not over.wait(REFRESH):
        if PROGRESS.activities[-1] is own:
            PROGRESS.show(own)


def steps(text: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Yield the items, and show how many of ``total`` are done if that takes long.

    >>> list(steps("counting", [1, 2], 2))
    [1, 2]
    """
    own = Activity(text, total)
    PROGRESS.activities.append(own)
    try:
        for item in items:
            yield item
            own.advance()
    finally:
        PROGRESS.activities.remove(own)
        PROGRESS.clear()
