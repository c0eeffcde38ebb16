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
    that repeat bit for bit (the CPU always does). ``compile`` is the mode of torch.compile, which takes up to a minute at the
    first step, off by default: on a CPU it was slower than channels-last and bf16 (0.7 to 1.0 of their speed). ``graph`` records
    forward and backward of a step as one CUDA graph: auto does so on a GPU. ``distributed`` ddp averages the gradients of all
    processes that torchrun started; ``sync_batch_norm`` then normalises by the whole batch instead of by each one's share.
    """

    kind: Literal["auto", "cpu", "gpu"] = "auto"
    channels_last: bool = True
    threads: int | Literal["auto"] = "auto"
    keep_memory: bool = True
    tf32: bool = True
    deterministic: bool = False
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    graph: Literal["auto", "on", "off"] = "auto"
    distributed: Literal["none", "ddp"] = "none"
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        check(
            self,
            threads=(self.threads == "auto" or self.threads >= 1, "must be >= 1, or auto"),
            graph=(
                self.graph != "on"
                or (self.kind != "cpu" and self.distributed == "none" and self.compile in ("off", "default")),
                "is for one process on a GPU, and goes with compile off or default: graph=auto",
            ),
            sync_batch_norm=(
                not self.sync_batch_norm or self.distributed == "ddp",
                "has no effect on one process: engine=ddp",
            ),
        )


@dataclass(frozen=True)
class Scratch:
    """One phase: everything is trained from the beginning to the end."""

    def phases(self, epochs: float, schedule: Product) -> list[Phase]:
        from trainer.engine.run import Phase

        return [Phase("train", epochs, schedule.over(epochs))]
