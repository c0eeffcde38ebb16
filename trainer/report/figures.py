"""Plots of plain values, independent of the run."""

from __future__ import annotations

import math
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.columns import is_percentage
from trainer.errors import WriteError
from trainer.files import atomic_path
from trainer.formats import Row
from trainer.literal import print_literal, printable
from trainer.report.layout import DPI, canvas, panels, place_titles, put_pixels, short_numbers, text_width, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

# Distinct with any kind of color vision (Okabe & Ito 2008); the last three repeat them darker.
DISTINCT = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#004c77", "#8f3f00", "#00694c",
)  # fmt: skip
IMAGE_WIDTH = 127  # of an image among others, in pixels

# matplotlib is imported inside functions: it takes most of a second, which no training step should wait for.


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to ``path`` as PNG, atomically."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in scripts that the font lacks
        figure.set_dpi(DPI)
        place_titles(figure)
        write_png(figure, temporary)


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Report an error while a plot is drawn, instead of raising it; one that cannot be written is an error of the run."""
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        print_literal(f"the plot {name!r} is left out: {type(error).__name__}: {error}", file=sys.stderr)


def plot_label(text: str, length: int = 40) -> str:
    """Return a name from the data as plots show it as it is: one line of at most ``length`` characters, without mathtext.

    >>> plot_label("$5_$10")
    '\\\\$5_\\\\$10'
    """
    text = printable(text)
    return (text if len(text) <= length else f"{text[: length - 1]}…").replace("$", r"\$")


def epoch_ticks(axes: Axes) -> None:
    """Label the axis of epochs with whole numbers, unless less than two epochs are shown."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    if high - low >= 1:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def percent_ticks() -> Formatter:
    """Return what labels fractions on an axis in percent."""
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0)


def schedule_figure(times: np.ndarray, lrs: np.ndarray, momenta: np.ndarray) -> Figure:
    """Learning rate by time in epochs and, if the schedule changes it, the momentum below, which else is NaN (N,)."""
    with_momentum = not np.isnan(momenta).all()
    height = 2.05 if with_momentum else 2.35
    figure, grid = panels((1 + with_momentum, 1), (6.9, height), (0.9, 0.2, 0.5, 0.25), (0, 0.2), sharex=True)
    axes = [row[0] for row in grid]
    for ax, series, name in zip(axes, (lrs, momenta), ("learning rate", "momentum"), strict=False):
        ax.plot(times, series, color="tab:blue")
        ax.set(ylabel=name)
        short_numbers(ax)
        ax.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    epoch_ticks(axes[-1])
    return figure


def batch_figure(before: np.ndarray, after: np.ndarray, names: Sequence[str], targets: Sequence[str] = ()) -> Figure:
    """Images (N, H, W, C) in [0, 1] before augmentation above, after augmentation below, with their labels, one per line.

    ``targets`` are what those below are trained on where that is not the label, as of mixed images.
    """
    texts = [*names, *(targets or [""] * len(after))]
    titles = ["\n".join(map(plot_label, text.split("\n"))) for text in texts]
    return image_grid(np.concatenate([before, after]), titles, len(before), ("original", "augmented"))


def wrapped(text: str, width: float, fontsize: float) -> str:
    """Return a text with its lines broken where they are wider than ``width`` inches, between words if there are any.

    >>> wrapped("true Canis lupus familiaris\\npredicted cat", 1.2, 7)
    'true Canis lupus\\nfamiliaris\\npredicted cat'
    """
    lines: list[str] = []
    for line in text.replace(r"\$", "$").split("\n"):
        measured = text_width([line], fontsize)
        length = int(len(line) * width / measured) if measured > width else len(line)
        lines += textwrap.wrap(line, max(length, 8)) or [line]
    return "\n".join(lines).replace("$", r"\$")


