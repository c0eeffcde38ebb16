"""The options of the group ``engine``: how the arithmetic is done."""

from __future__ import annotations

from typing import Annotated, Literal

from trainer.errors import check
from trainer.parameters import Field, PositiveInt, implemented_by, option


@option
class Engine:
    """How the arithmetic is done. ``auto`` suits the device; results change in their last bits at most.

    ``compile`` takes up to a minute at the first step and is off by default: on a CPU it was slower than channels-last
    and bf16 (0.7 to 1.0 of their speed). ``graph`` records forward and backward pass, running metrics, clipping and the
    optimizer's update as one CUDA graph; the update is left out for adadelta, with ``epsilon_inside_root=false``, and
    if a schedule moves the momentum.
    """

    kind: Annotated[
        Literal["auto", "cpu", "gpu"], Field(description="where to compute; auto = on a GPU if there is one")
    ] = "auto"
    channels_last: Annotated[
        bool, Field(description="memory format of images and convolutions; false = contiguous (NCHW)")
    ] = True
    threads: Annotated[
        PositiveInt | Literal["auto"],
        Field(description="CPU threads for computation; auto = the cores that this process may use"),
    ] = "auto"
    keep_memory: Annotated[
        bool,
        Field(description="keep freed memory in the process (glibc), and use 2 MiB pages for large tensors"),
    ] = True
    tf32: Annotated[bool, Field(description="multiply float32 in TF32 on a GPU")] = True
    deterministic: Annotated[
        bool, Field(description="only deterministic cuDNN algorithms, which are slower; a CPU is always deterministic")
    ] = False
    compile: Annotated[
        Literal["off", "default", "reduce-overhead", "max-autotune"],
        Field(description="mode of torch.compile, with which the first step takes up to a minute"),
    ] = "off"
    graph: Annotated[
        Literal["auto", "on", "off"], Field(description="record a step as one CUDA graph; auto = on a GPU")
    ] = "auto"
    distributed: Annotated[
        Literal["none", "ddp"],
        Field(description="ddp = train with all processes that torchrun started"),
    ] = "none"
    sync_batch_norm: Annotated[
        bool, Field(description="batch normalization over the whole batch of all ranks, not over each rank's part")
    ] = False

    def __post_init__(self) -> None:
        one_process = self.distributed == "none"
        recordable = self.kind != "cpu" and one_process and self.compile in ("off", "default")
        check(
            self,
            graph=(
                self.graph != "on" or recordable,
                "needs a GPU, one process, and compile=off or default: engine.graph=auto",
            ),
            sync_batch_norm=(not self.sync_batch_norm or not one_process, "has no effect on one process: engine=ddp"),
        )

    apply = implemented_by("trainer.engine.process:apply_engine")
