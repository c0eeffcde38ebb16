"""The loop: a plain one that names each thing it does, in order. Nothing that watches can change it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainer.engine.distributed import Agreement, agree, means, reseed, world
from trainer.engine.evaluation import evaluate_run
from trainer.engine.interrupt import Interrupt
from trainer.engine.run import Observers, Run
from trainer.metrics import soft_cross_entropy


def fit(run: Run, observers: Observers = ()) -> dict[str, Any]:
    """Train until the phases are over, a regularizer says stop, or somebody interrupts; return how it ended.

    The returned dict holds ``stop_reason`` (``finished``, ``interrupted``, or a regularizer's words), ``seconds`` (of
    training since the run's beginning, without evaluation), ``images_per_second``, ``watching_seconds`` (what the
    observers took of this process's time, checkpoints included) and ``watching_share``, its ratio to the time of training.
    """
    reason, took, seen, watching = "finished", 0.0, 0, Stopwatch()
    earlier = sum(run.history.column("seconds"))
    with Interrupt() as interrupt:
        stopping = Agreement()
        for observer in observers:
            observer.on_fit_start(run)
            run.observers.append(observer)
        while not run.finished:
            seconds, pictures = train_epoch(run, observers, watching, lambda: stopping(interrupt.asked))
            took, seen = took + seconds, seen + pictures
            if run.interrupted:
                reason = "interrupted"
                break
            row = agree(epoch_row(run) | {"seconds": seconds, "images_per_second": pictures / seconds})
            run.history.append(row)
            run.keep_best()
            run.advance()
            with watching:
                for observer in observers:
                    observer.on_epoch_end(run, row)
            if words := run.regularizer.stop(run.history):
                reason = words
                break
    run.train.close()
    return {
        "stop_reason": reason,
        "seconds": earlier + took,
        "images_per_second": seen / took if took else 0.0,
        "watching_seconds": watching.seconds,
        "watching_share": watching.seconds / took if took else 0.0,
    }


class Stopwatch:
    """Adds up the seconds spent inside its ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.began


def train_epoch(run: Run, observers: Observers, watching: Stopwatch, asked: Callable[[], bool]) -> tuple[float, int]:
    """The batches of one epoch from where the clock stands, or fewer if interrupted; the seconds and pictures it took."""
    started, pictures = time.perf_counter(), 0
    run.model.train()
    if run.clock.batch == 0:
        run.sums.reset()
    last, several = run.steps_of_epoch, world() > 1
    batches = run.train.batches(run.passes, run.clock.batch)
    for x, y in batches:
        set_rates(run)
        if several:
            reseed(run)
        train_step(run, x, y, run.train.weight(run.clock.batch) if several else 1.0)
        pictures += run.train.size_of(run.clock.batch)
        run.clock.batch += 1
        run.clock.step += 1
        if run.averaged is not None:
            run.averaging.update(run.averaged, run.model, run.time, end_of_epoch=run.clock.batch == last)
        run.interrupted = asked()
        with watching:
            for observer in observers:
                observer.on_step_end(run)
        if run.clock.batch == last or run.interrupted:
            break
    batches.close()  # workers stop now, not when the garbage is collected
    synchronise(run)
    return time.perf_counter() - started, pictures


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
    row |= {f"train_{name}": value for name, value in means(run.sums).items()}
    return row | evaluate_run(run)


def synchronise(run: Run) -> None:
    """Wait for the device, so that the clock on the wall means something."""
    if run.precision.device.type == "cuda":
        torch.cuda.synchronize(run.precision.device)
