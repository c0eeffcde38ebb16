"""Ctrl-C and SIGTERM: the first requests a stop after the current step, the second takes effect at once.

At once means as soon as nothing can be left half done: an exception between the acquisition of a lock and its use, such as within
``Condition.__enter__``, would leave it locked, and the end of the run would wait for it forever; a library whose import is
interrupted stays broken, and compiled ones end the process.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None  # as signal.signal takes and returns it

LOCKING = {"concurrent.futures._base", "concurrent.futures.thread", "queue", "threading"}  # modules
WAITING = {"wait", "_wait_for_tstate_lock"}  # these functions may be interrupted, and may take long
IMPORTING = "<frozen importlib._bootstrap>"
LATER = 0.01  # seconds
LONGEST = 10.0  # seconds for which an import is waited for: a program may also train while it is imported

_raised = 0  # how often Ctrl-C has raised KeyboardInterrupt


def is_locking(frame: FrameType | None) -> bool:
    """Whether a signal has arrived where an exception could leave a lock behind."""
    if frame is None or frame.f_code.co_name in WAITING:
        return False
    return frame.f_globals.get("__name__") in LOCKING


def is_importing(frame: FrameType | None) -> bool:
    """Whether a signal has arrived while a module is imported."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


class Again:
    """The handler of the alarm that calls the handler of another signal a little later."""

    def __init__(self, handler: Callable[[int, FrameType | None], object], number: int) -> None:
        self.handler, self.number, self.before = handler, number, signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, LATER)

    def restore(self) -> None:
        """Put back the handler of the alarm of before."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self.before is None else self.before)

    def __call__(self, _: int, frame: FrameType | None) -> None:
        self.restore()
        self.handler(self.number, frame)


def postpone(handler: Callable[[int, FrameType | None], object], number: int) -> None:
    """Call the handler of a signal again a little later, unless one waits for that already."""
    if not isinstance(signal.getsignal(signal.SIGALRM), Again):
        Again(handler, number)


def forget() -> None:
    """Do not call a handler again that waits for it: what it would have interrupted is over."""
    if isinstance(again := signal.getsignal(signal.SIGALRM), Again):
        signal.setitimer(signal.ITIMER_REAL, 0)
        again.restore()


def stop_now(number: int, frame: FrameType | None = None, until: float | None = None) -> None:
    """Raise KeyboardInterrupt, as Python does for SIGINT, but where nothing can be left half done.

    Args:
        number: Of the signal.
        frame: Where it has arrived.
        until: The time, ``time.monotonic()``, until which an import is waited for.
    """
    global _raised
    until = time.monotonic() + LONGEST if until is None else until
    if is_locking(frame) or (is_importing(frame) and time.monotonic() < until):
        postpone(partial(stop_now, until=until), number)
        return
    _raised += 1
    raise KeyboardInterrupt


@contextmanager
def careful_interrupts() -> Iterator[None]:
    """Let Ctrl-C, outside of an ``Interrupt`` as well, raise KeyboardInterrupt only where nothing can be left half done.

    Libraries make other errors of it: compiled code returns its text in an error of its own, and a block that cleans up may fail
    halfway. Any exception that leaves the context after Ctrl-C is therefore a KeyboardInterrupt again. Where Python can only
    ignore an exception, as in a finalizer, it is raised a little later.
    """
    before, hook = _raised, sys.unraisablehook
    replaced = threading.current_thread() is threading.main_thread()
    replaced = replaced and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if replaced:
        signal.signal(signal.SIGINT, stop_now)
        sys.unraisablehook = partial(_again_if_ignored, hook)
    try:
        yield
    except Exception as error:
        if _raised > before:
            raise KeyboardInterrupt from error
        raise
    finally:
        if replaced:
            forget()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = hook


def _again_if_ignored(hook: Callable[[sys.UnraisableHookArgs], object], ignored: sys.UnraisableHookArgs) -> None:
    if issubclass(ignored.exc_type, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        postpone(stop_now, signal.SIGINT)
    else:
        hook(ignored)


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
