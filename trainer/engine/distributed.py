"""Distributed training: ranks, collective operations, and batch normalization over all ranks.

``torchrun --nproc-per-node 2 -m trainer engine=ddp`` starts the processes. Each trains on its part of every batch, torch's
DistributedDataParallel averages the gradients, and rank 0 alone writes and prints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

from trainer import lock
from trainer.architectures.layers import replace_module
from trainer.engine.metrics import RunningMetrics, Sums
from trainer.errors import ConfigError
from trainer.hardware import world_size
from trainer.interrupt import Interrupt

T = TypeVar("T")


def rank() -> int:
    """Rank of this process; 0 without distributed training."""
    return dist.get_rank() if is_initialized() else 0


def is_initialized() -> bool:
    """Whether this process is part of distributed training."""
    return dist.is_available() and dist.is_initialized()


def start() -> None:
    """Join the process group: gloo for tensors on the CPU, NCCL for tensors on a GPU. Ranks > 0 print nothing."""
    if is_initialized():
        return
    gpus = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends


def end() -> None:
    """Leave the process group, so that no other rank waits for this one."""
    if is_initialized():
        dist.destroy_process_group()


def broadcast(value: T) -> T:
    """Rank 0's value, on all ranks: for whatever depends on a clock or a disk."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_rank(flags: Tensor) -> Tensor:
    """Flags (N,) that are set on any of the ranks. All ranks must call it together."""
    if world_size() > 1:
        flags = flags.to(torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags.bool()


def barrier() -> None:
    """Wait until all ranks are here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def one_writer(run_dir: Path, key: str = "output") -> Iterator[None]:
    """Hold the lock of the run directory on rank 0, which alone writes; on all ranks ConfigError if another process holds it."""
    problem: ConfigError | None = None
    with ExitStack() as stack:
        if rank() == 0:
            try:
                stack.enter_context(lock.one_writer(run_dir, key))
            except ConfigError as error:
                problem = error
        problem = broadcast(problem)
        if problem is not None:
            raise problem
        yield


def all_reduced(sums: RunningMetrics) -> Sums:
    """The state of the running metrics, summed over all ranks. All ranks must call it together."""
    state = sums.state_dict()
    if world_size() > 1:
        count = torch.tensor([state["count"]], dtype=torch.float64, device=sums.totals.device)
        values = torch.cat((sums.totals, count))
        dist.all_reduce(values)
        state: Sums = {"totals": values[:-1], "count": int(values[-1])}
    return state


def means(sums: RunningMetrics) -> dict[str, float]:
    """Mean ``loss`` and running metrics over all ranks."""
    if world_size() == 1:
        return sums.means()
    total = RunningMetrics(sums.task)
    total.load_state_dict(all_reduced(sums))
    return total.means()


def gathered(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All outputs (N, O) and targets (N, D) of batches that the ranks have shared between them, on every rank.

    Of a split that is not shuffled each image occurs once, in an order that depends on the number of ranks.
    """
    outputs, targets = (torch.cat([batch[i] for batch in batches]) if batches else None for i in (0, 1))
    if world_size() == 1:
        assert outputs is not None
        assert targets is not None
        return outputs, targets
    pairs: list[tuple[Tensor, Tensor] | None] = [None] * world_size()
    dist.all_gather_object(pairs, None if outputs is None or targets is None else (outputs.cpu(), targets.cpu()))
    present = [pair for pair in pairs if pair is not None]
    return torch.cat([pair[0] for pair in present]), torch.cat([pair[1] for pair in present])


class StopFlag:
    """Whether a stop was requested on any rank; all ranks get the same answer at the same step.

    With several ranks the answer is that of the step before, so that no rank waits for the others.

    Args:
        interrupt: The interrupt.
        or_else: Another reason to stop.
    """

    def __init__(self, interrupt: Interrupt, or_else: Callable[[], bool] = bool) -> None:
        self.interrupt, self.or_else = interrupt, or_else
        self.group: dist.ProcessGroup | None = None
        if world_size() > 1:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup)  # every rank is in it
            self.group = group
        self.pending: tuple[dist.Work, Tensor] | None = None

    def __call__(self) -> bool:
        requested = self.or_else() or self.interrupt.requested
        if self.group is None:
            return requested
        previous, flag = self.pending, torch.tensor(int(requested))
        self.pending = (dist.all_reduce(flag, group=self.group, async_op=True), flag)
        if previous is None:
            return False
        previous[0].wait()
        return bool(previous[1])

    def reset(self) -> None:
        """Forget the answer of the last step. All ranks must call it together."""
        if self.pending is not None:
            self.pending[0].wait()
            self.pending = None


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients that are averaged over all ranks while they are computed.

    Unless it looks for unused parameters, torch rebuilds its buckets after the first step, which changes the order of
    additions: a resumed run would differ in its last bits. On the CPU, where resuming is exact, the buckets are kept.
    """
    ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
    keep_buckets = device.type == "cpu"
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, find_unused_parameters=keep_buckets)


def reseed(seed: int, step: int) -> None:
    """Seed the generator of dropout and mixing by (seed, step, rank).

    Called before every step, so that a checkpoint need not hold the generator states of all ranks.
    """
    key = torch.tensor([seed, step, rank()], dtype=torch.int64)
    mixed = int((key * torch.tensor([6364136223846793005, 1442695040888963407, 2685821657736338717])).sum())
    torch.manual_seed(mixed & 0x7FFF_FFFF_FFFF_FFFF)


@torch.no_grad()
def sync_buffers(model: nn.Module, average: bool = False) -> None:
    """Set the buffers on all ranks to those of rank 0, or to their mean over all ranks."""
    if world_size() == 1:
        return
    for buffer in model.buffers():
        if average and buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= world_size()
        else:
            dist.broadcast(buffer, src=0)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization over the batches of all ranks, for the CPU, which ``torch.nn.SyncBatchNorm`` does not support.

    In evaluation mode it is ordinary batch normalization.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums: Tensor = all_reduce(torch.cat((x.sum(axes), x.square().sum(axes), count)))
        features = x.shape[1]
        n = sums[-1]
        mean = sums[:features] / n
        variance = (sums[features:-1] / n - mean.square()).clamp_min(0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1  # pyright: ignore
                weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # pyright: ignore
                self.running_mean.lerp_(mean.detach(), weight)
                self.running_var.lerp_(variance.detach() * (n / (n - 1).clamp_min(1)), weight)
        shape = (1, features, *[1] * (x.ndim - 2))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0)
        return (x * scale.view(shape) + shift.view(shape)).to(input.dtype)


def convert_sync_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with batch normalization over all ranks. Names, parameters and statistics are kept."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        is_subclass = type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d)  # may compute something else as well
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or is_subclass:
            continue
        if not name:
            return synchronized(module)
        replace_module(model, name, synchronized(module))
    return model


def synchronized(norm: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
    """A ``SyncBatchNorm`` with the parameters and the running statistics of ``norm``."""
    new = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(norm, name))
    return new.train(norm.training)
