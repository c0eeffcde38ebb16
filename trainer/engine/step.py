"""One step of training: rates into the optimizer, a batch through the network, the weights moved."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from trainer.engine.run import Run
from trainer.metrics import soft_cross_entropy


def set_rates(run: Run) -> None:
    """Write this step's rate, and momentum where the schedule moves it, into the optimizer."""
    schedule, t = run.phase.schedule, run.time
    multiplier = schedule(t, run.history)
    momentum = schedule.momentum_at(t)
    rate = run.rate * multiplier
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["ratio"]
        if momentum is not None:
            key = run.optimizer_option.momentum_key
            if key == "betas":
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


def train_step(run: Run, x: Tensor, y: Tensor, weight: float = 1.0) -> None:
    """One step of the optimizer; the batch goes through the network in parts where ``micro_batch`` says so.

    ``weight`` is what this process's share of the batch counts where several train together; gradients meet at the last part.
    """
    # Not after the step: until the next one observers can look at the gradients. A replayed graph puts its own back.
    run.optimizer.zero_grad(set_to_none=True)
    if run.regularizer.acts_on_batch:
        x, y = run.regularizer.batch(x, y)
    run.batch, size = (x, y), len(x)
    part = min(run.micro_batch or size, size)
    for begin in range(0, size, part):
        part_x, part_y = (x, y) if part == size else (x[begin : begin + part], y[begin : begin + part])
        apart = getattr(run.forward, "no_sync", None) if begin + part < size else None
        with apart() if apart else contextlib.nullcontext():
            loss, outputs = (run.capture or forward_backward)(
                run, part_x, part_y, weight * len(part_x) / size, first=begin == 0
            )
        if weight:
            run.sums.add(loss, outputs, part_y)
        run.loss, run.outputs = loss, outputs
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
