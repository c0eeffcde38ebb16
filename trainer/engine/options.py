"""The options of the group ``engine``: device, memory format, compilation, distribution."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Literal

from trainer.duration import seconds, why_no_duration
from trainer.errors import Problem, check
from trainer.parameters import Field, PositiveFloat, PositiveInt, implemented_by, option


@option
class Engine:
    """Device, memory format, compilation and distribution. They affect the speed; results are equal up to rounding.

    ``compile`` takes up to a minute at the first step and is off by default: on a CPU it was slower than channels-last
    and bf16 (0.7 to 1.0 of their speed). ``graph`` captures forward and backward pass, running metrics, clipping and the
    optimizer step in one CUDA graph; the optimizer step is not captured for adadelta, for ``epsilon_inside_root=false``,
    or if a schedule changes the momentum.

    A run whose training loss, validation loss or weights are NaN or Inf is ``diverged``: it ends with exit code 1, and
    ``best.pt`` and ``last.pt`` keep the weights of before. On a CPU the loss is checked every 50 steps, on a GPU too, without
    waiting for it; the weights are checked at the end of an epoch and before a checkpoint. ``skip`` decides on the device for
    each step, which costs a copy of the weights; the optimizer gets a gradient of 0. A run that skips all steps of an epoch, or
    has been rewound 8 times, is diverged.

    With ``on_oom=shrink``, a step that does not fit is repeated from its beginning with half the ``micro_batch``, which holds for
    the rest of the run, also when it is resumed; the console, ``result.json`` and the report state it. Each micro-batch is
    normalized by its own statistics and draws its own dropout, as if ``micro_batch`` had been set. No captured CUDA graph is used
    from then on. An evaluation, of which no result depends on the size of its batches beyond rounding, splits those that do not
    fit in either case. Memory that the operating system refuses only by killing the process cannot be caught.

    With ``checkpoint_activations`` a block, residual or of another kind, keeps its input alone for the backward pass (Chen et al.
    2016, arXiv:1604.06174). Dropout draws the same numbers the second time, and batch norms count a batch once: the weights are
    the same, bit for bit. No step is captured in a CUDA graph.

    With ``budget``, training ends after the step at which this time is over, or with ``epochs``, whichever comes first. The time
    counts from the first step, evaluations included, over all sessions of a run; loading the data, and the test evaluation and
    the report at the end, come on top. The epoch that is cut short is evaluated and has its row. Schedules are those of
    ``epochs`` all the same: after its first epoch, a run that will not reach them states at which epoch it will end, and the
    ``epochs`` with which the schedule would end there, too. The last step depends on the speed of the machine; up to it all
    results are those of a run without a budget. ``resume=`` with a larger one continues with the next step; the row of the cut
    epoch stays.
    """

    kind: Annotated[
        Literal["auto", "cpu", "gpu"], Field(description="device to compute on; auto = a GPU if there is one")
    ] = "auto"
    channels_last: Annotated[
        bool, Field(description="use the memory format channels_last (NHWC); false = contiguous (NCHW)")
    ] = True
    threads: Annotated[
        PositiveInt | Literal["auto"],
        Field(description="number of CPU threads; auto = number of cores available to the process"),
    ] = "auto"
    keep_memory: Annotated[
        bool,
        Field(
            description="keep freed memory instead of returning it to the system (glibc); 2 MiB pages for large tensors"
        ),
    ] = True
    tf32: Annotated[bool, Field(description="compute float32 matrix products and convolutions in TF32 on a GPU")] = True
    deterministic: Annotated[
        bool,
        Field(
            description="use deterministic algorithms on a GPU, where there are any; false = cuDNN tries for the fastest"
        ),
    ] = True
    compile: Annotated[
        Literal["off", "default", "reduce-overhead", "max-autotune"],
        Field(description="mode of torch.compile; the first step then takes up to a minute"),
    ] = "off"
    graph: Annotated[
        Literal["auto", "on", "off"], Field(description="capture the training step in a CUDA graph; auto = on a GPU")
    ] = "auto"
    on_nan: Annotated[
        Literal["stop", "skip", "rewind"],
        Field(
            description="if a loss or a weight becomes NaN or Inf: stop; skip the steps whose gradient is; or rewind to the "
            "beginning of the epoch with half the learning rate"
        ),
    ] = "stop"
    on_oom: Annotated[
        Literal["fail", "shrink"],
        Field(
            description="if a training step does not fit into memory: fail, with the micro_batch that fits; or shrink "
            "micro_batch until it fits, with the gradient of the same batch"
        ),
    ] = "fail"
    checkpoint_activations: Annotated[
        bool,
        Field(
            description="compute the activations within blocks again in the backward pass, which saves their memory for a "
            "third more time"
        ),
    ] = False
    budget: Annotated[
        str | PositiveFloat | None,
        Field(description="wall-clock time of the training, such as 10min or 2h; null = no limit"),
    ] = None
    distributed: Annotated[
        Literal["none", "ddp"],
        Field(description="ddp = DistributedDataParallel over the processes started by torchrun"),
    ] = "none"
    sync_batch_norm: Annotated[
        bool, Field(description="compute batch normalization statistics over all ranks (SyncBatchNorm)")
    ] = False

    def __post_init__(self) -> None:
        one_process = self.distributed == "none"
        capturable = self.kind != "cpu" and one_process and self.compile in ("off", "default")
        no_duration = "" if self.budget is None else why_no_duration(self.budget)
        check(
            self,
            graph=(
                self.graph != "on" or capturable,
                "needs a GPU, one process, and compile=off or default: engine.graph=auto",
            ),
            on_oom=(
                self.on_oom == "fail" or one_process,
                "needs one process, because all ranks must split a batch alike: engine.on_oom=fail, with a micro_batch that fits",
            ),
            checkpoint_activations=(
                not self.checkpoint_activations
                or (self.compile == "off" and self.graph != "on" and not self.sync_batch_norm),
                "needs engine.compile=off, engine.graph=auto and engine.sync_batch_norm=false",
            ),
            budget=(not no_duration, no_duration),
            sync_batch_norm=(not self.sync_batch_norm or not one_process, "has no effect on one process: engine=ddp"),
        )

    @property
    def budget_seconds(self) -> float | None:
        """The time of the training in seconds; None without a limit."""
        return None if self.budget is None else seconds(self.budget)

    def process_problems(self, processes: int, resume: str | None) -> list[Problem]:
        """Return why ``distributed`` does not go together with the number of processes started, 0 without torchrun."""
        if self.distributed == "ddp" and not processes:
            given = f"resume={quote(resume)}" if resume else "engine=ddp ..."
            text = f"needs several processes: torchrun --nproc-per-node 2 -m trainer {given}"
            return [Problem("engine.distributed", "ddp", text, "engine=auto takes one process")]
        if self.distributed == "none" and processes > 1:
            text = f"torchrun started {processes} processes, each of which would do the same"
            return [Problem("engine.distributed", "none", text, "engine=ddp makes them train together")]
        return []

    def auto_batch_problems(self, micro_batch: int | None) -> list[Problem]:
        """Return why ``batch_size=auto`` does not go together with micro-batches and several processes."""
        problems: list[Problem] = []
        if micro_batch:
            hint = "batch_size=... with micro_batch, or batch_size=auto without"
            problems.append(Problem("batch_size", "auto", "is what one pass takes, which micro_batch splits", hint))
        if self.distributed != "none":
            hint = "give a number, for all processes together"
            problems.append(Problem("batch_size", "auto", "is chosen for one process", hint))
        return problems

    def graph_problems(self, micro_batch: int | None, precision: str) -> list[Problem]:
        """Return why ``graph=on`` does not go together with micro-batches and the precision."""
        problems: list[Problem] = []
        if self.graph == "on" and micro_batch:
            text = "captures a whole training step, which micro_batch splits"
            problems.append(Problem("engine.graph", "on", text, "micro_batch=null, or engine.graph=auto"))
        if self.graph == "on" and precision == "fp16":
            text = "cannot leave out steps, as loss scaling does"
            problems.append(Problem("engine.graph", "on", text, "engine.graph=auto"))
        return problems

    apply = implemented_by("trainer.engine.process:apply_engine")
