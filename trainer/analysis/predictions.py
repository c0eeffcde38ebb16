"""Confusion matrix, classes that are confused with each other, and highest-loss errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.measurements import ConfusedPair, Confusions

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


def confused_classes(
    labels: Sequence[int], predicted: Sequence[int], confidence: Sequence[float], count: int = 10
) -> Confusions:
    """Return the ``count`` pairs of classes that are confused with each other most, relative to the images of the two.

    Args:
        labels: (N,).
        predicted: (N,).
        confidence: (N,), the probability of the predicted class.
        count: How many pairs to return.

    >>> confused_classes([0, 0, 1, 1, 2], [0, 1, 1, 0, 2], [0.9, 0.6, 0.8, 0.7, 1.0])["pairs"]
    [{'classes': [0, 1], 'images': 4, 'errors': 2, 'confident_errors': 0}]
    """
    by_outcome: dict[tuple[int, int], list[float]] = defaultdict(list)  # (label, prediction) -> confidence
    for label, guess, probability in zip(labels, predicted, confidence, strict=True):
        by_outcome[label, guess].append(probability)
    found = {(min(pair), max(pair)) for pair in by_outcome if pair[0] != pair[1]}
    pairs = [_confused_pair(a, b, by_outcome) for a, b in sorted(found)]
    return Confusions(
        images=len(labels),
        correct=sum(len(values) for (label, guess), values in by_outcome.items() if label == guess),
        pairs=sorted(pairs, key=lambda pair: -pair["errors"] / pair["images"])[:count],
    )


def _confused_pair(a: int, b: int, by_outcome: Mapping[tuple[int, int], Sequence[float]]) -> ConfusedPair:
    outcomes = [(x, y, p) for x in (a, b) for y in (a, b) for p in by_outcome.get((x, y), ())]
    ordered = [x != y for x, y, _ in sorted(outcomes, key=lambda outcome: -outcome[2])]
    half = ordered[: len(ordered) // 2]
    return ConfusedPair(classes=[a, b], images=len(ordered), errors=sum(ordered), confident_errors=sum(half))
