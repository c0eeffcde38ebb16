"""The sink of urgent messages."""

from __future__ import annotations

import sys
from collections.abc import Callable

from trainer.engine.distributed import rank
from trainer.literal import printable_lines


class Alerts:
    """Prints messages that cannot wait until the end of the run, whichever observers are enabled.

    They go to the standard error stream, or to ``display`` while something draws on the terminal. Rank 0 alone prints.
    """

    def __init__(self) -> None:
        self.display: Callable[[str], None] | None = None

    def __call__(self, text: str) -> None:
        if rank() != 0:
            return
        if self.display is not None:
            self.display(text)
        else:
            print(printable_lines(text), file=sys.stderr, flush=True)
