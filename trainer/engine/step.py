"""One step of training: rates into the optimizer, a batch through the network, the weights moved."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from trainer.engine.metrics import soft_cross_entropy
from trainer.engine.run import Run
from trainer.optimizers.param_groups import set_lr


def set_lr_and_momentum(run: Run) -> None:
    """Write this step's rate, and momentum where the schedule moves it, into the optimizer."""
    schedule, t = run.phase.schedule, run.time
    momentum = schedule.momentum_at(t)
    run.lr = run.rate * schedule(t, run.history)
    set_lr(run.optimizer, run.lr)
    if momentum is None:
        return
    for group in run.optimizer.param_groups:
        if run.optimizer_option.momentum_key == "betas":
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def train_step(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """One step of the optimizer; ``weight`` is what this process's share of the batch counts where several train together."""
    if run.regularizer.acts_on_batch:
        x, y = run.regularizer.batch(x, y)
    run.batch = (x, y)
    if run.capture is not None:
        run.capture(run, x, y)
    else:
        gradients(run, x, y, weight)
        update(run)


def gradients(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """Gradients, loss and logits of a batch, which goes through the network in parts where ``micro_batch`` says so; gradients of
    several processes meet at the last part.
    """
    # Not after the step: until the next one observers can look at the gradients.
    run.optimizer.zero_grad(set_to_none=True)
    size = len(x)
    part = min(run.micro_batch or size, size)
    for begin in range(0, size, part):
        part_x, part_y = (x, y) if part == size else (x[begin : begin + part], y[begin : begin + part])
        apart = getattr(run.forward, "no_sync", None) if begin + part < size else None
        with apart() if apart else contextlib.nullcontext():
            loss, outputs = forward_backward(run, part_x, part_y, weight * len(part_x) / size, first=begin == 0)
        if weight:
            run.sums.add(loss, outputs, part_y)
        run.loss, run.outputs = loss, outputs


def update(run: Run) -> None:
    """Clip the gradients where the optimizer option says so, and move the weights."""
    clip = run.optimizer_option.clip_norm
    if clip:
        run.grad_norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    run.optimizer.step()


def forward_backward(run: Run, x: Tensor, y: Tensor, weight: float, first: bool) -> tuple[Tensor, Tensor]:
    """Loss and logits of a batch or a part of it, whose gradients are added with ``weight``; penalties with the ``first``."""
    with run.precision.autocast():
        outputs = run.forward(x)
    loss = soft_cross_entropy(outputs, y)
    total = loss if weight == 1 else loss * weight
    if first and run.regularizer.acts_on_loss:
        penalty = run.regularizer.penalty(run.model, outputs)
        total = total if penalty is None else total + penalty
    total.backward()
    return loss.detach(), outputs.detach()
