"""The LR range test, before or within a run, which it leaves unchanged."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Generator, Iterator
from statistics import median

from torch import Tensor

from trainer.analysis.lr_range import NoDescent, lr_sequence, rounded, suggest_lr
from trainer.engine.distributed import broadcast, rank, world_size
from trainer.engine.run import Run
from trainer.engine.step import train_step
from trainer.optimizers.param_groups import set_lr
from trainer.progress import steps
from trainer.run_dir import write_json

# The test ends when the loss exceeds this multiple of the first loss, or of chance level if that is higher.
DIVERGED = 4.0
EPOCHS = 3  # length of the test within a run, at most: with little data more steps would take longer than the training
FEWEST_STEPS = 40  # of which the smoothed curve still has a minimum
GENTLE = 0.1  # fraction of the maximum learning rate that does not destroy what the layers have learned


@contextlib.contextmanager
def restored(run: Run) -> Iterator[None]:
    """Restore the run afterwards: weights, buffers, optimizer, random number generators, clock, history."""
    state = copy.deepcopy(run.state())
    modes = [(module, module.training) for module in run.model.modules()]
    last_step = run.loss, run.outputs, run.batch, run.grad_norm
    try:
        yield
    finally:
        run.optimizer.zero_grad(set_to_none=True)
        run.load(state)
        for module, training in modes:
            module.training = training
        run.loss, run.outputs, run.batch, run.grad_norm = last_step


def endless_batches(run: Run) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The next batches of the run, epoch after epoch."""
    epoch, batch = run.data_epoch, run.clock.batch
    while True:
        batches = run.train.batches(epoch, batch)
        with contextlib.closing(batches):
            yield from batches
        epoch, batch = epoch + 1, 0


def lr_range_curve(run: Run, lrs: list[float], text: str = "LR range test") -> tuple[list[float], list[float]]:
    """Train one step at each learning rate until the loss is not finite or diverges (``DIVERGED``); restore the run.

    The ratios between parameter groups are kept, and so is the momentum. ``text`` says what the progress is of.

    Returns:
        The learning rates of the steps, and the loss of the batch of each step before its update.
    """
    losses: list[float] = []
    # A trained network's first loss can be so low that noise alone exceeds a multiple of it.
    chance_loss = run.task.chance_loss()
    with restored(run), contextlib.closing(endless_batches(run)) as batches:
        run.train_mode()
        for lr, (x, y) in steps(text, zip(lrs, batches, strict=False), len(lrs)):
            set_lr(run.optimizer, lr)
            train_step(run, x, y)
            assert run.loss is not None
            loss = float(run.loss)
            loss = broadcast(loss) if world_size() > 1 else loss
            if not math.isfinite(loss):
                break
            losses.append(loss)
            if len(losses) > 10 and median(losses[-3:]) > DIVERGED * max(median(losses[:5]), chance_loss):
                break
    return lrs[: len(losses)], losses


def maybe_run_lr_range_test(run: Run, steps: int = 100) -> None:
    """Run an LR range test if the current phase takes its learning rate from one and it has not been run yet.

    The phase gets a tenth of the test's ``max_lr``, as fastai takes a tenth of the learning rate at the
    lowest loss: the maximum itself would destroy what the layers have learned. If no learning rate lowers the loss by
    more than noise, as after the head has been trained well, it gets a tenth of the optimizer's learning rate.
    """
    phase = run.phase
    if phase.lr != "auto" or phase.name in run.suggested_lrs:
        return
    steps = max(FEWEST_STEPS, min(steps, EPOCHS * run.steps_in_epoch))
    run.alert(f"phase {phase.name}: LR range test of {steps} steps, before the learning rate is chosen")
    lrs, losses = lr_range_curve(run, lr_sequence(1e-6, 10.0, steps))
    if run.folder is not None and rank() == 0:
        name = phase.name.replace(" ", "_")
        write_json(run.folder / f"range_test_{name}.json", {"lr": lrs, "loss": losses})
    try:
        suggestion = suggest_lr(lrs, losses)
        confidence = suggestion.confidence("max_lr")
        lr, reason = GENTLE * suggestion.max_lr, f"a tenth of the LR range test's max_lr ({confidence} confidence)"
    except NoDescent as error:
        lr, reason = GENTLE * run.optimizer_option.lr, f"a tenth of optimizer.lr, because {error}"
    run.suggested_lrs[phase.name] = rounded(lr)
    run.alert(f"phase {phase.name}: peak learning rate {rounded(lr):g}, {reason}")
