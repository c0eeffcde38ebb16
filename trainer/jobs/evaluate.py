"""``job=evaluate``: evaluate a checkpoint on one split of a data set, or on all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from trainer.analysis.predictions import Misclassified, MisclassifiedContent, confusion_matrix, highest_loss_errors
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.inventory import shortened
from trainer.engine.evaluation import TTA, logits
from trainer.engine.metrics import calibration, top_accuracy
from trainer.errors import ConfigError, Problem
from trainer.formats import Scores
from trainer.inference import TrainedModel, splits_for_checkpoint, trained
from trainer.literal import printable
from trainer.loaders import look
from trainer.report.figures import (
    confusion_figure,
    drawing,
    highest_loss_figure,
    plot_label,
    reliability_figure,
    save_figure,
)
from trainer.run_dir import check_available, create_run_dir, terminal, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.jobs.options import Evaluate

SPLITS = ("test", "validation", "train")


def evaluate(option: Evaluate, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Evaluate``."""
    check_available(run_dir)
    checkpoint = trained(config, option.prefer, option.weights, option.fuse)
    splits = splits_for_checkpoint(config, checkpoint.info)
    names = select_splits(option, splits)
    if splits.shape != checkpoint.info.shape:
        (h, w), (trained_h, trained_w) = splits.shape[1:], checkpoint.info.shape[1:]
        print(f"these images are {h} x {w}; the network was trained on {trained_h} x {trained_w}")
    outputs, labels = collect_outputs(config, checkpoint, splits, names, option.tta)
    precision, classes = checkpoint.precision, checkpoint.info.classes
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    scores, bins = compute_scores(outputs, labels, option.top)
    confusion = confusion_matrix(outputs, labels).numpy()
    errors = highest_loss_errors(outputs, labels, option.worst)
    rows, misclassified = scores_per_class(classes, confusion), errors_with_files(errors, splits, names, classes)
    split = "all" if option.split == "all" or splits.undivided else names[0]
    result = {
        "status": "finished",
        "stop_reason": "evaluated",
        "checkpoint": str(checkpoint.path),
        "weights": checkpoint.weights,
        "tta": option.tta,
        "split": split,
        "data": {"images": len(labels), "notes": [*splits.notes, *absent_classes(classes, confusion)]},
        split: scores,
        "classes": rows,
        "confusion": confusion.tolist(),
        "reliability": bins,
        "misclassified": misclassified,
    }
    write_json(run_dir / "result.json", result)
    with drawing("confusion"):
        save_figure(confusion_figure(confusion, list(classes)), run_dir / "confusion.png")
    with drawing("reliability"):
        save_figure(reliability_figure(bins, scores["ece"]), run_dir / "reliability.png")
    if errors:
        with drawing("misclassified"):
            save_figure(errors_figure(errors, splits, names, classes), run_dir / "misclassified.png")
    print("\n".join(map(printable, result["data"]["notes"])))
    images = f"all {len(labels):,} images" if split == "all" else f"{len(labels):,} {split} images"
    show(f"{checkpoint.path} ({checkpoint.weights}) on {images}", scores, rows, misclassified, run_dir)
    return 0


def absent_classes(classes: Sequence[str], confusion: np.ndarray) -> list[str]:
    """Return a note about the classes of which there was no image to evaluate."""
    absent = [name for name, count in zip(classes, confusion.sum(1), strict=True) if not count]
    return [f"no images of {len(absent)} of the {len(classes)} classes: {shortened(absent, 10)}"] if absent else []


def select_splits(option: Evaluate, splits: Splits) -> list[str]:
    """Return the names of the splits to evaluate on."""
    available = [name for name in SPLITS if getattr(splits, name)]
    if option.split == "all":
        return available
    split = available[0] if option.split == "auto" else option.split
    if split not in available:
        allowed = "job.split=all" if splits.undivided else f"allowed here: auto, all, {', '.join(available)}"
        raise ConfigError(Problem("job.split", split, "the data has no such split", allowed))
    return [split]


