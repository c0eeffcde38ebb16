"""The loop: a plain one that names each thing it does, in order. Nothing that watches can change it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from trainer.engine.evaluation import evaluate_run
from trainer.engine.interrupt import Interrupt
from trainer.engine.run import Observers, Run
from trainer.metrics import soft_cross_entropy


def fit(run: Run, observers: Observers = ()) -> dict[str, Any]:
    """Train until the phases are over, a regularizer says stop, or somebody interrupts; return how it ended.

    The returned dict holds ``stop_reason`` (``finished``, ``interrupted``, or a regularizer's words), ``epochs``,
    ``steps``, ``seconds`` (of training, without evaluation), ``images_per_second``.
    """
    reason, seconds, steps_before = "finished", 0.0, run.clock.step
    pictures = 0
    with Interrupt() as interrupt:
        for observer in observers:
            observer.on_fit_start(run)
        while not run.finished:
            started, first = time.perf_counter(), run.clock.batch
            train_epoch(run, observers, interrupt)
            synchronise(run)
            took = time.perf_counter() - started
            done = run.clock.batch - first
            seen = min(run.train.num_pictures, done * -(-run.train.num_pictures // len(run.train)))
            seconds, pictures = seconds + took, pictures + seen
            if run.interrupted:
                reason = "interrupted"
                break
            row = epoch_row(run) | {"seconds": took, "images_per_second": seen / took}
            run.history.append(row)
            run.keep_best()
            run.advance()
            for observer in observers:
                observer.on_epoch_end(run, row)
            if words := run.regularizer.stop(run.history):
                reason = words
                break
    run.train.close()
    speed = pictures / seconds if seconds else 0.0
    steps = run.clock.step - steps_before
    return {"stop_reason": reason, "steps": steps, "seconds": seconds, "images_per_second": speed}


def train_epoch(run: Run, observers: Observers, interrupt: Interrupt) -> None:
    """The batches of one epoch from where the clock stands, or fewer if interrupted."""
    run.model.train()
    if run.clock.batch == 0:
        run.sums.reset()
    last = run.steps_of_epoch
    batches = run.train.batches(run.passes, run.clock.batch)
    for x, y in batches:
        set_rates(run)
        train_step(run, x, y)
        run.clock.batch += 1
        run.clock.step += 1
        if run.averaged is not None:
            run.averaging.update(run.averaged, run.model, run.time, end_of_epoch=run.clock.batch == last)
        run.interrupted = interrupt.asked
        for observer in observers:
            observer.on_step_end(run)
        if run.clock.batch == last or run.interrupted:
            break
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def set_rates(run: Run) -> None:
    """Write this step's rate, and momentum where the schedule moves it, into the optimizer."""
    schedule, t = run.phase.schedule, run.time
    multiplier = schedule(t, run.history)
    momentum = schedule.momentum_at(t)
    rate = run.optimizer_option.lr * multiplier
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["ratio"]
        if momentum is not None:
            key = run.optimizer_option.momentum_key
            group[key] = momentum if key == "momentum" else (momentum, *group["betas"][1:])


def train_step(run: Run, x: Tensor, y: Tensor) -> None:
    """One step of the optimizer; the batch goes through the network in parts where ``micro_batch`` says so."""
    if run.regularizer.acts_on_batch:
        x, y = run.regularizer.batch(x, y)
    size = len(x)
    part = min(run.micro_batch or size, size)
    for begin in range(0, size, part):
        part_x, part_y = (x, y) if part == size else (x[begin : begin + part], y[begin : begin + part])
        with run.precision.autocast():
            outputs = run.model(part_x)
        loss = soft_cross_entropy(outputs, part_y)
        run.sums.add(loss.detach(), outputs.detach(), part_y)
        run.loss, run.outputs = loss.detach(), outputs.detach()
        total = loss if part == size else loss * (len(part_x) / size)
        if begin == 0 and run.regularizer.acts_on_loss:
            penalty = run.regularizer.penalty(run.model, outputs)
            total = total if penalty is None else total + penalty
        total.backward()
    clip = run.optimizer_option.clip_norm
    if clip:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)


def epoch_row(run: Run) -> dict[str, Any]:
    """The history's row for the epoch just trained: rates, training means, and the validation set evaluated."""
    group = run.optimizer.param_groups[0]
    momentum = group.get("momentum", group.get("betas", (None,))[0])
    row: dict[str, Any] = {
        "phase": run.phase.name,
        "epoch": run.time,
        "step": run.clock.step,
        "lr": group["lr"] / group["ratio"],
        "momentum": momentum,
    }
    row |= {f"train_{name}": value for name, value in run.sums.means().items()}
    return row | evaluate_run(run)


def synchronise(run: Run) -> None:
    """Wait for the device, so that the clock on the wall means something."""
    if run.precision.device.type == "cuda":
        torch.cuda.synchronize(run.precision.device)