def image_grid(images: np.ndarray, titles: Sequence[str], columns: int, row_names: tuple[str, ...] = ()) -> Figure:
    """Images (N, H, W, C) in [0, 1] in rows of ``columns``, each below its title.

    They are enlarged and put on one sheet before matplotlib gets them; axes for each would take many times as long. All sizes
    are in pixels.
    """
    w, gap = IMAGE_WIDTH, 10
    h = max(1, round(w * images.shape[1] / images.shape[2]))
    rows = math.ceil(len(images) / columns)
    if max(columns * (w + gap), rows * (h + gap)) >= 2**16:  # what matplotlib draws at most, once all has been made
        raise ValueError(f"{len(images):,} images are too many for one plot")
    titles = [wrapped(title, (w + gap / 2) / DPI, 7) for title in titles]
    lines = [[t.count("\n") + 1 for t in titles[i * columns : (i + 1) * columns] if t] for i in range(rows)]
    heights = [round(0.15 * h * max(counts, default=0)) for counts in lines]  # of the titles
    tops = [gap + sum(heights[: i + 1]) + (h + gap) * i for i in range(rows)]  # of the images
    # Titles of the outer columns may be wider than an image.
    margin = round(max(11, (text_width(titles, 7) * DPI - w) / 2 + 5))
    left = margin + (33 if row_names else 0)
    sheet = np.full((tops[-1] + h + gap, left + columns * (w + gap) - gap + margin, 3), 255, np.uint8)
    figure = canvas(sheet.shape[1] / DPI, sheet.shape[0] / DPI, layout=None)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / sheet.shape[1], 1 - y / sheet.shape[0], text, **style)

    for i, image in enumerate(images):
        x, y = left + (i % columns) * (w + gap), tops[i // columns]
        sheet[y : y + h, x : x + w] = resized(image, w, h)
        write(x + w / 2, y - 0.06 * h, titles[i], ha="center", va="bottom", fontsize=7)
    for i, name in enumerate(row_names):
        write(left - 0.08 * w, tops[i] + h / 2, name, ha="right", va="center", rotation=90, fontsize=8)
    put_pixels(figure, sheet)
    return figure


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return an image (H, W, C) in [0, 1] in another size as uint8 (height, width, 3); the pixels of a small one stay visible.

    >>> resized(np.array([[[0.0], [1.0]]]), 4, 2)[..., 0].tolist()
    [[0, 0, 255, 255], [0, 0, 255, 255]]
    """
    import cv2

    colors = np.broadcast_to((255 * np.clip(image, 0, 1)).round().astype(np.uint8), (*image.shape[:2], 3))
    small = image.shape[0] < 100
    return cv2.resize(colors, (width, height), interpolation=cv2.INTER_NEAREST if small else cv2.INTER_AREA)


def total_epochs(rows: list[Row]) -> list[float]:
    """Return each row's time in epochs since the start of the run, over all its phases.

    >>> total_epochs([{"phase": "head", "epoch": 1.0}, {"phase": "all", "epoch": 1.0}, {"phase": "all", "epoch": 2.0}])
    [1.0, 2.0, 3.0]
    """
    earlier_phases, times = 0.0, []
    for i, row in enumerate(rows):
        if i and row["phase"] != rows[i - 1]["phase"]:
            earlier_phases += rows[i - 1]["epoch"]
        times.append(earlier_phases + row["epoch"])
    return times


def comparison_figure(groups: list[tuple[str, list[list[Row]], list[float]]], metric: str) -> Figure:
    """Validation loss and the metric of groups of runs by epoch, mean and range over each group, and the score of each run.

    Args:
        groups: Label, histories and scores of each group.
        metric: Name of the scores.
    """
    figure = canvas(13, max(3.6, 0.22 * len(groups) + 2.6))
    loss, by_epoch, points = figure.subplots(1, 3)
    column = metric.rpartition(".")[2]
    column = "accuracy" if column == "loss" else column  # which the first plot shows
    colors = [DISTINCT[i % len(DISTINCT)] for i in range(len(groups))]
    for (name, histories, scores), color in zip(groups, colors, strict=True):
        label = plot_label(name, 60)
        for ax, score in ((loss, "loss"), (by_epoch, column)):
            _band(ax, [h for h in histories if h], score, label, color)
        points.plot(scores, [label] * len(scores), "o", color=color, alpha=0.6, markersize=5)
        if scores:
            points.plot([sum(scores) / len(scores)], [label], "|", color=color, markersize=16)
    for ax, name in ((loss, "loss"), (by_epoch, column)):
        ax.set(xlabel="epoch", title=plot_label(f"validation {name}"))
        ax.grid(alpha=0.3)
        epoch_ticks(ax)
    if is_percentage(column):
        by_epoch.yaxis.set_major_formatter(percent_ticks())
    if is_percentage(metric.rpartition(".")[2]):
        points.xaxis.set_major_formatter(percent_ticks())
    if len(groups) <= 10 and loss.lines:  # more colors could not be told apart
        loss.legend(frameon=False, fontsize=7)
    points.set(title=metric.replace(".", " "), ylim=(len(groups) - 0.5, -0.5))
    points.tick_params(axis="y", labelsize=7)
    points.grid(alpha=0.3)
    return figure


def _band(ax: Axes, histories: list[list[Row]], name: str, label: str, color: str) -> None:
    """Plot mean and range of a column over the runs, up to the last epoch that all of them have."""
    split = "validation" if any(f"validation_{name}" in h[0] for h in histories) else "train"
    length = min((len(h) for h in histories), default=0)
    lines = [[row.get(f"{split}_{name}") for row in h[:length]] for h in histories]
    lines = [line for line in lines if all(v is not None for v in line)]
    if not lines or not length:
        return
    epochs, columns = total_epochs(histories[0])[:length], list(zip(*lines, strict=True))
    ax.plot(epochs, [sum(c) / len(c) for c in columns], color=color, label=label)
    if len(lines) > 1:
        ax.fill_between(
            epochs, [min(c) for c in columns], [max(c) for c in columns], color=color, alpha=0.2, linewidth=0
        )
