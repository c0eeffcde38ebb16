"""Metrics of predictions, in float64. A value that is not defined is NaN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from trainer.tasks.predictions import Predictions


def ratio(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return a/b, and NaN where b is 0.

    >>> ratio(np.array([1, 1]), np.array([2, 0])).tolist()
    [0.5, nan]
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


# Metrics of predicted classes and labels


def recall(p: Predictions) -> np.ndarray:
    correct, positives, _ = p.counts
    return ratio(correct, positives)


def precision(p: Predictions) -> np.ndarray:
    correct, _, predicted = p.counts
    return ratio(correct, predicted)


def macro_precision(p: Predictions) -> float:
    """The mean over classes with images; a class that is never predicted counts as 0, or ignoring it would pay."""
    correct, positives, predicted = p.counts
    return mean((correct / np.maximum(predicted, 1))[positives > 0])


def f1(p: Predictions) -> np.ndarray:
    """2·precision·recall/(precision + recall) of each class with images."""
    correct, positives, predicted = p.counts
    return np.where(positives > 0, ratio(2 * correct, positives + predicted), np.nan)


def f1_micro(p: Predictions) -> float:
    correct, positives, predicted = (n.sum() for n in p.counts)
    return float(ratio(2 * correct, positives + predicted))


def f1_weighted(p: Predictions) -> float:
    positives = p.counts[1]
    return float(ratio(np.nansum(f1(p) * positives), positives.sum()))


def accuracy(p: Predictions) -> float:
    return float(ratio(p.counts[0].sum(), len(p.truth)))


def top_k(p: Predictions, k: int) -> float:
    """Fraction of images whose class is among the k largest logits; several equal logits are in random order."""
    own = p.scores[np.arange(len(p.truth)), p.truth][:, None]
    larger, equal = (p.scores > own).sum(1), (p.scores == own).sum(1)
    return mean(np.clip(ratio(k - larger, equal), 0, 1))


def kappa(p: Predictions, power: int = 0) -> float:
    """1 − Σ wₖⱼ·observedₖⱼ/Σ wₖⱼ·expectedₖⱼ, with w = |k − j|^power of different classes (Cohen 1968)."""
    k = np.arange(len(p.classes))
    weights = np.abs(k[:, None] - k).astype(np.float64) ** power * (k[:, None] != k)
    expected = np.outer(p.counts[1], p.counts[2]) / max(len(p.truth), 1)
    return float(1 - ratio((weights * p.confusion).sum(), (weights * expected).sum()))


def mcc(p: Predictions) -> float:
    """Correlation of true and predicted classes (Gorodkin 2004)."""
    n = float(len(p.truth))
    correct, positives, predicted = (v.astype(np.float64) for v in p.counts)
    spreads = (n**2 - (positives**2).sum()) * (n**2 - (predicted**2).sum())
    return float(ratio(n * correct.sum() - (positives * predicted).sum(), np.sqrt(spreads)))


def label_accuracy(p: Predictions) -> float:
    return float(ratio(((p.predicted == p.positive) & p.known).sum(), p.known.sum()))


def exact_match(p: Predictions) -> float:
    labelled = p.known.any(1)
    return float(ratio((p.predicted == p.positive).all(1)[labelled].sum(), labelled.sum()))


# Metrics of the order of the scores


def _below(score: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of the scores (N,) are less than each value of ``at`` (P,), and how many are equal to it."""
    score = np.sort(score)
    less = np.searchsorted(score, at, "left")
    return less, np.searchsorted(score, at, "right") - less


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive has a larger score than a negative, ties counted half; (N,) and bool (N,).

    >>> area_under_roc(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]))
    0.75
    """
    if positive.all() or not positive.any() or np.isnan(score).any():
        return np.nan
    less, equal = _below(score[~positive], score[positive])
    return float((less + equal / 2).mean() / (~positive).sum())


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the mean over positives of the precision among images of at least their score; (N,) and bool (N,).

    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    if not positive.any() or np.isnan(score).any():
        return np.nan
    own = np.sort(score[positive])
    return float(((len(own) - _below(own, own)[0]) / (len(score) - _below(score, own)[0])).mean())


def per_class(function: Callable[[np.ndarray, np.ndarray], float], p: Predictions) -> np.ndarray:
    """Return a function of the scores and of the positives of each class or label, (K,)."""
    arrays = (
        np.ascontiguousarray(values.T) for values in (p.ranking, p.positive, p.known)
    )  # columns one by one are slow
    columns = zip(*arrays, strict=True)
    return np.array([function(score[known], positive[known]) for score, positive, known in columns])


# Metrics of probabilities


def nll(p: Predictions) -> float:
    """−log p of the class, in nats; of labels, the mean over labels of the binary cross-entropy."""
    if p.kind == "classification":
        return float(ratio(-p.log_probabilities[np.arange(len(p.truth)), p.truth].sum(), len(p.truth)))
    signs = np.where(p.positive, -1.0, 1.0)
    return float(ratio(np.logaddexp(0, signs * p.scores)[p.known].sum(), p.known.sum()))


def brier(p: Predictions) -> float:
    """The sum over classes of (p − y)², from 0 to 2 (Brier 1950); of labels, the mean over labels, from 0 to 1."""
    squares = (p.probabilities - p.positive) ** 2
    return float(ratio(squares[p.known].sum(), len(p.truth) if p.kind == "classification" else p.known.sum()))


def ece(p: Predictions, bins: int = 15) -> float:
    """Σ n/N·|accuracy − confidence| over equal intervals of the largest probability (Guo et al. 2017, arXiv:1706.04599)."""
    confidence = p.probabilities[np.arange(len(p.truth)), p.predicted]
    if np.isnan(confidence).any():
        return np.nan
    interval = np.ceil(confidence * bins).clip(1, bins).astype(np.int64)
    gaps = np.bincount(interval, (p.predicted == p.truth) - confidence)
    return float(ratio(np.abs(gaps).sum(), len(p.truth)))


# Metrics of numbers


def errors(p: Predictions) -> np.ndarray:
    """Prediction minus truth (N, K); NaN where the true number is missing."""
    return np.where(p.known, p.scores - p.truth, np.nan)


def _means(values: np.ndarray, p: Predictions) -> np.ndarray:
    return ratio(np.where(p.known, values, 0).sum(0), p.known.sum(0))


def mae(p: Predictions) -> np.ndarray:
    return _means(np.abs(errors(p)), p)


def rmse(p: Predictions) -> np.ndarray:
    return np.sqrt(_means(errors(p) ** 2, p))


def r2(p: Predictions) -> np.ndarray:
    """1 − Σ(prediction − truth)²/Σ(truth − mean)²."""
    variance = _means((p.truth - _means(p.truth, p)) ** 2, p)
    constant = np.array([len(np.unique(y[known])) < 2 for y, known in zip(p.truth.T, p.known.T, strict=True)], bool)
    return 1 - ratio(_means(errors(p) ** 2, p), np.where(constant, 0, variance))


def pooled(power: int, p: Predictions) -> float:
    """Return (mean |error|^power)^(1/power) over all numbers of all targets."""
    return float(ratio((np.abs(errors(p)[p.known]) ** power).sum(), p.known.sum()) ** (1 / power))
