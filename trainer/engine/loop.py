"""The loop: a plain one that names each thing it does, in order. Nothing that watches can change it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from trainer.engine.distributed import StopFlag, broadcast, means, reseed, world_size
from trainer.engine.evaluation import evaluate_run
from trainer.engine.interrupt import Interrupt
from trainer.engine.lr_range_test import run_lr_range_test
from trainer.engine.run import Observers, Run
from trainer.engine.step import set_lr_and_momentum, train_step


def fit(run: Run, observers: Observers = ()) -> dict[str, Any]:
    """Train until the phases are over, a regularizer says stop, or somebody interrupts; return how it ended.

    The returned dict holds ``stop_reason`` (``finished``, ``interrupted``, or a regularizer's words), ``seconds`` (of
    training since the run's beginning, without evaluation), ``images_per_second``, ``watching_seconds`` (what the
    observers took of this process's time, checkpoints included) and ``watching_share``, its ratio to the time of training.
    """
    took, seen, watching = 0.0, 0, Stopwatch()
    earlier = sum(run.history.column("seconds"))
    with Interrupt() as interrupt:
        stopping = StopFlag()
        for observer in observers:
            observer.on_fit_start(run)
            run.observers.append(observer)
        while not (run.finished or run.stop_reason()):
            run_lr_range_test(run)
            seconds, pictures = train_epoch(run, observers, watching, lambda: stopping(interrupt.asked))
            took, seen = took + seconds, seen + pictures
            if run.interrupted:
                break
            row = broadcast(epoch_row(run) | {"seconds": seconds, "images_per_second": pictures / seconds})
            run.history.append(row)
            run.keep_best()
            run.advance()
            with watching:
                for observer in observers:
                    observer.on_epoch_end(run, row)
    run.train.close()
    reason = "interrupted" if run.interrupted else run.stop_reason() or "finished"
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
    run.train_mode()
    if run.clock.batch == 0:
        run.sums.reset()
    last, several = run.steps_of_epoch, world_size() > 1
    batches = run.train.batches(run.passes, run.clock.batch)
    for x, y in batches if run.clock.batch < last else ():  # a run stopped behind the last step has none to make
        set_lr_and_momentum(run)
        if several:
            reseed(run)
        train_step(run, x, y, run.train.weight(run.clock.batch) if several else 1.0)
        pictures += run.train.images_in(run.clock.batch)
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


def epoch_row(run: Run) -> dict[str, Any]:
    """The history's row for the epoch just trained: rates, training means, and the validation set evaluated."""
    group = run.optimizer.param_groups[0]
    momentum = group.get("momentum", group.get("betas", (None,))[0])
    row: dict[str, Any] = {
        "phase": run.phase.name,
        "epoch": run.time,
        "step": run.clock.step,
        "lr": run.lr,
        "momentum": momentum,
    }
    row |= {f"train_{name}": value for name, value in means(run.sums).items()}
    return row | evaluate_run(run)


def synchronise(run: Run) -> None:
    """Wait for the device, so that the clock on the wall means something."""
    if run.precision.device.type == "cuda":
        torch.cuda.synchronize(run.precision.device)
