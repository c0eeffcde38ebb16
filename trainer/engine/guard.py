"""Steps that are taken back: whose gradient is NaN or Inf (``engine.on_nan=skip``), or that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.engine.metrics import RunningMetrics
from trainer.engine.random_state import device_state, set_device_state
from trainer.hardware import world_size

if TYPE_CHECKING:
    from trainer.tasks.task import Task


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all numbers of tensors are finite, as a tensor on their device."""
    flags = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return torch.stack(flags).all() if flags else torch.tensor(True)


class Copies:
    """Copies of tensors that a step changes in place, in memory that is allocated once."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.before: list[Tensor] = []

    def save(self, tensors: list[Tensor]) -> None:
        """Copy the tensors as they are now."""
        if [id(t) for t in tensors] != [id(t) for t in self.tensors]:
            self.tensors, self.before = tensors, [torch.empty_like(t) for t in tensors]
        for before, tensor in zip(self.before, tensors, strict=True):
            before.copy_(tensor)


class StepStart:
    """What the forward passes of a step change, as it was before them: ``engine.on_oom=shrink`` repeats the step from there."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.copies = device, Copies()

    @torch.no_grad()
    def save(self, model: nn.Module, task: Task, sums: RunningMetrics) -> None:
        """Copy it, before a step begins."""
        self.copies.save([*model.buffers(), *task.tensors(), sums.totals])
        self.count = sums.count
        self.random = torch.get_rng_state()
        self.device_random = device_state(self.device)

    @torch.no_grad()
    def restore(self, sums: RunningMetrics) -> None:
        """Take back what the forward passes have changed since then."""
        for before, tensor in zip(self.copies.before, self.copies.tensors, strict=True):
            tensor.copy_(before)
        sums.count = self.count
        torch.set_rng_state(self.random)
        set_device_state(self.device, self.device_random)


class StepGuard:
    """Leaves the weights as they are where the gradient of a step is NaN or Inf: ``engine.on_nan=skip``.

    The decision is taken on the device. The optimizer gets a gradient of 0 instead, then the weights, the buffers and the sums of
    losses of before are restored. All ranks skip the same steps, because they have the same gradient.
    """

    def __init__(self, device: torch.device) -> None:
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps of the epoch
        self.copies = Copies()

    def reset(self) -> None:
        """Start an epoch."""
        self.skipped.zero_()

    def skipped_all(self, steps: int) -> bool:
        """Whether all of the steps so far were skipped; it waits for the device."""
        return int(self.skipped) >= steps

    @torch.no_grad()
    def save(self, model: nn.Module, task: Task, sums: RunningMetrics) -> None:
        """Copy what a step changes, before it begins."""
        self.copies.save([*model.parameters(), *model.buffers(), *task.tensors(), sums.totals])

    @torch.no_grad()
    def screen(self, model: nn.Module, sums: RunningMetrics, images: int) -> None:
        """Set the gradient of a step to 0 unless it is finite, and count the step of this many images as skipped."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        finite = all_finite(gradients if world_size() > 1 else [*gradients, sums.totals])
        self.finite.copy_(finite)
        for gradient in gradients:
            gradient.masked_fill_(~self.finite, 0)
        self.skipped.add_(~self.finite)
        sums.left_out.add_(~self.finite * images)

    @torch.no_grad()
    def restore(self) -> None:
        """Take back what a step with a gradient that was not finite has changed."""
        for tensor, before in zip(self.copies.tensors, self.copies.before, strict=True):
            tensor.copy_(torch.where(self.finite, tensor, before))
