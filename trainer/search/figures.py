"""Plots of a search, of plain values: search space, isolation, parallel coordinates, learning curves, narrowing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trainer.formats import Json
from trainer.report.figures import plot_label
from trainer.report.layout import canvas
from trainer.search.distribution import number, show
from trainer.search.progress import metric_value
from trainer.search.space import Dimension, Space
from trainer.search.stages import Result, best_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # panels side by side
MARKS = {
    "done": ("o", "tab:blue"),
    "pruned": ("v", "tab:gray"),
    "diverged": ("x", "tab:red"),
    "failed": ("x", "tab:red"),
}
MOST = 400  # curves or lines in one plot
BUCKETS = 6
Color: TypeAlias = tuple[float, float, float, float]  # red, green, blue, opacity


def panels(count: int, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with that many panels."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = canvas(4.2 * columns, height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def axis_scale(axes: Axes, dimension: Dimension, which: str = "x") -> None:
    """Give an axis the scale of a dimension, so that trials are spread evenly along it."""
    own = dimension.distribution
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    if own.kind in ("log", "log_int"):
        set_scale("log")
    elif own.kind == "1-log":
        set_scale("function", functions=(lambda v: -np.log10(np.maximum(1 - v, 1e-12)), lambda x: 1 - 10.0**-x))
        ticks = [0.0, 0.5, *(1 - 10.0**-k * factor for k in range(1, 8) for factor in (3, 1))]
        set_ticks = axes.set_xticks if which == "x" else axes.set_yticks
        set_ticks([t for t in ticks if own.low - 0.1 * (1 - own.low) <= t <= own.high])


def position(dimension: Dimension, value: Json) -> float:
    """Where a value is drawn: itself, or the number of its choice."""
    return number(value) if dimension.distribution.numeric else dimension.distribution.choices.index(value)


def space_figure(spaces: Sequence[Space], results: Sequence[Sequence[Result]], label: str) -> Figure:
    """Score of every trial against each dimension; the borders of each stage's space are drawn as vertical lines.

    Trials that diverged or failed are crosses at the bottom.

    Args:
        spaces: Of the stages; the first one has all dimensions.
        results: Of the stages, the later ones darker.
        label: Of the score.
    """
    figure, axes = panels(len(spaces[0]))
    scores = [r.score for stage in results for r in stage if r.score is not None]
    bottom = min(scores, default=0.0)
    for ax, dimension in zip(axes, spaces[0], strict=True):
        for order, stage in enumerate(results, 1):
            for state, (marker, color) in MARKS.items():
                mine = [r for r in stage if r.state == state and dimension.name in r.point]
                x = [position(dimension, r.point[dimension.name]) for r in mine]
                y = [metric_value(bottom if r.score is None else r.score, label) for r in mine]
                ax.scatter(x, y, s=16, marker=marker, color=color, alpha=0.35 + 0.65 * order / len(results))
        _borders(ax, dimension, spaces)
        ax.set(xlabel=plot_label(dimension.name), ylabel=label if ax is axes[0] else "")
        ax.grid(alpha=0.3)
    return figure


def _borders(ax: Axes, dimension: Dimension, spaces: Sequence[Space]) -> None:
    """The scale of a dimension, and lines at the borders of the stages' spaces."""
    if not dimension.distribution.numeric:
        choices = [plot_label(show(choice), 16) for choice in dimension.distribution.choices]
        ax.set_xticks(range(len(choices)), choices, rotation=20)
        return
    axis_scale(ax, dimension)
    for stage, space in enumerate(spaces):
        for d in space:
            if d.name == dimension.name:
                for border in (d.distribution.low, d.distribution.high):
                    ax.axvline(border, color="tab:orange", lw=0.8 + 0.6 * stage, ls=":" if stage else "--")


def isolation_figure(space: Space, results: Sequence[Result], label: str) -> Figure:
    """The best score in each part of the range of a dimension, whatever the other values, and the number of trials there."""
    figure, axes = panels(len(space))
    for ax, dimension in zip(axes, space, strict=True):
        own = dimension.distribution
        count = BUCKETS if own.numeric else len(own.choices)
        best: list[float] = [np.nan] * count
        trials = [0] * count
        for r in results:
            if dimension.name not in r.point or r.score is None:
                continue
            bucket = min(max(int(own.unit(r.point[dimension.name]) * count + 1e-9), 0), count - 1)
            trials[bucket] += 1
            best[bucket] = np.nanmax([best[bucket], r.score])
        if own.numeric:
            names = [f"{own.at((i + 0.5) / count):.2g}" for i in range(count)]
        else:
            names = [plot_label(show(choice), 16) for choice in own.choices]
        ax.plot(range(count), [metric_value(score, label) for score in best], "o-", color="tab:blue")
        for i, n in enumerate(trials):
            ax.annotate(str(n), (i, 0.02), xycoords=("data", "axes fraction"), ha="center", fontsize=7, color="gray")
        ax.set_xticks(range(count), names, rotation=20)
        ax.set(xlabel=plot_label(dimension.name), ylabel=label if ax is axes[0] else "")
        ax.grid(alpha=0.3)
    return figure


