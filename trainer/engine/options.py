"""The options of the groups ``engine`` and ``recipe``: how fast, and in which phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.checks import check

if TYPE_CHECKING:
    from trainer.engine.run import Phase
    from trainer.schedules import Product


@dataclass(frozen=True)
class Engine:
    """How the arithmetic is done. ``auto`` suits the device; nothing here changes what is computed but in its last bits.

    ``threads`` counts those that compute on the CPU (``auto``: the processors this process may use). ``keep_memory`` keeps
    freed memory in the process instead of giving it back at every step. ``deterministic`` makes cuDNN choose algorithms
    that repeat bit for bit (the CPU always does).
    """

    kind: Literal["auto", "cpu", "gpu"] = "auto"
    channels_last: bool = True
    threads: int | Literal["auto"] = "auto"
    keep_memory: bool = True
    tf32: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check(self, threads=(self.threads == "auto" or self.threads >= 1, "must be >= 1, or auto"))


@dataclass(frozen=True)
class Scratch:
    """One phase: everything is trained from the beginning to the end."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        return [Phase("train", epochs, schedule.over(epochs))]
