"""Measurements that tell the causes of a symptom apart: short trainings at other learning rates, scores of training images."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.analysis.diagnosis.record import BRIEF, IMAGES, LONG, starts_trained
from trainer.analysis.diagnosis.wiring import TINY_BATCH, larger_batches
from trainer.architectures.layers import networks_of
from trainer.engine.evaluation import eval_mode, has_batch_norm
from trainer.engine.lr_range_test import endless_batches, restored
from trainer.engine.metrics import RunningMetrics
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.engine.step import train_step
from trainer.engine.used_weights import BATCH, ValidationMeasures, measure_validation, used_weights
from trainer.engine.variants import (
    auto_weights,
    frozen_at_random,
    regularized,
    unaugmented,
    unfrozen,
    unregularized,
)
from trainer.measurements import Branch, Probe, ProbeScores
from trainer.optimizers.param_groups import set_lr

DECAY = 0.5  # the part of a branch in which its learning rate falls to zero
LEAST = 3  # branches whose steps a longer one has at least
CLOSE = 1.1  # ratio of losses up to which the next learning rate in this direction is tried
# Floating-point operations that branches may take however short the run is: some 20 seconds of one CPU core, 7 of one with AMX.
AFFORDABLE = 1e12

Batches = Iterable[tuple[Tensor, Tensor]]
# Branches: none, those from the weights that are used, and those from the initial ones.
Needed = Literal["none", "used", "all"]


@dataclass
class Allowance:
    """How many steps all branches may take together, and how many they have asked for.

    Attributes:
        steps: That are left.
        wanted: That were asked for.
        refused: Whether a branch was left out.
    """

    steps: float
    wanted: int = 0
    refused: bool = False

    def grant(self, steps: int, least: int | None = None) -> int:
        """Return how many of the steps there are left, and take them; 0 if those are fewer than the least, all by default: the
        branch is left out.

        >>> allowance = Allowance(50)
        >>> allowance.grant(20), allowance.grant(40), allowance.refused, allowance.grant(40, least=30), allowance.wanted
        (20, 0, True, 30, 100)
        """
        self.wanted += steps
        granted = int(min(steps, self.steps))
        if granted < (steps if least is None else least):
            self.refused = True
            return 0
        self.steps -= granted
        return granted


def probe(
    run: Run,
    initial: StateDict | None,
    steps: int,
    needed: Callable[[Probe], Needed] = lambda scores: "all",
    fraction: float = math.inf,
    measured: ValidationMeasures | None = None,
) -> Probe:
    """Measure what the history does not tell; the run is as before.

    Args:
        run: A run whose training has ended, of one phase if there are initial weights.
        initial: The weights before the first step; without them there are no branches from the beginning.
        steps: Steps of each branch; 0 = no branches.
        needed: Which branches are needed, by the scores of the weights that are used.
        fraction: Of the steps of the run, that all branches may take together; what takes no more than ``AFFORDABLE`` operations
            is always made.
        measured: On the validation images, if that has been done.
    """
    with restored(run):
        measured = measured or measure_validation(run)
        with used_weights(run):
            used = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.model.load_state_dict(used)
        scores = train_scores(run)
        if measured is not None:
            scores["validation_loss"], scores["validation_accuracy"] = measured.loss, measured.accuracy
        result = Probe(steps=steps, used=scores, ranks=[] if measured is None else measured.ranks)
        together = min(run.micro_batch or run.train.batch_size, run.train.batch_size)
        if together <= TINY_BATCH and has_batch_norm(run.model):
            result["loss_of_batch_statistics"] = loss_of_batch_statistics(run, together)
        which = needed(result) if steps else "none"
        if which != "none":
            allowance = Allowance(max(fraction * run.clock.step, affordable_steps(run)))
            if math.isfinite(result["used"]["loss"]) and allowance.grant(2 * steps):
                result["from_used"] = [branch(run, used, factor, steps) for factor in (0.1, 1.0)]
            if initial is not None:
                add_auto(run, result, initial, allowance)
            if which == "all":
                add_causes(run, result, used, initial, allowance)
            if allowance.refused:
                result["enough"] = two_digits_up(allowance.wanted / max(run.clock.step, 1))
    return result


def add_causes(run: Run, result: Probe, used: StateDict, initial: StateDict | None, allowance: Allowance) -> None:
    """Add the branches that tell why a run has not learned, as far as the allowance goes: the short ones first, then those that
    take what is left.
    """
    steps = result["steps"]
    learns = False  # without augmentation, so that images and labels belong together
    least, memorizing = LEAST * steps, max(2 * steps, LONG)
    shorter = min(run.clock.step, memorizing)
    if initial is not None:
        result["from_start"] = from_start(run, initial, steps, allowance)
        if run.info.config.get("augmentation") and (granted := allowance.grant(shorter, min(least, shorter))):
            with unaugmented(run, run.train.batch_size):
                result["unaugmented_start"] = [branch(run, initial, 1.0, granted)]
            learns = result["unaugmented_start"][0]["loss"] < 0.5 * run.task.chance_loss()
        if frozen_at_random(run) and (granted := allowance.grant(shorter, min(least, shorter))):
            with unfrozen(run):
                result["unfrozen_start"] = [branch(run, initial, 1.0, granted)]
        larger, count = larger_batches(run.train.batch_size, run.clock.step, steps)
        if run.train.batch_size <= TINY_BATCH and allowance.grant(count * (larger // run.train.batch_size)):
            with unaugmented(run, larger):
                result["larger_batches"] = [branch(run, initial, 1.0, count)]
    with unregularized(run):
        if initial is not None and allowance.grant(steps):
            result["unregularized_start"] = [branch(run, initial, 1.0, steps)]
        if math.isfinite(result["used"]["loss"]) and allowance.grant(steps):
            result["unregularized"] = [branch(run, used, 1.0, steps)]
    if (
        initial is not None
        and regularized(run)
        and (granted := allowance.grant(2 * shorter, 2 * min(least, shorter)) // 2)
    ):
        result["longer_start"] = [branch(run, initial, 1.0, granted)]
        with unregularized(run):
            result["unregularized_longer_start"] = [branch(run, initial, 1.0, granted)]
    if initial is not None and not learns and (granted := allowance.grant(memorizing, least)):
        with unregularized(run):
            result["one_batch"] = [branch(run, initial, 1.0, granted, next(endless_batches(run)))]


def add_auto(run: Run, result: Probe, initial: StateDict, allowance: Allowance) -> None:
    """Add what other initial weights would do, where those of the run are unusual and were not trained before."""
    steps = min(run.clock.step, max(2 * result["steps"], LONG))
    auto = None if starts_trained(run.info.config) else auto_weights(run, initial)
    if auto is not None and allowance.grant(2 * steps):
        weights, ratio = auto
        if ratio is not None:
            result["unusual"] = ratio
        result["auto_start"] = [branch(run, start, 1.0, steps) for start in (initial, weights)]


def two_digits_up(value: float) -> float:
    """Round a positive number up to two significant digits.

    >>> two_digits_up(0.1231), two_digits_up(5.0)
    (0.13, 5.0)
    """
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def from_start(run: Run, initial: StateDict, steps: int, allowance: Allowance) -> list[Branch]:
    """Branches from the initial weights at the learning rate of the run, a tenth, ten times it, and further if it helps."""
    branches: dict[float, Branch] = {}
    for factors in ((1.0,), (0.1, 0.01), (10.0, 100.0)):
        for factor in factors:
            if not allowance.grant(steps):
                continue
            branches[factor] = branch(run, initial, factor, steps)
            loss, own = branches[factor]["loss"], branches.get(1.0, branches[factor])["loss"]
            # Where even a lower learning rate diverges, that of the run has only survived: a still lower one may learn.
            if loss > CLOSE * own and (factor > 1 or math.isfinite(loss)):
                break
    return [branches[factor] for factor in sorted(branches)]


def affordable_steps(run: Run) -> float:
    """How many steps take ``AFFORDABLE`` floating-point operations; a backward pass takes twice as many as a forward pass."""
    x = torch.zeros(1, *run.info.shape, device=run.precision.device)
    with eval_mode(run.model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run.model(x)
    return AFFORDABLE / (3 * max(counter.get_total_flops(), 1) * run.train.batch_size)


def initial_weights(run: Run) -> StateDict | None:
    """A copy of the weights before the first step on the CPU; None if they are unknown, or belong to another phase."""
    if len(run.phases) > 1 or (run.clock.step and run.initial is None):
        return None
    return run.initial or {name: value.detach().cpu().clone() for name, value in run.model.state_dict().items()}


def branch(
    run: Run, weights: StateDict, factor: float, steps: int, batch: tuple[Tensor, Tensor] | None = None
) -> Branch:
    """Train from given weights at a fraction of the peak learning rate, which falls to zero in the second half.

    With a ``batch``, train and evaluate on it alone.
    """
    run.model.load_state_dict(weights)
    run.optimizer.state.clear()
    if run.capture is not None:
        run.capture.reset()
    peak = run.peak_lr(run.phase)
    failed = Branch(factor=factor, lr=peak * factor, loss=math.inf, accuracy=None)
    with contextlib.closing(endless_batches(run) if batch is None else repeated(batch)) as batches:
        run.train_mode()
        for step, (x, y) in zip(range(steps), batches, strict=False):
            set_lr(run.optimizer, peak * factor * min(1.0, (steps - step) / steps / DECAY))
            train_step(run, x, y)
            if run.loss is None or not math.isfinite(float(run.loss)):
                return failed
    scores = split_scores(run) if batch is None else batch_scores(run, batch)
    return Branch(factor=factor, lr=peak * factor, **scores) if math.isfinite(scores["loss"]) else failed


def repeated(batch: tuple[Tensor, Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The same batch again and again."""
    while True:
        yield batch


