"""Plots of the layer statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from trainer.formats import Snapshot
from trainer.report.figures import plot_label
from trainer.report.layout import log_ticks, panels, place_labels, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Quantiles of an activation whose inputs have mean 0 and standard deviation 1: those that bound the central 68 % and 95 %.
NORMAL = (-1.96, -0.994, 0.0, 0.994, 1.96)
REFERENCES: dict[str, Callable[[float], float]] = {
    "ReLU": lambda x: max(x, 0.0), "ReLU6": lambda x: max(x, 0.0), "LeakyReLU": lambda x: max(x, 0.01 * x),
    "Tanh": math.tanh, "Sigmoid": lambda x: 1 / (1 + math.exp(-x)), "Identity": lambda x: x,
}  # fmt: skip
MAX_NAMES = 24  # of layers that are written below the plot


def distributions_figure(snapshots: Sequence[Snapshot]) -> Figure | None:
    """Median and central 68 % and 95 % of the activations (above) and gradients (below) of all layers, from the first to the
    last, at the first snapshot and at the last; None without snapshots of layers.

    All layers are drawn on one axis, so that what vanishes or explodes with depth looks so. Dotted are the activations
    expected of inputs with mean 0 and standard deviation 1. The axes of the gradients, one per snapshot, are linear up to
    about a hundredth of the largest value, and logarithmic beyond.
    """
    snapshots = [s for s in snapshots if s["activations"] or s["weights"]]
    if not snapshots:
        return None
    shown = [snapshots[0], snapshots[-1]] if len(snapshots) > 1 else [snapshots[0]]
    rows = {
        "activations": [[(a["tag"], a["quantiles"]) for a in s["activations"]] for s in shown],
        "gradients": [[(w["tag"], w["grad_quantiles"]) for w in s["weights"]] for s in shown],
    }
    rows = {name: columns for name, columns in rows.items() if any(columns)}
    *between, last = (_height_of_names(layers_of(columns)) for columns in rows.values())
    margins, gaps = (0.65, 0.15, last, 0.3), (0.6, max(between, default=0.0) + 0.35)
    figure, grid = panels((len(rows), len(shown)), (4.6, 1.75), margins, gaps, sharex="row")
    for axes, (name, columns) in zip(grid, rows.items(), strict=True):
        tags = layers_of(columns)
        for ax, column, snapshot in zip(axes, columns, shown, strict=True):
            _quantile_bars(ax, [tags.index(tag) for tag, _ in column], [quantiles for _, quantiles in column])
            ax.set_title(f"{name} at step {snapshot['step']:,}", fontsize=9)
            _name_layers(ax, tags)
            if name == "gradients":
                largest = max((abs(q) for _, quantiles in column for q in quantiles), default=0.0)
                decade = 10.0 ** math.ceil(math.log10(largest / 300)) if largest else 1.0
                ax.set_yscale("symlog", linthresh=decade, linscale=0.5)
                log_ticks(ax.yaxis)
        if name == "activations":
            limits = [ax.get_ylim() for ax in axes]
            for ax in axes:
                ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            _references(axes[0], [(tags.index(a["tag"]), a["kind"]) for a in shown[0]["activations"]])
    return figure


def layers_of(columns: Sequence[Sequence[tuple[str, list[float]]]]) -> list[str]:
    """Return the tags of all layers of some snapshots, from the first to the last."""
    return in_order(tag for column in columns for tag, _ in column)


def in_order(tags: Iterable[str]) -> list[str]:
    """Return each tag once, from the first layer to the last.

    >>> in_order(["100_Linear_fc", "02_Conv2d_a", "02_Conv2d_a", "11_Conv2d_b"])
    ['02_Conv2d_a', '11_Conv2d_b', '100_Linear_fc']
    """
    return sorted(set(tags), key=lambda tag: (int(tag.partition("_")[0]), tag))


def _quantile_bars(ax: Axes, positions: list[int], quantiles: list[list[float]]) -> None:
    """Draw a bar per layer of the central 95 %, one of the central 68 %, and the median; ``quantiles`` are five per layer."""
    from matplotlib.collections import PolyCollection

    if not positions:
        return
    q = list(zip(*quantiles, strict=True))
    for low, high, color in ((0, 4, "#c6dbef"), (1, 3, "#6baed6")):
        edges = zip(positions, q[low], q[high], strict=True)
        bars = [[(x - 0.4, a), (x - 0.4, b), (x + 0.4, b), (x + 0.4, a)] for x, a, b in edges]
        ax.add_collection(PolyCollection(bars, facecolors=color, linewidths=0))
    ax.autoscale_view()
    ax.hlines(q[2], [x - 0.4 for x in positions], [x + 0.4 for x in positions], color="#08519c", linewidth=1.5)
    ax.axhline(0, color="gray", linewidth=0.5)
    ax.tick_params(labelsize=7)


def _name_layers(ax: Axes, tags: list[str]) -> None:
    """Write the tags of the layers below the axis, or, of many, their numbers."""
    ax.set_xlim(-0.6, len(tags) - 0.4)
    if len(tags) <= MAX_NAMES:
        ax.set_xticks(range(len(tags)), [plot_label(tag, 24) for tag in tags], rotation=90, fontsize=6)
    else:
        step = -(-len(tags) // MAX_NAMES)
        ax.set_xticks(range(0, len(tags), step), [tag.partition("_")[0] for tag in tags[::step]], fontsize=6)
        ax.set_xlabel("layer", fontsize=8)


def _height_of_names(tags: list[str]) -> float:
    """The inches that ``_name_layers`` needs below the axis."""
    return text_width([plot_label(tag, 24) for tag in tags], 6) + 0.15 if len(tags) <= MAX_NAMES else 0.45


def _references(ax: Axes, kinds: list[tuple[int, str]]) -> None:
    """Dot the central 68 % and 95 % that are expected of each known kind of activation."""
    for position, kind in kinds:
        if kind in REFERENCES:
            expected = sorted({REFERENCES[kind](x) for x in NORMAL})
            ax.hlines(expected, position - 0.45, position + 0.45, color="black", linestyle=":", linewidth=0.9)


def steps_figure(snapshots: Sequence[Snapshot]) -> Figure | None:
    """Gradient norm and update-to-weight ratio of each layer by step, and the fractions of dead and saturated units by depth;
    None with fewer than two snapshots.
    """
    snapshots = [s for s in snapshots if s["weights"]]
    if len(snapshots) < 2:
        return None
    figure, grid = panels((1, 3), (3.1, 2.3), (0.9, 0.2, 0.5, 0.4), (0.9, 0))
    norm, ratio, units = grid[0]
    norms = [math.nan if s["grad_norm"] is None else s["grad_norm"] for s in snapshots]
    norm.plot([s["step"] for s in snapshots], norms, color="tab:blue")
    norm.set(title="gradient norm", xlabel="step", yscale="log")
    _update_ratios(ratio, snapshots)
    ratio.set_xlim(norm.get_xlim())
    last = snapshots[-1]["activations"]
    for name, marker in (("dead", "o"), ("saturated", "s")):
        points = [(i, layer[name]) for i, layer in enumerate(last) if layer.get(name) is not None]
        if points:
            units.plot(*zip(*points, strict=True), marker=marker, linestyle="-", label=name)
    units.set(title="units at the end, by depth", xlabel="nonlinearity", ylabel="fraction", ylim=(-0.02, 1.02))
    place_labels(units, 0.6)
    units.set_xticks(range(0, len(last), max(1, len(last) // 10)))
    for ax in (norm, ratio):
        log_ticks(ax.yaxis)
    for ax in (norm, ratio, units):
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=7)
    return figure


def _update_ratios(ax: Axes, snapshots: Sequence[Snapshot]) -> None:
    """Plot the update-to-weight ratio of each layer, dark for the first and bright for the last."""
    import matplotlib as mpl

    colors = mpl.colormaps["viridis"]
    tags = in_order(layer["tag"] for s in snapshots for layer in s["weights"])  # not all are trained in every phase
    for i, tag in enumerate(tags):
        points = [(s["step"], w["update_ratio"]) for s in snapshots for w in s["weights"] if w["tag"] == tag]
        points = [(step, value) for step, value in points if value]
        if points:
            label = plot_label(tag) if tag in (tags[0], tags[-1]) else None
            color = colors(i / max(len(tags) - 1, 1))
            marker = "." if len(points) == 1 else None  # a line has two points
            ax.plot(*zip(*points, strict=True), color=color, linewidth=1, label=label, marker=marker)
    ax.axhline(1e-3, color="gray", linestyle=":", linewidth=1)
    ax.set(title="update-to-weight ratio (1e-3 is usual)", xlabel="step", yscale="log")
