"""The evaluation of a task with several labels per image: a table per label, and the images with the highest loss."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from rich.table import Table
from torch import Tensor

from trainer.jobs.evaluate.details import Details, ImageFile, SplitImages, defined, percent
from trainer.literal import printable
from trainer.report.figures import plot_label
from trainer.report.prediction_figures import labels_figure
from trainer.tasks.metrics import compute
from trainer.tasks.multilabel import LabelsPart
from trainer.tasks.part import Part
from trainer.tasks.predictions import Predictions

COLUMNS = ("precision", "recall", "f1", "average_precision")


class LabelScores(TypedDict):
    """The scores of a label; None where they are not defined."""

    label: str
    images: int
    positives: int
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None


class WrongLabels(ImageFile):
    """An image of which a label is predicted wrongly."""

    index: int
    labels: list[str]
    predicted: list[str]
    loss: float


def label_details(
    part: Part, outputs: Tensor, y: Tensor, mask: Tensor | None, images: SplitImages, worst: int
) -> Details:
    """Return what is shown of a task with labels, from its own outputs, targets and mask (N, K)."""
    assert isinstance(part, LabelsPart)
    predictions = part.predictions(outputs, y, mask)
    rows = scores_per_label(predictions, part.thresholds)
    losses = part.per_image(outputs, y, mask).numpy()
    wrong = (predictions.predicted != predictions.positive).any(1)
    order = np.argsort(np.where(wrong, -losses, np.inf), kind="stable")[: min(worst, int(wrong.sum()))].tolist()
    misclassified: list[WrongLabels] = [
        {
            "index": index,
            "labels": names(part, predictions.positive[index]),
            "predicted": names(part, predictions.predicted[index]),
            "loss": float(losses[index]),
            **images.file(index),
        }
        for index in order
    ]
    details = Details({"labels": rows, "misclassified": misclassified}, label_table(rows))
    precision = np.array([row["precision"] for row in rows], float)  # NaN for None
    recall = np.array([row["recall"] for row in rows], float)
    details.figures["labels"] = lambda: labels_figure(part.classes, precision, recall)
    if order:
        captions = [
            f"true {plot_label(joined(row['labels']))}\npredicted {plot_label(joined(row['predicted']))}"
            for row in misclassified
        ]
        details.figures["misclassified"] = lambda: images.figure(order, captions)
    details.lines = [
        f"{row['file']}: {joined(row['labels'])}, predicted {joined(row['predicted'])}"
        for row in misclassified
        if "file" in row
    ][:5]
    return details


def names(part: Part, chosen: np.ndarray) -> list[str]:
    return [name for name, yes in zip(part.classes, chosen.tolist(), strict=True) if yes]


def joined(labels: list[str]) -> str:
    return ", ".join(labels) or "none"


def scores_per_label(predictions: Predictions, thresholds: list[float]) -> list[LabelScores]:
    """Return number of images with a label, positives, threshold, precision, recall, F1 and average precision of each label."""
    values = compute([f"{name}_per_class" for name in COLUMNS], predictions)
    return [
        {
            "label": name,
            "images": int(predictions.known[:, k].sum()),
            "positives": int(predictions.positive[:, k].sum()),
            "threshold": thresholds[k],
            "precision": defined(values, f"precision_{name}"),
            "recall": defined(values, f"recall_{name}"),
            "f1": defined(values, f"f1_{name}"),
            "average_precision": defined(values, f"average_precision_{name}"),
        }
        for k, name in enumerate(predictions.classes)
    ]


def label_table(rows: list[LabelScores]) -> Table:
    """Return the table per label; AP = average precision."""
    table = Table("label", "images", "positives", "threshold", "precision", "recall", "F1", "AP")
    for row in rows:
        rates = map(percent, (row["precision"], row["recall"], row["f1"], row["average_precision"]))
        table.add_row(
            printable(row["label"]), str(row["images"]), str(row["positives"]), f"{row['threshold']:.3f}", *rates
        )
    return table