def train_scores(run: Run) -> ProbeScores:
    """Loss and accuracy of the model in evaluation mode on about ``IMAGES`` training images without augmentation."""
    with eval_mode(run.model):
        loss, accuracy = mean_scores(run, run.train.without_augmentation(BATCH).batches(0))
    return ProbeScores(loss=loss, accuracy=accuracy)


def split_scores(run: Run) -> ProbeScores:
    """Loss and accuracy of the model in evaluation mode on about ``IMAGES`` training and as many validation images."""
    scores = train_scores(run)
    if run.validation is not None:
        with eval_mode(run.model):
            scores["validation_loss"], scores["validation_accuracy"] = mean_scores(run, run.validation.batches(0))
    return scores


def batch_scores(run: Run, batch: tuple[Tensor, Tensor]) -> ProbeScores:
    """Loss and accuracy on a batch in the mode of training, in which it was trained on."""
    run.train_mode()
    loss, accuracy = mean_scores(run, [batch])
    return ProbeScores(loss=loss, accuracy=accuracy)


@torch.no_grad()
def mean_scores(run: Run, batches: Batches, split: int = BATCH) -> tuple[float, float | None]:
    """Mean loss and accuracy, if the task has one, of the first batches with ``IMAGES`` images, in the mode the model is in."""
    sums, seen = RunningMetrics(run.task), 0
    for whole_x, whole_y in batches:
        for x, y in zip(whole_x.split(split), whole_y.split(split), strict=True):
            with run.precision.autocast():
                outputs = run.model(x)
            sums.add(run.task.loss(outputs, y), outputs, y)
        seen += len(whole_x)
        if seen >= IMAGES:
            break
    means = sums.means()
    return means["loss"], means.get("accuracy")


def loss_of_batch_statistics(run: Run, size: int) -> float:
    """The loss on training images in evaluation mode, but with batch norms that normalize by the statistics of as many images."""
    with eval_mode(run.model):
        for network in networks_of(run.model).values():
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
        return mean_scores(run, run.train.without_augmentation(BATCH).batches(0), size)[0]


def branch_steps(total_steps: int, limit: int) -> int:
    """Return the steps of a branch: a twentieth of those of the run, at least 20 and at most ``limit``; 0 in a short run.

    >>> branch_steps(99, 100), branch_steps(200, 100), branch_steps(1000, 100), branch_steps(100_000, 100)
    (0, 20, 50, 100)
    """
    return 0 if total_steps < BRIEF else min(limit, max(20, total_steps // 20))
