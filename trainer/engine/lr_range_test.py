"""Trying steps that leave no trace: a range test before or within a run."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Generator, Iterator
from statistics import median

from torch import Tensor

from trainer.analysis.lr_range import NoDescent, geometric, read, rounded
from trainer.engine.distributed import broadcast, world_size
from trainer.engine.run import Run
from trainer.engine.step import train_step
from trainer.optimizers.param_groups import set_lr

DIVERGED = 4.0  # times the first loss, or that of guessing where this is more: beyond that there is nothing to see
GENTLE = 0.1  # of the peak: what steps over layers that have learned something may take without undoing it


@contextlib.contextmanager
def restored(run: Run) -> Iterator[None]:
    """Whatever is trained inside, afterwards the run is as before: weights, buffers, optimizer, generators, clock, history."""
    state = copy.deepcopy(run.state())
    modes = [(module, module.training) for module in run.model.modules()]
    seen = run.loss, run.outputs, run.batch, run.grad_norm
    try:
        yield
    finally:
        run.optimizer.zero_grad(set_to_none=True)
        run.load(state)
        for module, training in modes:
            module.training = training
        run.loss, run.outputs, run.batch, run.grad_norm = seen


def endless(run: Run) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The batches that come next in the run, epoch after epoch."""
    epoch, batch = run.passes, run.clock.batch
    while True:
        batches = run.train.batches(epoch, batch)
        with contextlib.closing(batches):
            yield from batches
        epoch, batch = epoch + 1, 0


def lr_range_curve(run: Run, rates: list[float]) -> tuple[list[float], list[float]]:
    """Rates and the loss of the batch met at each, one step a rate, until the loss is no number or has exploded (``DIVERGED``).

    The ratios between parameter groups stay, and so does the momentum; afterwards the run is as before.
    """
    losses: list[float] = []
    guessing = math.log(
        len(run.info.classes)
    )  # a network that has learned begins so low that noise is four times its loss
    with restored(run), contextlib.closing(endless(run)) as batches:
        run.train_mode()
        for rate, (x, y) in zip(rates, batches, strict=False):
            set_lr(run.optimizer, rate)
            train_step(run, x, y)
            assert run.loss is not None
            loss = float(run.loss)
            loss = broadcast(loss) if world_size() > 1 else loss
            if not math.isfinite(loss):
                break
            losses.append(loss)
            if len(losses) > 10 and median(losses[-3:]) > DIVERGED * max(median(losses[:5]), guessing):
                break
    return rates[: len(losses)], losses


def run_lr_range_test(run: Run, steps: int = 100) -> None:
    """At the beginning of a phase whose rate is left to a range test: make it, and keep what it found in the run's state.

    The rate is a tenth of the peak, as fastai takes a tenth of the rate at the lowest loss: at the peak itself, trained layers
    are about to be undone. Where nothing descends by more than noise, as is so after a head has been trained well, it is a tenth
    of the optimizer's.
    """
    phase = run.phase
    if phase.lr != "auto" or phase.name in run.rates:
        return
    rates, losses = lr_range_curve(run, geometric(1e-6, 10.0, steps))
    try:
        found = read(rates, losses)
        rate = GENTLE * found.max_lr
        text = f"phase {phase.name}: rate {rounded(rate):g}, a tenth of the peak of a range test ({found.confidence('max_lr')})"
    except NoDescent as error:
        rate = GENTLE * run.optimizer_option.lr
        text = f"phase {phase.name}: rate {rounded(rate):g}, a tenth of optimizer.lr, because {error}"
    run.rates[phase.name] = rounded(rate)
    run.news.append(text)
