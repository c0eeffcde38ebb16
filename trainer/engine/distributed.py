"""Several processes that train one network: who they are, what they agree on, and how their shares become one batch.

``torchrun --nproc-per-node 2 -m trainer engine=ddp`` starts the processes. Each takes its share of every batch, torch's
DistributedDataParallel averages the gradients, and process 0 alone writes and speaks.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainer.engine.metrics import RunningMetrics

if TYPE_CHECKING:
    from trainer.engine.run import Run


def rank() -> int:
    """This process's number among those that train together; 0 where it is alone."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """How many processes train together; 1 where this one is alone."""
    return dist.get_world_size() if is_initialized() else 1


def is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def start() -> None:
    """Meet the other processes: over gloo for what lies on the CPU, over nccl for what lies on a GPU."""
    if is_initialized():
        return
    gpus = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends


def end() -> None:
    """Take leave of the others, so that none waits for this one."""
    if is_initialized():
        dist.destroy_process_group()


def broadcast(value: Any) -> Any:
    """Process 0's value, for all: folders, rows, and whatever else a clock or a disk decides."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_reduced(sums: RunningMetrics) -> dict[str, Any]:
    """The state of running sums over all processes, as if one had counted everything. All must ask for it together."""
    state = sums.state_dict()
    if world_size() > 1:
        count = torch.tensor([state["count"]], dtype=torch.float64, device=sums.totals.device)
        found = torch.cat((sums.totals, count))
        dist.all_reduce(found)
        state = {"totals": found[:-1], "count": int(found[-1])}
    return state


def means(sums: RunningMetrics) -> dict[str, float]:
    """The mean ``loss`` and ``accuracy`` over all processes."""
    if world_size() == 1:
        return sums.means()
    everything = RunningMetrics(sums.totals.device)
    everything.load_state_dict(all_reduced(sums))
    return everything.means()


class StopFlag:
    """Whether any process was asked to stop, known to all at the same step: each step's answer is read at the next, so that
    nobody waits for it."""

    def __init__(self) -> None:
        self.group: Any = dist.new_group(backend="gloo") if world_size() > 1 else None
        self.asked: tuple[Any, Tensor] | None = None

    def __call__(self, mine: bool) -> bool:
        if self.group is None:
            return mine
        before, flag = self.asked, torch.tensor(int(mine))
        self.asked = (dist.all_reduce(flag, group=self.group, async_op=True), flag)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1])


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The network as all processes train it: gradients are averaged while they are computed.

    Without unused parameters to look for, torch lays its buckets out anew after the first step, which changes the order of
    additions: a resumed run would differ in its last bits. On the CPU, where resuming is exact, the layout is therefore kept.
    """
    ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
    keep = device.type == "cpu"
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, find_unused_parameters=keep)


def reseed(run: Run) -> None:
    """Dropout and mixing draw from a generator that is seeded at every step by (seed, step, process): no state of another
    process has to be in the checkpoint."""
    key = torch.tensor([run.train.seed, run.clock.step, rank()], dtype=torch.int64)
    mixed = int((key * torch.tensor([6364136223846793005, 1442695040888963407, 2685821657736338717])).sum())
    torch.manual_seed(mixed & 0x7FFF_FFFF_FFFF_FFFF)


@torch.no_grad()
def sync_buffers(model: nn.Module, average: bool = False) -> None:
    """Give all processes the running statistics of process 0, or their mean."""
    if world_size() == 1:
        return
    for buffer in model.buffers():
        if average and buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= world_size()
        else:
            dist.broadcast(buffer, src=0)


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose mean and variance are those of the whole batch, over all processes; torch's own, which is
    for GPUs only, where that can be used. In evaluation it is ordinary batch normalisation.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        x = input.float()
        axes = [0, *range(2, x.ndim)]
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums: Any = all_reduce(torch.cat((x.sum(axes), x.square().sum(axes), count)))
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
    """The model with every batch normalisation taken over all processes; names, weights and statistics stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm
    return model