def parallel_figure(space: Space, results: Sequence[Result], label: str) -> Figure:
    """A line per trial through its values, one vertical axis per dimension, colored by score; good trials on top."""
    figure = canvas(max(6.0, 1.8 * (len(space) + 1)), 4)
    ax = figure.subplots()
    scored = sorted((r for r in results if r.score is not None and r.point), key=lambda r: r.score or 0.0)[-MOST:]
    for r, color in zip(scored, score_colors(scored), strict=True):
        places = [(i, d.distribution.unit(r.point[d.name])) for i, d in enumerate(space) if d.name in r.point]
        ax.plot(*zip(*places, strict=True), color=color, alpha=0.7, lw=1)
    for i, d in enumerate(space):
        own = d.distribution
        ax.axvline(i, color="black", lw=0.6)
        if own.numeric:
            ends = [(0.0, f"{own.low:.3g}"), (1.0, f"{own.high:.3g}")]
        else:
            ends = [(own.unit(choice), plot_label(show(choice), 16)) for choice in own.choices]
        for height, text in ends:
            ax.annotate(text, (i, height), fontsize=7, xytext=(3, 2), textcoords="offset points")
    ax.set_xticks(range(len(space)), [plot_label(d.name, 24) for d in space], rotation=15)
    ax.set(yticks=[], title=f"yellow: better {label}")
    return figure


def score_colors(results: Sequence[Result]) -> list[Color]:
    """A color for each result by the rank of its score, from dark (worst) to yellow (best)."""
    from matplotlib import colormaps

    ranks = np.argsort(np.argsort([r.score or 0.0 for r in results]))
    return [colormaps["viridis"](rank / max(len(results) - 1, 1)) for rank in ranks]


def curves_figure(stages: Sequence[tuple[str, Sequence[Result]]], label: str) -> Figure:
    """The metric after each epoch of every trial, colored by its score; pruned trials dotted."""
    stages = [(name, [r for r in results if r.curve and r.score is not None]) for name, results in stages]
    figure, axes = panels(len(stages), 3.2)
    for ax, (name, results) in zip(axes, stages, strict=True):
        shown = sorted(results, key=lambda r: r.score or 0.0)[-MOST:]
        for r, color in zip(shown, score_colors(shown), strict=True):
            marker, line = "." if len(r.curve) == 1 else "", ":" if r.state == "pruned" else "-"
            ax.plot(r.epochs, r.curve, color=color, lw=1, marker=marker, ls=line)
        ax.set(xlabel="epoch", ylabel=label if ax is axes[0] else "", title=name)
        ax.grid(alpha=0.3)
    return figure


def narrowing_figure(spaces: Sequence[Space], results: Sequence[Sequence[Result]]) -> Figure | None:
    """The range of each numeric dimension in every stage, with the best trial of the stage; None without such dimensions."""
    numeric = [d for d in spaces[0] if d.distribution.numeric]
    if not numeric:
        return None
    figure, axes = panels(len(numeric), 2.2)
    for ax, dimension in zip(axes, numeric, strict=True):
        for stage_number, (space, stage) in enumerate(zip(spaces, results, strict=True)):
            for d in space:
                if d.name == dimension.name:
                    ends = [d.distribution.low, d.distribution.high]
                    ax.plot(ends, [stage_number, stage_number], lw=6, color="tab:blue", alpha=0.5)
            ranked = [r for r in best_first(stage) if dimension.name in r.point]
            if ranked:
                ax.plot(
                    position(dimension, ranked[0].point[dimension.name]), stage_number, "*", color="tab:orange", ms=11
                )
        axis_scale(ax, dimension)
        ax.set_yticks(range(len(spaces)), [f"stage {i + 1}" for i in range(len(spaces))])
        ax.invert_yaxis()
        ax.set_xlabel(plot_label(dimension.name))
        ax.grid(alpha=0.3)
    return figure


def importance_figure(values: dict[str, float]) -> Figure:
    """A bar per dimension, the most important one at the top."""
    figure = canvas(6, 0.8 + 0.35 * len(values))
    ax = figure.subplots()
    ax.barh([plot_label(name) for name in values], list(values.values()), color="tab:blue")
    ax.invert_yaxis()
    ax.set(xlabel="importance (fraction of the variance of the score)", xlim=(0, 1))
    return figure
