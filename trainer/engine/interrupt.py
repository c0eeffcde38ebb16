"""Ctrl-C and SIGTERM: the first requests a stop after the current step, the second takes effect at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None  # as signal.signal takes and returns it


class Interrupt:
    """Context manager in which the first SIGINT or SIGTERM only sets ``requested``; a second one acts as usual."""

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, Handler] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # no other thread can handle signals in Python
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.handle)
        return self

    def ask(self) -> None:
        """Request a stop, as the first signal does."""
        self.requested = True

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal."""
        if not self.requested:
            # The handlers of before are not put back yet: another signal that has arrived by now would find none of Python's,
            # which Python reports with a traceback and ignores.
            self.ask()
            return
        self.restore()
        signal.raise_signal(number)

    def restore(self) -> None:
        """Put back the signal handlers of before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def __exit__(self, *error: object) -> None:
        self.restore()
