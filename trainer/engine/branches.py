"""Short trainings of a run from given weights, and the scores of what they reach."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterable

import torch
from torch import Tensor, nn

from trainer.analysis.diagnosis.record import IMAGES
from trainer.architectures.layers import networks_of
from trainer.engine.evaluation import eval_mode
from trainer.engine.lr_range_test import endless_batches
from trainer.engine.metrics import RunningMetrics
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.engine.step import train_step
from trainer.engine.used_weights import BATCH
from trainer.measurements import Branch, ProbeScores
from trainer.optimizers.param_groups import set_lr

DECAY = 0.5  # the part of a branch in which its learning rate falls to zero

Batches = Iterable[tuple[Tensor, Tensor]]


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
