"""The evaluation of a task with classes: a table per class, the confusion matrix, calibration, and the highest-loss errors."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from rich.table import Table
from torch import Tensor

from trainer.analysis.predictions import MisclassifiedContent, confusion_matrix, highest_loss_errors
from trainer.data.inventory import shortened
from trainer.engine.metrics import calibration
from trainer.jobs.evaluate.details import Details, SplitImages, percent
from trainer.literal import printable
from trainer.report.figures import plot_label
from trainer.report.prediction_figures import confusion_figure, reliability_figure
from trainer.tasks.classification import of_labelled_images
from trainer.tasks.part import Part

# The scores of a class; None where there was no image of it, or it was never predicted.
ClassScores = TypedDict(
    "ClassScores",
    {"class": str, "images": int, "recall": float | None, "precision": float | None, "confused_with": str | None},
)


def class_details(
    part: Part, outputs: Tensor, y: Tensor, mask: Tensor | None, images: SplitImages, worst: int
) -> Details:
    """Return what is shown of a task with classes, from its own outputs and targets (N, K) and mask (N, 1)."""
    logits, labels, known = of_labelled_images(part, outputs, y, mask)
    confusion = confusion_matrix(logits, labels).numpy()
    ece, bins = calibration(logits, labels)
    errors = highest_loss_errors(logits, labels, worst)
    indices = known[[error.index for error in errors]].tolist() if errors else []
    rows = scores_per_class(part.classes, confusion)
    misclassified: list[MisclassifiedContent] = [
        {**error.as_dict(part.classes), "index": index, **images.file(index)}
        for error, index in zip(errors, indices, strict=True)
    ]
    content = {"classes": rows, "confusion": confusion.tolist(), "reliability": bins, "misclassified": misclassified}
    figures = {
        "confusion": lambda: confusion_figure(confusion, list(part.classes)),
        "reliability": lambda: reliability_figure(bins, ece),
    }
    if errors:
        captions = [error.caption(part.classes, plot_label) for error in errors]
        figures["misclassified"] = lambda: images.figure(indices, captions)
    lines = [
        f"{row['file']}: {row['class']}, predicted {row['predicted']} ({percent(row['probability'], 0)})"
        for row in misclassified
        if "file" in row
    ]
    return Details(content, class_table(rows), figures, lines[:5], absent_classes(part, confusion))


def absent_classes(part: Part, confusion: np.ndarray) -> list[str]:
    """Return a note about the classes of which there was no image to evaluate."""
    absent = [name for name, count in zip(part.classes, confusion.sum(1), strict=True) if not count]
    of = f"{part.name}: " if part.name else ""
    return [f"{of}no images of {len(absent)} of the {part.size} classes: {shortened(absent, 10)}"] if absent else []


def scores_per_class(classes: tuple[str, ...], confusion: np.ndarray) -> list[ClassScores]:
    """Return number of images, recall, precision and most frequent wrong prediction of each class."""
    rows: list[ClassScores] = []
    for i, name in enumerate(classes):
        errors = confusion[i].copy()
        errors[i] = 0
        correct, total, predicted = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
        rows.append(
            {
                "class": name,
                "images": total,
                "recall": correct / total if total else None,
                "precision": correct / predicted if predicted else None,
                "confused_with": classes[int(errors.argmax())] if errors.any() else None,
            }
        )
    return rows


def class_table(rows: list[ClassScores]) -> Table:
    """Return the table per class."""
    table = Table("class", "images", "recall", "precision", "most often confused with")
    for row in rows:
        rates = (percent(row["recall"]), percent(row["precision"]))
        table.add_row(printable(row["class"]), str(row["images"]), *rates, printable(row["confused_with"] or ""))
    return table
