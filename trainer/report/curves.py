"""The curves of a run: losses and main metrics of its tasks, weights of the losses, and learning rate, by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trainer.columns import SPLITS, is_percentage, tasks_of
from trainer.formats import JsonObject, Row
from trainer.report.figures import epoch_ticks, percent_ticks, plot_label, total_epochs
from trainer.report.layout import panels as panel_grid
from trainer.report.layout import short_numbers
from trainer.tree import value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct with any kind of color vision (Okabe & Ito 2008), and by their lines.
COLORS = {"train": "#0072b2", "validation": "#d55e00", "averaged": "#009e73"}
LINES = {"train": "-", "validation": "--", "averaged": ":"}
LOSS_UNITS = {"cross_entropy": "cross-entropy, nats", "mse": "squared error, standardized", "l1": "error, standardized"}
MAX_COLUMNS = 4


class Panel(NamedTuple):
    """One plot: its title, the unit of its axis, and the columns of its curves by their labels."""

    title: str
    unit: str
    curves: Mapping[str, str]


def loss_unit(config: JsonObject) -> str:
    """Return the unit of the loss of a config; that of earlier releases is the cross-entropy.

    >>> loss_unit({"task": {"loss": "mse"}}), loss_unit({"task": {"loss": "focal"}}), loss_unit({})
    ('squared error, standardized', '', 'cross-entropy, nats')
    """
    if "task" not in config:
        return LOSS_UNITS["cross_entropy"]
    loss = value_at(config, "task", "loss")
    return LOSS_UNITS.get(loss, "") if isinstance(loss, str) else ""


def panels(row: Row, unit: str) -> list[Panel]:
    """Return the plots of a history with such rows: the loss, the main metric of each task, weights, the learning rate."""
    tasks = tasks_of(row)
    several = len(tasks) > 1
    result = [Panel("loss, sum over tasks" if several else "loss", "" if several else unit, of_splits("loss"))]
    for task in tasks:
        axis = "" if is_percentage(task.metric) else "units of the target"
        title = f"{task.name}: {task.metric}" if several else task.metric
        result.append(Panel(title, "fraction of images" if task.metric == "accuracy" else axis, of_splits(task.main)))
    weights = {name.removeprefix("weight_"): name for name in row if name.startswith("weight_")}
    if weights:
        result.append(Panel("weights of the losses", "", weights))
    return [*result, Panel("learning rate", "", {"lr": "mean_lr" if "mean_lr" in row else "lr"})]


def of_splits(metric: str) -> dict[str, str]:
    return {split: f"{split}_{metric}" for split in SPLITS}


def curves_figure(rows: list[Row], unit: str = LOSS_UNITS["cross_entropy"]) -> Figure:
    """Loss, main metrics and learning rate by epoch; training and validation in the same plot.

    Args:
        rows: The history.
        unit: Of the loss.
    """
    plots = panels(rows[-1], unit)
    columns = min(len(plots), MAX_COLUMNS)
    several = len(plots) > columns or any(plot.title.startswith("weights") for plot in plots)
    lines = math.ceil(len(plots) / columns)
    size, margins = (3.0, 2.7 if lines == 1 else 2.0), (1.0, 0.3, 0.5, 0.7 if several else 0.4)
    figure, by_line = panel_grid((lines, columns), size, margins, (1.0, 0.9))
    grid = [axes for line in by_line for axes in line]
    for axes in grid[len(plots) :]:
        axes.set_axis_off()
    for axes, plot in zip(grid, plots, strict=False):
        draw(axes, plot, rows)
        own = not several or any(column.startswith("weight_") for column in plot.curves.values())
        if own and axes.lines and "lr" not in plot.curves:
            axes.legend(frameon=False, fontsize=None if not several else 7)
    if several:
        shared = {line.get_label(): line for axes in grid for line in axes.lines if line.get_label() in COLORS}
        figure.legend(shared.values(), map(str, shared), loc="upper center", ncols=len(shared), frameon=False)
    return figure


def draw(axes: Axes, plot: Panel, rows: Sequence[Row]) -> None:
    """Draw the curves of a plot, each where it has values."""
    epochs = total_epochs(list(rows))
    alone = {"lr": "tab:gray"}
    for label, column in plot.curves.items():
        pairs = [(e, r[column]) for e, r in zip(epochs, rows, strict=True) if r.get(column) is not None]
        if pairs:
            color = COLORS.get(label, alone.get(label)) if not column.startswith("weight_") else None
            line = LINES.get(label, "-")
            axes.plot(*zip(*pairs, strict=True), line, marker=".", label=plot_label(label), color=color)
    axes.set(xlabel="epoch", ylabel=plot.unit, title=plot_label(plot.title))
    if is_percentage(next(iter(plot.curves.values())).removeprefix("train_")):
        axes.yaxis.set_major_formatter(percent_ticks())
    else:
        short_numbers(axes)
    axes.grid(alpha=0.3)
    epoch_ticks(axes)
    starts = phase_starts(list(rows), epochs)
    for epoch, name in [(epochs[0], rows[0]["phase"]), *starts] if starts else []:
        axes.axvline(epoch, color="gray", linewidth=0.8, linestyle="-.")
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(plot_label(name, 12), (epoch, 1), (3, -3), va="top", fontsize=8, color="gray", **place)


def phase_starts(rows: Sequence[Row], epochs: Sequence[float]) -> list[tuple[float, str]]:
    """Return the time at which each phase but the first begins, in epochs of the run, and its name.

    >>> phase_starts([{"phase": "head"}, {"phase": "all"}], [1.0, 2.0])
    [(1.0, 'all')]
    """
    pairs = zip(rows, rows[1:], epochs, strict=False)
    return [(end, after["phase"]) for before, after, end in pairs if before["phase"] != after["phase"]]
