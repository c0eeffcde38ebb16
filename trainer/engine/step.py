"""One training step: learning rate, forward and backward pass, update."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.architectures.layers import networks_of
from trainer.engine.out_of_memory import within_memory
from trainer.engine.run import Run
from trainer.optimizers.param_groups import set_lr
from trainer.tasks.task import Losses


def set_lr_and_momentum(run: Run) -> None:
    """Set the optimizer's learning rate for this step, and its momentum if the schedule moves it."""
    schedule, t = run.phase.schedule, run.time
    momentum = schedule.momentum_at(t)
    run.lr = run.peak_lr(run.phase) * schedule(t, run.history)
    if run.rewinds:
        run.lr *= 0.5**run.rewinds
    # Not a sum, which would be rounded for a constant, too.
    run.mean_lr = run.mean_lr + (run.lr - run.mean_lr) / (run.clock.batch + 1) if run.clock.batch else run.lr
    set_lr(run.optimizer, run.lr)
    if momentum is None:
        return
    for group in run.optimizer.param_groups:
        if run.optimizer_option.momentum_key == "betas":
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def train_step(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """Train on a batch of images (N, C, H, W) and targets (N, D).

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
    """Compute the gradients, loss and logits of a batch; ``engine.on_oom`` says what happens if they do not fit into memory."""
    within_memory(run, x, y, weight, accumulate)


def accumulate(run: Run, x: Tensor, y: Tensor, weight: float) -> None:
    """Compute the gradients, loss and logits of a batch, in micro-batches if ``micro_batch`` is set.

    In distributed training, gradients are averaged over the ranks at the last micro-batch.
    """
    # Not after the update, so that observers can read the gradients until the next step.
    run.optimizer.zero_grad(set_to_none=True)
    if run.loss_scale is not None:
        run.loss_scale.begin()
    if run.guard is not None:
        run.guard.save(run.model, run.task, run.sums)
    size = x.shape[0]  # len() of a tensor goes through Python
    part = min(run.micro_batch or size, size)
    for begin in range(0, size, part):
        part_x, part_y = (x, y) if part == size else (x[begin : begin + part], y[begin : begin + part])
        forward, is_last = run.forward, begin + part >= size
        with (
            forward.no_sync()
            if isinstance(forward, DistributedDataParallel) and not is_last
            else contextlib.nullcontext()
        ):
            losses, outputs = forward_backward(run, part_x, part_y, weight * part_x.shape[0] / size, first=begin == 0)
        if weight:
            run.sums.add(losses, outputs, part_y)
        run.loss, run.outputs = losses.reported, outputs
    if run.loss_scale is not None:
        run.loss_scale.divide(run.optimizer)
    if run.guard is not None:
        run.guard.screen(run.model, run.sums, size if weight else 0)


def update(run: Run) -> None:
    """Clip the gradient if ``clip_norm`` is set, and update the weights, then those of several tasks' losses."""
    clip = run.optimizer_option.clip_norm
    if clip:
        run.grad_norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    if run.loss_scale is not None:
        run.loss_scale.step(run.optimizer)
    else:
        run.optimizer.step()
    run.task.step()
    if run.guard is not None:
        run.guard.restore()


def forward_backward(run: Run, x: Tensor, y: Tensor, weight: float, first: bool) -> tuple[Losses, Tensor]:
    """Losses and outputs of a (micro-)batch; its gradients are added, times ``weight``, those of penalties with the ``first``."""
    with run.precision.autocast():
        outputs = run.forward(x)
    losses = run.task.loss(outputs, y)
    total = losses.objective if weight == 1 else losses.objective * weight
    if first and (run.regularizer.acts_on_loss or run.task.sharing is not None):
        for penalty in penalties(run, outputs):
            total = total + penalty
    run.task.measure(losses, run.model)
    (total if run.loss_scale is None else run.loss_scale.multiplied(total)).backward()
    return losses.detach(), outputs.detach()


def penalties(run: Run, outputs: Tensor) -> list[Tensor]:
    """What regularizers and soft sharing add to the loss."""
    found = [run.task.penalty(run.model)]
    if run.regularizer.acts_on_loss:
        found += [run.regularizer.penalty(network, outputs) for network in networks_of(run.model).values()]
    return [penalty for penalty in found if penalty is not None]
