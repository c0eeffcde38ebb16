"""The metrics of each kind of task by name: what they mean, their columns, and their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from trainer.errors import nearest
from trainer.history import Mode, better_is
from trainer.tasks import metric_functions as functions
from trainer.tasks.predictions import Kind, Predictions

PER_CLASS = ("_per_class", "_per_target")
TOP_K = "top<k>"


class Metric(NamedTuple):
    """One metric: the function of predictions, which returns a number or, per class, an array (K,); and its meaning."""

    name: str
    function: Callable[[Predictions], float | np.ndarray]
    meaning: str

    @property
    def better(self) -> Mode:
        """Whether its best value is the minimum or the maximum."""
        return better_is(self.name)


def _macro(function: Callable[[Predictions], np.ndarray]) -> Callable[[Predictions], float]:
    return lambda p: functions.mean(function(p))


def _ranked(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Predictions], np.ndarray]:
    return partial(functions.per_class, function)


def _worst_recall(predictions: Predictions) -> float:
    values = functions.recall(predictions)
    values = values[~np.isnan(values)]
    return float(values.min()) if len(values) else np.nan


_AUROC, _AP = _ranked(functions.area_under_roc), _ranked(functions.average_precision)

# Of each class or label; the means are over those with images.
_SHARED = (
    Metric("recall", _macro(functions.recall), "mean over classes of the recall"),
    Metric("recall_per_class", functions.recall, "fraction of the images of a class that are predicted as it"),
    Metric("precision", functions.macro_precision, "mean over classes of the precision, 0 if never predicted"),
    Metric("precision_per_class", functions.precision, "fraction of the images predicted as a class that have it"),
    Metric("f1", _macro(functions.f1), "mean over classes of F1 (macro)"),
    Metric("f1_micro", functions.f1_micro, "F1 of the sums over classes"),
    Metric("f1_weighted", functions.f1_weighted, "mean of F1 over classes, weighted by their number of images"),
    Metric("f1_per_class", functions.f1, "harmonic mean of precision and recall"),
    Metric("auroc", _macro(_AUROC), "mean over classes of the area under the ROC curve, each against the others"),
    Metric("average_precision_per_class", _AP, "mean precision at the positives, without interpolation"),
    Metric("nll", functions.nll, "negative log-likelihood, in nats"),
    Metric("brier", functions.brier, "squared error of the probabilities"),
)
_CLASSIFICATION = (
    Metric("accuracy", functions.accuracy, "fraction of the images that are classified correctly"),
    Metric("balanced_accuracy", _macro(functions.recall), "mean over classes of the recall, as recall"),
    Metric("worst_recall", _worst_recall, "smallest recall of a class"),
    Metric("average_precision", _macro(_AP), "mean over classes of the average precision"),
    Metric("kappa", functions.kappa, "Cohen's kappa: agreement beyond chance"),
    Metric("kappa_quadratic", partial(functions.kappa, power=2), "Cohen's kappa of ordered classes, squared distances"),
    Metric("mcc", functions.mcc, "Matthews correlation coefficient"),
    Metric("ece", functions.ece, "expected calibration error, 15 equal intervals"),
)
_MULTILABEL = (
    Metric("label_accuracy", functions.label_accuracy, "fraction of the labels that are predicted correctly"),
    Metric("exact_match", functions.exact_match, "fraction of the images with all labels predicted correctly"),
    Metric("map", _macro(_AP), "mean over labels of the average precision"),
)
_REGRESSION = (
    Metric("mae", partial(functions.pooled, 1), "mean absolute error, over all targets"),
    Metric("mae_per_target", functions.mae, "mean absolute error"),
    Metric("rmse", partial(functions.pooled, 2), "root of the mean squared error, over all targets"),
    Metric("rmse_per_target", functions.rmse, "root of the mean squared error"),
    Metric("r2", _macro(functions.r2), "mean over targets of the coefficient of determination"),
    Metric("r2_per_target", functions.r2, "coefficient of determination; 0 = as good as the mean"),
)
_TOP_K = Metric(
    TOP_K, partial(functions.top_k, k=2), "fraction of the images whose class is among the k largest logits"
)

METRICS: dict[Kind, dict[str, Metric]] = {
    "classification": {m.name: m for m in (*_CLASSIFICATION, *_SHARED, _TOP_K)},
    "multilabel": {m.name: m for m in (*_MULTILABEL, *_SHARED)},
    "regression": {m.name: m for m in _REGRESSION},
}


def _top(kind: Kind, name: str) -> int | None:
    """The k of ``top<k>``; None for another metric.

    >>> _top("classification", "top5"), _top("classification", "accuracy"), _top("regression", "top5")
    (5, None, None)
    """
    match = re.fullmatch(r"top(\d+)", name) if kind == "classification" else None
    return int(match[1]) if match else None


def columns(kind: Kind, names: Iterable[str], classes: Sequence[str]) -> list[str]:
    """Return the columns of metrics: one each, or one per class.

    >>> columns("classification", ["accuracy", "recall_per_class"], ["cat", "dog"])
    ['accuracy', 'recall_cat', 'recall_dog']
    """
    return [column for name in dict.fromkeys(names) for column in _columns(name, classes)]


def _columns(name: str, classes: Sequence[str]) -> list[str]:
    for suffix in PER_CLASS:
        if name.endswith(suffix):
            return [f"{name.removesuffix(suffix)}_{c}" for c in classes]
    return [name]


def compute(names: Iterable[str], predictions: Predictions) -> dict[str, float]:
    """Return the value of each column of the metrics; NaN where it is not defined.

    Metrics of classes and labels are not defined if an image has logits without probabilities, such as NaN.

    >>> logits = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    >>> compute(["accuracy", "recall_per_class"], Predictions("classification", ("cat", "dog"), logits, np.array([0, 1, 1])))
    {'accuracy': 0.6666666666666666, 'recall_cat': 1.0, 'recall_dog': 0.5}
    """
    kind, classes = predictions.kind, predictions.classes
    result: dict[str, float] = {}
    with np.errstate(all="ignore"):  # infinite outputs, whose metrics are NaN or infinite
        for name in dict.fromkeys(names):
            k = _top(kind, name)
            function = METRICS[kind][name].function if k is None else partial(functions.top_k, k=k)
            named = _columns(name, classes)
            values = np.atleast_1d(function(predictions)) if predictions.valid else [np.nan] * len(named)
            result |= dict(zip(named, map(float, values), strict=True))
    return result


def check(kind: Kind, names: Iterable[str], classes: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """Return the metrics that cannot be computed, each with what is allowed and a hint.

    Args:
        kind: The kind of task.
        names: Names of metrics.
        classes: Names of the classes, labels or numbers; None = not known yet.

    >>> check("classification", ["recal", "top1"])[0][2]
    "did you mean 'recall'?"
    """
    names = list(dict.fromkeys(names))
    problems: list[tuple[str, str, str]] = []
    for name in names:
        k = _top(kind, name)
        if k is not None:
            if problem := _check_top(k, len(classes) if classes is not None else None):
                problems.append((name, *problem))
        elif name == TOP_K:
            problems.append((name, "must name a number k", "such as top5"))
        elif name not in METRICS[kind]:
            problems.append((name, *_unknown(kind, name)))
    return problems or ([] if classes is None else _collisions(kind, names, classes))


def _check_top(k: int, num_classes: int | None) -> tuple[str, str] | None:
    if k == 1:
        return "k must be at least 2", "top1 is called accuracy"
    if num_classes is None:
        return None if k > 1 else ("k must be at least 2", "")
    if num_classes < 3:
        return f"needs at least 3 classes; there are {num_classes}", ""
    return (
        None if 1 < k < num_classes else (f"k must be from 2 to {num_classes - 1}; there are {num_classes} classes", "")
    )


def _unknown(kind: Kind, name: str) -> tuple[str, str]:
    others = [other for other, metrics in METRICS.items() if name in metrics or _top(other, name)]
    text = f"is a metric of {' and '.join(others)}" if others else "is not a metric"
    allowed = ", ".join(METRICS[kind])
    return f"{text}; of {kind} these are allowed: {allowed}", nearest(name.removesuffix("_macro"), METRICS[kind])


def _collisions(kind: Kind, names: Sequence[str], classes: Sequence[str]) -> list[tuple[str, str, str]]:
    """Per-class metrics that have the column of another metric, such as F1 of a class ``micro``."""
    counts = Counter(columns(kind, names, classes))
    twice = {name: [c for c in _columns(name, classes) if counts[c] > 1] for name in names if name.endswith(PER_CLASS)}
    hint = "rename the class or leave out one of the metrics"
    return [(name, f"has the column {c[0]!r} of another metric or class", hint) for name, c in twice.items() if c]
