"""The training loop: explicit calls, in order. Observers are notified and cannot change it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainer.duration import show_seconds
from trainer.engine.distributed import StopFlag, any_rank, broadcast, means, reseed, world_size
from trainer.engine.divergence import LossCheck, can_rewind, nonfinite, remember, rewind
from trainer.engine.evaluation import evaluate_run
from trainer.engine.lr_range_test import maybe_run_lr_range_test
from trainer.engine.observer import Observer, ObserverGroup
from trainer.engine.run import Run
from trainer.engine.step import set_lr_and_momentum, train_step
from trainer.engine.view import RunView, read_only
from trainer.formats import Outcome, Row
from trainer.hardware import synchronize
from trainer.history import has_finite_losses
from trainer.interrupt import Interrupt


def fit(run: Run, observers: Sequence[Observer] = (), interrupt: Interrupt | None = None) -> Outcome:
    """Train until the phases are over, a regularizer stops training, or an interrupt is requested."""
    view, observer, observing = RunView(run), ObserverGroup(observers), Stopwatch()
    seconds_before, seconds, images = sum(run.history.column("seconds")), 0.0, 0
    run.interrupted, run.diverged = False, None
    with interrupt or Interrupt() as interrupt:
        loss_check, budget = LossCheck(run), run.budget
        stop_requested = StopFlag(interrupt, lambda: loss_check() or (budget is not None and budget.exceeded))

        def notify_step_end() -> None:
            with observing:
                observer.on_step_end(view)

        observer.on_fit_start(view)
        if budget is not None:
            budget.start()
        steps_before = run.clock.step
        while not run.finished and not run.stop_reason():
            maybe_run_lr_range_test(run)
            remember(run)
            loss_check.reset()
            speed = train_epoch(run, stop_requested, notify_step_end)
            seconds, images = seconds + speed.seconds, images + speed.images
            run.diverged = nonfinite(run)
            check_budget(run, steps_before)
            if run.interrupted and not run.diverged:
                break
            row = None if run.diverged and can_rewind(run) else broadcast(evaluate_epoch(run, speed))
            if row is not None and not has_finite_losses(row, ["validation"]):
                run.diverged = run.diverged or "the validation loss is NaN or Inf"
            if run.diverged and rewind(run):
                stop_requested.reset()
                continue
            assert row is not None
            finish_epoch(run, row)
            with observing:
                observer.on_epoch_end(view, read_only(row))
            if run.diverged:
                break
    run.train.close()
    return {
        "stop_reason": stop_reason(run),
        "seconds": seconds_before + seconds,
        "images_per_second": images / seconds if seconds else 0.0,
        "observer_seconds": observing.seconds,
        "observer_fraction": observing.seconds / seconds if seconds else 0.0,
    }


def check_budget(run: Run, steps_before: int) -> None:
    """Let all ranks agree on whether the time is over, which ends the epoch; alert once if that will be before ``epochs`` are."""
    budget = run.budget
    if budget is None:
        return
    budget.over = bool(any_rank(torch.tensor([budget.exceeded], device=run.precision.device)))
    if budget.over:
        run.interrupted = False
    elif not budget.projected and not run.interrupted:
        budget.projected, per_epoch = True, len(run.train)
        step = budget.projection(run.clock.step, steps_before)
        if step < run.total_steps:
            run.alert(
                f"at this speed the budget of {show_seconds(budget.limit)} ends at epoch {step / per_epoch:.3g}, and the "
                f"schedule at epoch {run.total_steps / per_epoch:.4g}; epochs={max(1, round(step / per_epoch))} would end both"
            )


def finish_epoch(run: Run, row: Row) -> None:
    """Add the row of an epoch to the history, keep its weights if they are the best, and go to the next epoch."""
    run.history.append(row)
    if run.diverged:
        run.interrupted = False  # to look at it was the reason to stop
        return
    run.task.end_epoch(row)
    run.keep_best()
    run.advance()


def stop_reason(run: Run) -> str:
    """Why training has ended, for the result."""
    if run.diverged:
        return f"diverged: {run.diverged} in epoch {run.time:.4g}"
    return "interrupted" if run.interrupted else run.stop_reason() or "finished"


def train_epoch(run: Run, stop_requested: Callable[[], bool], notify_step_end: Callable[[], None]) -> Speed:
    """Train the rest of the current epoch, or until a stop is requested."""
    started, images = time.perf_counter(), 0
    run.train_mode()
    if run.clock.batch == 0:
        run.sums.reset()
        if run.guard is not None:
            run.guard.reset()
    last, is_distributed = run.steps_in_epoch, world_size() > 1
    with contextlib.closing(run.train.batches(run.data_epoch, run.clock.batch)) as batches:
        # An epoch that was interrupted after its last step has no steps left.
        for x, y in batches if run.clock.batch < last else ():
            set_lr_and_momentum(run)
            if is_distributed:
                reseed(run.train.seed, run.clock.step)
            train_step(run, x, y, run.train.weight(run.clock.batch) if is_distributed else 1.0)
            images += run.train.images_in(run.clock.batch)
            run.clock.batch += 1
            run.clock.step += 1
            if run.averaged is not None:
                run.averaging.update(run.averaged, run.model, run.time, end_of_epoch=run.clock.batch == last)
            run.interrupted = stop_requested()
            notify_step_end()
            if run.clock.batch == last or run.interrupted:
                break
    synchronize(run.precision.device)
    return Speed(time.perf_counter() - started, images)


def evaluate_epoch(run: Run, speed: Speed) -> Row:
    """The history's row for the epoch just trained: learning rate, training metrics, validation metrics, speed."""
    return Row(
        phase=run.phase.name,
        epoch=run.time,
        step=run.clock.step,
        lr=run.lr,
        mean_lr=run.mean_lr,
        momentum=run.momentum,
        **{f"train_{name}": value for name, value in means(run.sums).items()},
        **evaluate_run(run),
        **run.task.columns(),
        **({} if run.guard is None else {"skipped_steps": int(run.guard.skipped)}),
        **speed.columns(),
    )


@dataclass(frozen=True)
class Speed:
    """Seconds of training, and how many images were trained on in them."""

    seconds: float
    images: int

    def columns(self) -> dict[str, float]:
        """The columns of the history about speed."""
        return {"seconds": self.seconds, "images_per_second": self.images / self.seconds}


class Stopwatch:
    """Sum of the seconds spent inside its ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.started