@torch.inference_mode()
def collect_outputs(
    config: Config, checkpoint: TrainedModel, splits: Splits, names: list[str], tta: TTA = "none"
) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and labels (N,) of all images of the named splits, in their order."""
    outputs, labels = [], []
    model, precision = checkpoint.model, checkpoint.precision
    for name in names:
        for x, y in look(config, checkpoint.info, splits, name, model, precision, checkpoint.task).batches(0):
            outputs.append(logits(model, x, precision, tta).float().cpu())
            labels.append(y.argmax(1).cpu())
    return torch.cat(outputs), torch.cat(labels)


def compute_scores(outputs: Tensor, labels: Tensor, top: int) -> tuple[Scores, list[dict[str, float]]]:
    """Return the scores of logits (N, K) and labels (N,), and the bins of the calibration error.

    The scores are the mean loss (nats), the accuracy, the top-k accuracy if there are more than k = ``top`` classes, and
    the expected calibration error.
    """
    error, bins = calibration(outputs, labels)
    scores = {"loss": F.cross_entropy(outputs.double(), labels).item(), "accuracy": top_accuracy(outputs, labels, 1)}
    if 1 < top < outputs.shape[1]:
        scores[f"top{top}"] = top_accuracy(outputs, labels, top)
    return scores | {"ece": error}, bins


ClassScores = TypedDict(
    "ClassScores",
    {"class": str, "images": int, "recall": float | None, "precision": float | None, "confused_with": str | None},
)


def scores_per_class(classes: tuple[str, ...], confusion: np.ndarray) -> list[ClassScores]:
    """Return number of images, recall, precision and most frequent wrong prediction of each class."""
    rows = []
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


def locate(index: int, splits: Splits, names: list[str]) -> tuple[ImageArray | ImageFiles, int]:
    """Return the images that contain the image with an index over all named splits, and its index in them."""
    for name in names:
        images = getattr(splits, name)
        if index < len(images):
            return images, index
        index -= len(images)
    raise IndexError(index)


def errors_with_files(
    errors: list[Misclassified], splits: Splits, names: list[str], classes: tuple[str, ...]
) -> list[MisclassifiedContent]:
    """Return the errors with the names of their classes and, if the images are files, their paths."""
    rows: list[MisclassifiedContent] = []
    for error in errors:
        images, index = locate(error.index, splits, names)
        row = error.as_dict(classes)
        if isinstance(images, ImageFiles):
            row["file"] = str(images.paths[index])
        rows.append(row)
    return rows


def errors_figure(errors: list[Misclassified], splits: Splits, names: list[str], classes: tuple[str, ...]) -> Figure:
    """Return the plot of the misclassified images."""
    images, titles = [], []
    for error in errors:
        source, index = locate(error.index, splits, names)
        images.append(source.center_crop(index, splits.shape[1]) / 255)
        titles.append(error.caption(classes, plot_label))
    return highest_loss_figure(np.stack(images), titles)


def show(
    name: str, scores: Scores, rows: list[ClassScores], misclassified: list[MisclassifiedContent], run_dir: Path
) -> None:
    """Print the scores of what is called ``name``, the table per class, and the files with the highest loss."""
    console = terminal(soft_wrap=True)
    texts = [f"accuracy {100 * scores['accuracy']:.2f} %", f"loss {scores['loss']:.4f}"]
    texts += [f"{name} {100 * value:.2f} %" for name, value in scores.items() if name.startswith("top")]
    texts.append(f"calibration error {100 * scores['ece']:.2f} %")
    console.print(f"{name}: {', '.join(texts)}", markup=False)
    table = Table("class", "images", "recall", "precision", "most often confused with")
    for row in rows:
        rates = ["" if rate is None else f"{100 * rate:.1f} %" for rate in (row["recall"], row["precision"])]
        table.add_row(printable(row["class"]), str(row["images"]), *rates, printable(row["confused_with"] or ""))
    console.print(table)
    for error in [e for e in misclassified if "file" in e][:5]:
        text = f"{error.get('file')}: {error['class']}, predicted {error['predicted']}"
        console.print(f"{printable(text)} ({100 * error['probability']:.0f} %)", markup=False)
    console.print(f"written to {run_dir}", markup=False)
