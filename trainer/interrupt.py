"""Ctrl-C and SIGTERM: the first requests a stop after the current step, the second takes effect at once.

At once means as soon as no lock can be left behind: an exception between the acquisition of a lock and its use, such as within
``Condition.__enter__``, would leave it locked, and the end of the run would wait for it forever.
"""

from __future__ import annotations

import concurrent.futures._base
import concurrent.futures.thread
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None  # as signal.signal takes and returns it

LOCKING = {module.__file__ for module in (concurrent.futures._base, concurrent.futures.thread, queue, threading)}
WAITING = {"wait", "_wait_for_tstate_lock"}  # these functions may be interrupted, and may take long
LATER = 0.01  # seconds

_raised = 0  # how often Ctrl-C has raised KeyboardInterrupt


def is_locking(frame: FrameType | None) -> bool:
    """Whether a signal has arrived where an exception could leave a lock behind."""
    return frame is not None and frame.f_code.co_filename in LOCKING and frame.f_code.co_name not in WAITING


def postpone(handler: Callable[[int, FrameType | None], object], number: int) -> None:
    """Call the handler of a signal again a little later."""

    def again(_: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        handler(number, frame)

    before = signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, LATER)


def stop_now(number: int, frame: FrameType | None = None) -> None:
    """Raise KeyboardInterrupt, as Python does for SIGINT, but where no lock can be left behind."""
    global _raised
    if is_locking(frame):
        postpone(stop_now, number)
        return
    _raised += 1
    raise KeyboardInterrupt


@contextmanager
def careful_interrupts() -> Iterator[None]:
    """Let Ctrl-C, outside of an ``Interrupt`` as well, raise KeyboardInterrupt only where no lock can be left behind.

    Libraries make other errors of it: compiled code returns its text in an error of its own, and a block that cleans up may fail
    halfway. Any exception that leaves the context after Ctrl-C is therefore a KeyboardInterrupt again.
    """
    before = _raised
    replaced = threading.current_thread() is threading.main_thread()
    replaced = replaced and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if replaced:
        signal.signal(signal.SIGINT, stop_now)
    try:
        yield
    except Exception as error:
        if _raised > before:
            raise KeyboardInterrupt from error
        raise
    finally:
        if replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
        if is_locking(frame):
            postpone(self.handle, number)
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
