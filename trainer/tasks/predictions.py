"""The outputs of a task for a set of images and their targets, and what its metrics have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.data.targets import Kind
from trainer.formats import Link

BLOCK = 4096  # images whose log odds are computed at once, to need little memory
ROUNDING = 12  # decimals of log odds; those that differ by less differ in the order of a sum only


@dataclass
class Predictions:
    """The outputs of one task for a set of images, and their targets.

    Attributes:
        kind: The kind of task.
        classes: Names of the K classes, labels or numbers.
        scores: Logits, or numbers in original units: float64 (N, K).
        truth: Classes, int64 (N,), without missing ones; labels, (N, K) of zeros and ones; numbers in original units, (N, K).
        mask: Which labels or numbers are there, bool (N, K); None = all. The others may have any value, NaN included.
        thresholds: Probability from which each label is predicted, (K,); None = 0.5.
        link: How logits of classes become probabilities: ``softmax``, or ``sigmoid`` of each class, which are divided by their
            sum where probabilities of all classes are needed (NLL, Brier score, ECE).
    """

    kind: Kind
    classes: tuple[str, ...]
    scores: np.ndarray
    truth: np.ndarray
    mask: np.ndarray | None = None
    thresholds: np.ndarray | None = None
    link: Link = "softmax"

    def __post_init__(self) -> None:
        shape = (len(self.truth), len(self.classes))
        truth_shape = shape[:1] if self.kind == "classification" else shape
        if self.scores.shape != shape or self.truth.shape != truth_shape:
            raise ValueError(
                f"scores {self.scores.shape} and truth {self.truth.shape} should be {shape}, {truth_shape}"
            )
        if self.mask is not None and (self.kind == "classification" or self.mask.shape != shape):
            raise ValueError(f"mask {self.mask.shape} should be {shape}, and None for classification")

    @cached_property
    def valid(self) -> bool:
        """Whether all logits give probabilities: none is NaN, and of the classes of an image one is finite, none +Inf."""
        if self.kind == "classification":
            return bool(np.isfinite(self.scores.max(1)).all())
        return self.kind == "regression" or not np.isnan(self.scores[self.known]).any()

    @cached_property
    def known(self) -> np.ndarray:
        """Which labels or numbers are there: bool (N, K)."""
        return np.ones(self.scores.shape, bool) if self.mask is None else self.mask.astype(bool)

    @cached_property
    def positive(self) -> np.ndarray:
        """The classes or labels that images have: bool (N, K)."""
        if self.kind == "classification":
            return self.truth[:, None] == np.arange(len(self.classes))
        return (self.truth > 0.5) & self.known

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """Logarithm of the probabilities of the classes, which sum to 1: (N, K)."""
        z = self.scores if self.link == "softmax" else -np.logaddexp(0, -self.scores)
        return z - _log_sum_exp(z)[:, None]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities (N, K): of the classes, which sum to 1, or of each label."""
        if self.kind == "classification":
            return np.exp(self.log_probabilities)
        return np.exp(-np.logaddexp(0, -self.scores))

    @cached_property
    def ranking(self) -> np.ndarray:
        """Values in the order of the probabilities of each class or label, that large logits do not make equal: (N, K)."""
        if self.kind != "classification" or self.link == "sigmoid":
            return self.scores
        blocks = np.array_split(self.scores, len(self.scores) // BLOCK + 1)
        return np.concatenate([_log_odds(block) for block in blocks])

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted class (N,), the first one of several with the largest logit; or the predicted labels, bool (N, K)."""
        if self.kind == "classification":
            return self.scores.argmax(1)
        return (self.probabilities >= (0.5 if self.thresholds is None else self.thresholds)) & self.known

    @cached_property
    def confusion(self) -> np.ndarray:
        """Number of images of each class (rows) that are predicted as each class (columns): int64 (K, K)."""
        k = len(self.classes)
        return np.bincount(self.truth * k + self.predicted, minlength=k * k).reshape(k, k)

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each class or label, the number of true positives, of positives, and of predicted positives: int64 (K,)."""
        if self.kind == "classification":
            return self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        return (self.positive & self.predicted).sum(0), self.positive.sum(0), self.predicted.sum(0)


def _log_sum_exp(z: np.ndarray) -> np.ndarray:
    peak = np.nan_to_num(z.max(1), posinf=0, neginf=0)
    return peak + np.log(np.exp(z - peak[:, None]).sum(1))


def _log_odds(z: np.ndarray) -> np.ndarray:
    """log p/(1 − p) of p = softmax(z), (N, K), which is finite also where p is rounded to 0 or 1.

    >>> _log_odds(np.array([[1e4, 0.0], [2e4, 0.0]])).tolist()
    [[10000.0, -10000.0], [20000.0, -20000.0]]
    """
    rows, top = np.arange(len(z)), z.argmax(1)
    z = z - z[rows, top][:, None]
    others = z.copy()
    others[rows, top] = -np.inf
    terms = np.exp(others)
    odds = z - np.log1p(np.maximum(terms.sum(1, keepdims=True) - terms, 0))
    odds[rows, top] = -_log_sum_exp(others)
    return odds.round(ROUNDING)
