"""The options of the groups ``engine`` and ``recipe``: how fast, and in which phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.errors import check

if TYPE_CHECKING:
    from trainer.hardware import Precision


@dataclass(frozen=True)
class Engine:
    """How the arithmetic is done. ``auto`` suits the device; nothing here changes what is computed but in its last bits.

    ``threads`` counts those that compute on the CPU (``auto``: the processors this process may use). ``keep_memory`` keeps
    freed memory in the process instead of giving it back at every step, and asks for pages of 2 MiB for large tensors.
    ``deterministic`` makes cuDNN choose algorithms that repeat bit for bit (the CPU always does). ``compile`` is the mode of
    torch.compile, which takes up to a minute at the first step, off by default: on a CPU it was slower than channels-last and
    bf16 (0.7 to 1.0 of their speed). ``graph`` records a step as one CUDA graph: forward, backward, sums, clipping and the
    optimizer, but not the latter where it is adadelta, has ``epsilon_inside_root`` false, or a schedule moves its momentum; auto
    does so on a GPU. ``distributed`` ddp averages the gradients of all processes that torchrun started; ``sync_batch_norm`` then
    normalises by the whole batch instead of by each one's share.
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

    def apply(self, precision: Precision) -> list[str]:
        """Set what is set once per process; return a description of what was chosen."""
        import torch

        from trainer.hardware import default_threads, keep_freed_memory, world_size

        threads = default_threads() if self.threads == "auto" else self.threads
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = not self.deterministic
        torch.backends.cudnn.deterministic = self.deterministic
        if self.keep_memory:
            keep_freed_memory()
        where = (
            torch.cuda.get_device_name(precision.device)
            if precision.device.type == "cuda"
            else f"cpu, {threads} threads"
        )
        layout = "channels-last" if precision.channels_last else "contiguous"
        several = f", {world_size()} processes" if world_size() > 1 else ""
        return [f"{where}, {precision.name}, {layout}{several}"]
