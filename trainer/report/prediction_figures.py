"""Plots of predictions: confusion matrix, errors, calibration, labels, numbers, embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.report.figures import DISTINCT, image_grid, percent_ticks, plot_label
from trainer.report.layout import axes_at, canvas, place_labels, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS = 40  # of a plot that can still be read
MAX_POINTS = 5000


def confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Confusion matrix (K, K), true classes down, predicted ones across; each row normalized, with counts if there is room."""
    k = len(classes)
    fractions = confusion / confusion.sum(1, keepdims=True).clip(1)
    side = max(2.4, min(0.42 * k + 0.7, 13))  # of the matrix
    ticks = range(k) if k <= 40 else range(0, k, math.ceil(k / 40))
    names = [plot_label(classes[i]) for i in ticks]
    margin = text_width(names, 7) + 0.45
    figure = canvas(margin + side + 1.0, margin + side + 0.15, layout=None)
    axes = axes_at(figure, margin, margin, side, side)
    mappable = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    scale = axes_at(figure, margin + side + 0.15, margin + 0.15 * side, 0.15, 0.7 * side)
    figure.colorbar(mappable, cax=scale, label="fraction of the true class")
    if k <= 25:
        for i, j in zip(*np.nonzero(confusion), strict=True):
            color = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, str(int(confusion[i, j])), ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(list(ticks), names, rotation=90, fontsize=7)
    axes.set_yticks(list(ticks), names, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def highest_loss_figure(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Misclassified images (N, H, W, C) in [0, 1], each below its title."""
    return image_grid(images, titles, min(len(images), 8))


def reliability_figure(bins: Sequence[dict[str, float]], error: float) -> Figure:
    """Reliability diagram: accuracy by confidence (Guo et al. 2017, arXiv:1706.04599), on the diagonal if calibrated.

    Args:
        bins: Of each interval of the confidence from ``low`` to ``high``, the mean ``confidence``, the ``accuracy`` and the
            number of ``images``.
        error: The expected calibration error.
    """
    figure = canvas(5.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    left, confidence, counts = ([row[key] for row in bins] for key in ("low", "confidence", "images"))
    widths = [row["high"] - row["low"] for row in bins]
    style = {"align": "edge", "edgecolor": "white", "linewidth": 1}
    upper.plot((0, 1), (0, 1), ":", color="tab:gray", label="calibrated")
    upper.bar(left, [row["accuracy"] for row in bins], widths, color="tab:blue", label="accuracy", **style)
    upper.hlines(confidence, left, [row["high"] for row in bins], color="tab:red", label="mean confidence")
    upper.yaxis.set_major_formatter(percent_ticks())
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title=f"expected calibration error {100 * error:.2f} %")
    upper.legend(loc="upper left", framealpha=0.9)
    bars = lower.bar(left, counts, widths, color="tab:gray", **style)
    lower.bar_label(bars, [f"{count:g}" for count in counts], fontsize=6, padding=1)
    lower.xaxis.set_major_formatter(percent_ticks())
    lower.set(xlabel="confidence", ylabel="images", ylim=(0, 1.2 * max(counts, default=1)))
    return figure


def labels_figure(labels: Sequence[str], precision: np.ndarray, recall: np.ndarray) -> Figure:
    """Precision and recall (K,) of each label; of many labels, of those with the lowest recall. NaN = not defined."""
    order = (
        np.argsort(np.nan_to_num(recall, nan=2.0), kind="stable")
        if len(labels) > MAX_LABELS
        else np.arange(len(labels))
    )
    order = order[:MAX_LABELS]
    names = [plot_label(name) for name in np.array(labels, dtype=object)[order]]
    figure = canvas(6.4, 0.34 * len(names) + 1.3)
    axes, y = figure.subplots(), np.arange(len(names))
    for values, shift, name, color in (
        (precision, -0.2, "precision", "tab:blue"),
        (recall, 0.2, "recall", "tab:orange"),
    ):
        axes.barh(y + shift, np.nan_to_num(values[order]), 0.36, label=name, color=color)
    axes.set_yticks(y, names, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), title="precision and recall at the thresholds")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def grad_cam_figure(images: np.ndarray, predicted: np.ndarray, true: np.ndarray, titles: Sequence[str]) -> Figure:
    """Images, and below each the evidence for the predicted and for the true class over the image in gray.

    Args:
        images: (N, H, W, C) in [0, 1].
        predicted: The evidence for the predicted class, (N, H, W) in [0, 1].
        true: The same for the true class.
        titles: Of the images.
    """
    from matplotlib import colormaps

    color = np.broadcast_to(images, (*images.shape[:3], 3))
    gray = np.broadcast_to(images.mean(3, keepdims=True), color.shape)
    rows = [color]
    for values in (predicted, true):
        weight = 0.65 * values[..., None]
        rows.append((1 - weight) * gray + weight * colormaps["inferno"](values)[..., :3])
    names = ("image", "predicted", "true")
    return image_grid(np.concatenate(rows), [*titles, *([""] * (2 * len(images)))], len(images), names)


def embedding_figure(points: np.ndarray, values: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> Figure:
    """Images as points (N, 2) by the network's penultimate layer, colored by class or by number.

    Args:
        points: Their places.
        values: The class of each image, -1 where it is unknown, or its number (N,).
        classes: The names of the classes; () for numbers.
        names: Of the two axes.
    """
    labels = [plot_label(name, 20) for name in classes] if len(classes) <= len(DISTINCT) else []
    beside = text_width(labels, 8) + 0.5 if labels else 0.4 if classes else 1.2
    figure = canvas(0.9 + 5.6 + beside, 5.6, layout=None)
    axes = axes_at(figure, 0.9, 0.5, 5.6, 4.95)
    place_labels(axes, 0.9)
    if not classes:
        shown = axes.scatter(*points.T, c=values, s=12, cmap="viridis")
        figure.colorbar(shown, cax=axes_at(figure, 6.7, 0.5, 0.15, 4.95))
    elif labels:
        for number, label in enumerate(labels):
            own = points[values == number]
            axes.scatter(*own.T, s=12, color=DISTINCT[number], alpha=0.75, label=label)
        axes.scatter(*points[values < 0].T, s=12, color="tab:gray", alpha=0.4)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0, frameon=False, fontsize=8)
    else:
        axes.scatter(*points.T, c=values, s=12, cmap="nipy_spectral", alpha=0.75)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.grid(alpha=0.3)
    return figure


def predicted_figure(names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> Figure:
    """Predicted against true numbers, one plot per target, on the diagonal if they are equal.

    Args:
        names: Of the T targets.
        truth: (N, T).
        predicted: (N, T).
        known: Which of the true numbers are there: bool (N, T).
    """
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = canvas(3.9 * columns + 0.3, 3.8 * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for k, (axes, name) in enumerate(zip(grid, map(plot_label, names), strict=False)):
        axes.set_axis_on()
        rows_of = np.flatnonzero(known[:, k] & np.isfinite(predicted[:, k]))
        x, y = truth[rows_of, k], predicted[rows_of, k]
        if len(x):
            few = slice(None, None, max(1, len(x) // MAX_POINTS))
            axes.plot(x[few], y[few], ".", color="tab:blue", alpha=0.4, markersize=4)
            low, high = min(x.min(), y.min()), max(x.max(), y.max())
            axes.plot((low, high), (low, high), ":", color="tab:gray")
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
        axes.grid(alpha=0.3)
    return figure
