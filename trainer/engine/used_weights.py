"""The weights of a finished run that are used, and which validation images they misclassify."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.analysis.diagnosis.record import IMAGES
from trainer.analysis.predictions import confused_classes
from trainer.engine.evaluation import best_weights, eval_mode
from trainer.engine.metrics import RunningMetrics
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.measurements import Confusions

BATCH = 256
RANKED = 2000  # validation images whose labels are ranked


@contextlib.contextmanager
def used_weights(run: Run) -> Iterator[None]:
    """Put the weights that are used into the model: those of the best epoch, averaged where these are as good; afterwards, the
    last ones again.
    """
    with best_weights(run):
        if run.averaged is not None and averaged_is_used(run):
            run.model.load_state_dict(averaged_weights(run.averaged))
        yield


def averaged_is_used(run: Run) -> bool:
    """Whether the averaged weights of the best epoch are as good on the validation images as the model's."""
    if run.best is None or not run.history:
        return False
    row = run.history[run.best["row"]]
    own, averaged = row.get("validation_loss"), row.get("averaged_loss")
    return own is not None and averaged is not None and averaged <= own


def averaged_weights(averaged: nn.Module) -> StateDict:
    """The weights of an averaged model under the names of the model."""
    return {n.removeprefix("module."): v for n, v in averaged.state_dict().items() if n != "n_averaged"}


@dataclass(frozen=True)
class ValidationMeasures:
    """What one pass over the validation images measures of the weights that are used."""

    loss: float  # of the first images, about ``IMAGES``
    accuracy: float | None  # likewise, if the task has one
    ranks: list[int]  # images by the rank of their label among the predictions; [] without a single task of classes
    confusions: Confusions | None  # which classes are confused with each other; None likewise


class Guesses:
    """Which classes a network takes images for.

    The label of an honest error is often the second guess; one that is wrong itself is anywhere. The ranks are those of the first
    images, about ``RANKED``.
    """

    def __init__(self, classes: int) -> None:
        self.ranks = torch.zeros(classes, dtype=torch.long)
        self.labels: list[int] = []
        self.predicted: list[int] = []
        self.confidence: list[float] = []

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """Add the outputs (N, K) of a batch with the labels (N,)."""
        if len(self.labels) < RANKED:
            target = outputs.gather(1, labels[:, None])
            self.ranks += torch.bincount((outputs > target).sum(1).cpu(), minlength=len(self.ranks))
        self.labels += map(int, labels.numpy(force=True))
        self.predicted += map(int, outputs.argmax(1).numpy(force=True))
        self.confidence += map(float, outputs.softmax(1).amax(1).numpy(force=True))


@torch.no_grad()
def measure_validation(run: Run) -> ValidationMeasures | None:
    """Measure the weights that are used on the validation images, all of them if there are classes; None without such images."""
    if run.validation is None:
        return None
    part, sums, seen = run.task.parts[0], RunningMetrics(run.task), 0
    single = len(run.task.parts) == 1 and part.spec.kind == "classification" and not part.spec.masked
    guesses = Guesses(part.size) if single else None
    with used_weights(run), eval_mode(run.model):
        for x, y in run.validation.batches(0):
            with run.precision.autocast():
                outputs = torch.cat([run.model(images) for images in x.split(BATCH)])
            if seen < IMAGES:
                sums.add(run.task.loss(outputs, y), outputs, y)
            elif guesses is None:
                break
            if guesses is not None:
                guesses.add(outputs.float(), y[:, : part.size].argmax(1))
            seen += len(x)
    means = sums.means()
    ranks, confusions = [], None
    if guesses is not None and guesses.labels:
        ranks = guesses.ranks.tolist()
        confusions = confused_classes(guesses.labels, guesses.predicted, guesses.confidence)
    return ValidationMeasures(means["loss"], means.get("accuracy"), ranks, confusions)
