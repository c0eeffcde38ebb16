"""One training step: learning rate, forward and backward pass, update."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.engine.metrics import soft_cross_entropy
from trainer.engine.run import Run
from trainer.optimizers.param_groups import set_lr


def set_lr_and_momentum(run: Run) -> None:
    """Set the optimizer's learning rate for this step, and its momentum if the schedule moves it."""
    schedule, t = run.phase.schedule, run.time
    momentum = schedule.momentum_at(t)
    run.lr = run.peak_lr(run.phase) * schedule(t, run.history)
    set_lr(run.optimizer, run.lr)
    if momentum is None:
        return
    for group in run.optimizer.param_groups:
        if run.optimizer_option.momentum_key == "betas":
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def train_step(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """Train on a batch of images (N, C, H, W) and targets (N, K).

    In distributed training, ``weight`` is the weight of this rank's part of the batch in the mean over all ranks.
    """
    if run.regularizer.acts_on_batch:
        x, y = run.regularizer.batch(x, y)
    run.batch = (x, y)
    if run.capture is not None:
        run.capture(run, x, y)
    else:
        gradients(run, x, y, weight)
        update(run)


def gradients(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """Compute the gradients, loss and logits of a batch, in micro-batches if ``micro_batch`` is set.

    In distributed training, gradients are averaged over the ranks at the last micro-batch.
    """
    # Not after the update, so that observers can read the gradients until the next step.
    run.optimizer.zero_grad(set_to_none=True)
    size = len(x)
    part = min(run.micro_batch or size, size)
    for begin in range(0, size, part):
        part_x, part_y = (x, y) if part == size else (x[begin : begin + part], y[begin : begin + part])
        forward, is_last = run.forward, begin + part >= size
        with (
            forward.no_sync()
            if isinstance(forward, DistributedDataParallel) and not is_last
            else contextlib.nullcontext()
        ):
            loss, outputs = forward_backward(run, part_x, part_y, weight * len(part_x) / size, first=begin == 0)
        if weight:
            run.sums.add(loss, outputs, part_y)
        run.loss, run.outputs = loss, outputs


def update(run: Run) -> None:
    """Clip the gradient if ``clip_norm`` is set, and update the weights."""
    clip = run.optimizer_option.clip_norm
    if clip:
        run.grad_norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    run.optimizer.step()


def forward_backward(run: Run, x: Tensor, y: Tensor, weight: float, first: bool) -> tuple[Tensor, Tensor]:
    """Loss and logits of a (micro-)batch; its gradients are added, times ``weight``, those of penalties with the ``first``."""
    with run.precision.autocast():
        outputs = run.forward(x)
    loss = soft_cross_entropy(outputs, y)
    total = loss if weight == 1 else loss * weight
    if first and run.regularizer.acts_on_loss:
        penalty = run.regularizer.penalty(run.model, outputs)
        total = total if penalty is None else total + penalty
    total.backward()
    return loss.detach(), outputs.detach()
