"""Confusion matrix and highest-loss errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

# A misclassified image in ``predictions.json`` and ``result.json``; ``file`` is its path if the images are files.
MisclassifiedContent = TypedDict(
    "MisclassifiedContent",
    {"index": int, "class": str, "predicted": str, "probability": float, "loss": float, "file": NotRequired[str]},
)


@dataclass(frozen=True)
class Misclassified:
    """One misclassified image: its index in the split, its class and the predicted one (indices), and the predicted
    class's probability. ``loss`` is the cross-entropy in nats.
    """

    index: int
    label: int
    predicted: int
    probability: float
    loss: float

    def as_dict(self, classes: Sequence[str]) -> MisclassifiedContent:
        """The error with the names of its classes, as ``predictions.json`` and ``result.json`` hold it."""
        return {
            "index": self.index,
            "class": classes[self.label],
            "predicted": classes[self.predicted],
            "probability": self.probability,
            "loss": self.loss,
        }

    def caption(self, classes: Sequence[str], name: Callable[[str], str] = str) -> str:
        """The true class and, on a second line, the predicted one with its probability; ``name`` renders their names."""
        return f"true {name(classes[self.label])}\npredicted {name(classes[self.predicted])} ({100 * self.probability:.0f} %)"


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts (K, K) of logits (N, K) and labels (N,): true classes down, predicted ones across.

    >>> confusion_matrix(torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]]), torch.tensor([0, 1, 1])).tolist()
    [[1, 0], [1, 1]]
    """
    num_classes = logits.shape[1]
    pairs = labels * num_classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def highest_loss_errors(logits: Tensor, labels: Tensor, count: int, offset: int = 0) -> list[Misclassified]:
    """The at most ``count`` misclassified images with the highest loss, the highest first.

    Args:
        logits: (N, K).
        labels: (N,).
        count: How many errors to return.
        offset: Index of the first image in its split; 0 unless the logits are those of a later batch.

    >>> errors = highest_loss_errors(torch.tensor([[2.0, 1.0], [9.0, 1.0], [1.0, 2.0]]), torch.tensor([1, 1, 1]), 5)
    >>> [(error.index, round(error.loss, 2)) for error in errors]
    [(1, 8.0), (0, 1.31)]
    """
    logits = logits.float()
    predicted = logits.argmax(1)
    losses = F.cross_entropy(logits, labels, reduction="none") * (predicted != labels)
    order = losses.argsort(descending=True)[: min(count, int((predicted != labels).sum()))]
    probabilities = logits[order].softmax(1).amax(1)
    columns = (order, labels[order], predicted[order], probabilities, losses[order])
    rows = zip(*(column.numpy(force=True) for column in columns), strict=True)
    return [
        Misclassified(int(i) + offset, int(label), int(guess), float(p), float(x)) for i, label, guess, p, x in rows
    ]
