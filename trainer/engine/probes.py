"""Measurements that tell the causes of a symptom apart: short trainings at other learning rates, scores of training images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainer.analysis.diagnosis.record import BRIEF, LONG, starts_trained
from trainer.analysis.diagnosis.wiring import TINY_BATCH, larger_batches
from trainer.engine.branches import branch, loss_of_batch_statistics, train_scores
from trainer.engine.evaluation import eval_mode, has_batch_norm
from trainer.engine.lr_range_test import endless_batches, restored
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.engine.used_weights import ValidationMeasures, measure_validation, used_weights
from trainer.engine.variants import (
    auto_weights,
    frozen_at_random,
    regularized,
    unaugmented,
    unfrozen,
    unregularized,
)
from trainer.measurements import Branch, Probe

LOWER = 0.1  # factor of the next lower learning rate
LEAST = 3  # branches whose steps a longer one has at least
CLOSE = 1.1  # ratio of losses up to which the next learning rate in this direction is tried
# Floating-point operations that branches may take however short the run is: some 20 seconds of one CPU core, 7 of one with AMX.
AFFORDABLE = 1e12

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
                result["from_used"] = [branch(run, used, factor, steps) for factor in (LOWER, 1.0)]
                if run.info.config.get("augmentation") and allowance.grant(steps):
                    with unaugmented(run, run.train.batch_size):
                        result["unaugmented"] = [branch(run, used, 1.0, steps)]
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
    shorter = min(run.clock.step, max(2 * steps, LONG))
    least = min(LEAST * steps, shorter)
    learns = False  # without augmentation, so that images and labels belong together
    if initial is not None:
        if frozen_at_random(run) and (granted := allowance.grant(shorter, least)):
            with unfrozen(run):
                result["unfrozen_start"] = [branch(run, initial, 1.0, granted)]
        result["from_start"] = from_start(run, initial, steps, allowance)
        if run.info.config.get("augmentation") and (granted := allowance.grant(shorter, least)):
            with unaugmented(run, run.train.batch_size):
                result["unaugmented_start"] = [branch(run, initial, 1.0, granted)]
            learns = result["unaugmented_start"][0]["loss"] < 0.5 * run.task.chance_loss()
        larger, count = larger_batches(run.train.batch_size, run.clock.step, steps)
        if run.train.batch_size <= TINY_BATCH and allowance.grant(count * (larger // run.train.batch_size)):
            with unaugmented(run, larger):
                result["larger_batches"] = [branch(run, initial, 1.0, count)]
    with unregularized(run):
        if initial is not None and allowance.grant(steps):
            result["unregularized_start"] = [branch(run, initial, 1.0, steps)]
        if math.isfinite(result["used"]["loss"]) and allowance.grant(steps):
            result["unregularized"] = [branch(run, used, 1.0, steps)]
    add_longer(run, result, used, initial, lambda count: allowance.grant(count * shorter, count * least) // count)
    if initial is not None and not learns and (granted := allowance.grant(max(2 * steps, LONG), least)):
        with unregularized(run):
            result["one_batch"] = [branch(run, initial, 1.0, granted, next(endless_batches(run)))]


def add_longer(
    run: Run, result: Probe, used: StateDict, initial: StateDict | None, grant: Callable[[int], int]
) -> None:
    """Add longer branches: from the initial weights of a run that is regularized, or learns faster at a lower learning rate, and
    from the weights that are used, where these still improve.

    Args:
        run: The run.
        result: What was measured before.
        used: The weights that are used.
        initial: The initial weights.
        grant: Returns the steps of each of some branches; 0 if they are too few.
    """
    slower, freed = slower_at_first(result), regularized(run)
    if initial is not None and (slower or freed) and (granted := grant(1 + slower + freed)):
        result["longer_start"] = [branch(run, initial, 1.0, granted)]
        if slower:
            result["lower_start"] = [branch(run, initial, LOWER, granted)]
        if freed:
            with unregularized(run):
                result["unregularized_longer_start"] = [branch(run, initial, 1.0, granted)]
    best = better(result["from_used"]) if "from_used" in result else None
    if best is not None and best["loss"] < result["used"]["loss"] and (granted := grant(1)):
        result["longer_used"] = [branch(run, used, best["factor"], granted)]


def better(branches: list[Branch]) -> Branch:
    """The branch that has reached the lowest loss."""
    return min(branches, key=lambda b: b["loss"])


def slower_at_first(result: Probe) -> bool:
    """Whether even a few steps from the initial weights learn more at a tenth of the learning rate, but less than the run."""
    start = {b["factor"]: b["loss"] for b in result.get("from_start", ())}
    return {LOWER, 1.0} <= start.keys() and result["used"]["loss"] < start[LOWER] < start[1.0]


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
    for factors in ((1.0,), (LOWER, 0.01), (10.0, 100.0)):
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


def branch_steps(total_steps: int, limit: int) -> int:
    """Return the steps of a branch: a twentieth of those of the run, at least 20 and at most ``limit``; 0 in a short run.

    >>> branch_steps(99, 100), branch_steps(200, 100), branch_steps(1000, 100), branch_steps(100_000, 100)
    (0, 20, 50, 100)
    """
    return 0 if total_steps < BRIEF else min(limit, max(20, total_steps // 20))
