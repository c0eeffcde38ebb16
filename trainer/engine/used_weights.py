"""The weights of a finished run that are used, and which validation images they misclassify."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainer.analysis.predictions import confused_classes
from trainer.engine.evaluation import best_weights, eval_mode
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.formats import Confusions

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


@torch.no_grad()
def validation_outputs(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs (N, K) of the model in evaluation mode and labels (N,), by batches; none without a single task with classes."""
    part = run.task.parts[0]
    if run.validation is None or len(run.task.parts) > 1 or part.spec.kind != "classification" or part.spec.masked:
        return
    with eval_mode(run.model):
        for x, y in run.validation.batches(0):
            with run.precision.autocast():
                outputs = run.model(x).float()
            yield outputs, y[:, : part.size].argmax(1)


def error_ranks(run: Run) -> list[int]:
    """How many validation images have their label at each rank of the predictions, from the most probable class on.

    The label of an honest error is often the second guess; one that is wrong itself is anywhere. Empty without classes.
    """
    counts, seen = torch.zeros(run.task.parts[0].size, dtype=torch.long), 0
    for outputs, labels in validation_outputs(run):
        target = outputs.gather(1, labels[:, None])
        counts += torch.bincount((outputs > target).sum(1).cpu(), minlength=len(counts))
        seen += len(labels)
        if seen >= RANKED:
            break
    return counts.tolist() if seen else []


def validation_confusions(run: Run) -> Confusions | None:
    """Which classes the weights that are used confuse with each other on the validation images; None without classes."""
    labels: list[int] = []
    predicted: list[int] = []
    confidence: list[float] = []
    with used_weights(run):
        for outputs, targets in validation_outputs(run):
            labels += map(int, targets.numpy(force=True))
            predicted += map(int, outputs.argmax(1).numpy(force=True))
            confidence += map(float, outputs.softmax(1).amax(1).numpy(force=True))
    return confused_classes(labels, predicted, confidence) if labels else None
