"""The evaluation of a task with numbers: errors per number, predicted against true, and the images with the largest errors."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from rich.table import Table
from torch import Tensor

from trainer.columns import shown
from trainer.jobs.evaluate.details import Details, ImageFile, SplitImages, defined
from trainer.literal import printable
from trainer.report.figures import plot_label
from trainer.report.prediction_figures import predicted_figure
from trainer.tasks.metrics import compute
from trainer.tasks.part import Part
from trainer.tasks.predictions import Predictions

COLUMNS = ("mae", "rmse", "r2")


class NumberScores(TypedDict):
    """The errors of a number; None where they are not defined."""

    target: str
    images: int
    mae: float | None
    rmse: float | None
    r2: float | None


class NumberError(ImageFile):
    """The worst number of an image."""

    index: int
    target: str
    true: float
    predicted: float


def number_details(
    part: Part, outputs: Tensor, y: Tensor, mask: Tensor | None, images: SplitImages, worst: int
) -> Details:
    """Return what is shown of a task with numbers, from its own outputs, targets and mask (N, T)."""
    found = part.predictions(outputs, y, mask)
    rows = scores_per_number(found)
    errors: list[NumberError] = [
        {**row, **images.file(row["index"])} for row in largest_errors(found, np.array(part.spec.std), worst)
    ]
    details = Details({"targets": rows, "largest_errors": errors}, number_table(rows))
    details.figures["predicted"] = lambda: predicted_figure(found.classes, found.truth, found.scores, found.known)
    if errors:
        captions = [caption(row, plot_label(row["target"]) if part.size > 1 else "") for row in errors]
        details.figures["largest_errors"] = lambda: images.figure([row["index"] for row in errors], captions)
    details.lines = [
        f"{row['file']}: {caption(row, row['target'])}".replace("\n", ", ") for row in errors if "file" in row
    ][:5]
    return details


def largest_errors(predictions: Predictions, std: np.ndarray, count: int) -> list[NumberError]:
    """Return the ``count`` images with the largest errors, in standard deviations (T,), each with its worst number."""
    errors = np.where(predictions.known, np.abs(predictions.scores - predictions.truth), 0.0)
    sizes = np.nan_to_num(errors / std, nan=np.inf)
    largest, worst = sizes.max(1), sizes.argmax(1)
    order = np.argsort(-largest, kind="stable")[: min(count, int((largest > 0).sum()))].tolist()
    return [
        {
            "index": i,
            "target": predictions.classes[worst[i]],
            "true": float(predictions.truth[i, worst[i]]),
            "predicted": float(predictions.scores[i, worst[i]]),
        }
        for i in order
    ]


def caption(row: NumberError, name: str) -> str:
    """Return the true and the predicted number of an image in two lines."""
    prefix = f"{name}: " if name else ""
    return f"{prefix}true {row['true']:.3g}\npredicted {row['predicted']:.3g}"


def scores_per_number(predictions: Predictions) -> list[NumberScores]:
    """Return number of images, mean absolute and root mean squared error, and R² of each number."""
    values = compute([f"{name}_per_target" for name in COLUMNS], predictions)
    return [
        {
            "target": name,
            "images": int(predictions.known[:, k].sum()),
            "mae": defined(values, f"mae_{name}"),
            "rmse": defined(values, f"rmse_{name}"),
            "r2": defined(values, f"r2_{name}"),
        }
        for k, name in enumerate(predictions.classes)
    ]


def number_table(rows: list[NumberScores]) -> Table:
    """Return the table per number."""
    table = Table("number", "images", "MAE", "RMSE", "R²")
    for row in rows:
        values = (("mae", row["mae"]), ("rmse", row["rmse"]), ("r2", row["r2"]))
        table.add_row(
            printable(row["target"]), str(row["images"]), *("" if v is None else shown(name, v) for name, v in values)
        )
    return table
