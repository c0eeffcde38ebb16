"""Plots of the layer statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.formats import Snapshot
from trainer.report.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def distributions_figure(snapshots: Sequence[Snapshot], max_layers: int = 6) -> Figure | None:
    """Median and central 68 % and 95 % of the activations (above) and gradients (below) by step, of up to ``max_layers``
    layers from first to last; None with fewer than two snapshots.
    """
    snapshots = [s for s in snapshots if s["activations"] or s["weights"]]
    if len(snapshots) < 2:
        return None
    last = snapshots[-1]
    kinds = [(kind, key) for kind, key in (("activations", "quantiles"), ("weights", "grad_quantiles")) if last[kind]]
    layers = {kind: evenly_spaced(len(last[kind]), max_layers) for kind, _ in kinds}
    columns = max(len(indices) for indices in layers.values())
    figure = canvas(2.3 * columns + 0.4, 2.1 * len(kinds) + 0.3)
    grid = figure.subplots(len(kinds), columns, squeeze=False, sharex=True)
    for ax in grid.flat:
        ax.set_axis_off()
    for row, (kind, key) in zip(grid, kinds, strict=True):
        for ax, index in zip(row, layers[kind], strict=False):
            with_layer = [s for s in snapshots if index < len(s[kind])]
            _bands(ax, [s["step"] for s in with_layer], [s[kind][index][key] for s in with_layer])
            ax.set_title(last[kind][index]["tag"], fontsize=7)
        row[0].set_ylabel("activations" if kind == "activations" else "gradients", fontsize=8)
    for ax in grid[-1]:
        ax.set_xlabel("step", fontsize=7)
    return figure


def evenly_spaced(n: int, count: int) -> list[int]:
    """Return up to ``count`` of the indices 0 to n − 1, evenly spaced, with the first and the last.

    >>> evenly_spaced(5, 3), evenly_spaced(2, 3)
    ([0, 2, 4], [0, 1])
    """
    return sorted({round(i * (n - 1) / max(count - 1, 1)) for i in range(count)})


def _bands(ax: Axes, steps: list[int], quantiles: list[list[float]]) -> None:
    """Plot the median and the bands around it; ``quantiles`` are five per step."""
    q = list(zip(*quantiles, strict=True))
    ax.set_axis_on()
    for low, high, alpha in ((0, 4, 0.2), (1, 3, 0.35)):
        ax.fill_between(steps, q[low], q[high], color="tab:blue", alpha=alpha, linewidth=0)
    ax.plot(steps, q[2], color="tab:blue", linewidth=1)
    ax.tick_params(labelsize=6)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.yaxis.get_offset_text().set_fontsize(6)


def steps_figure(snapshots: Sequence[Snapshot]) -> Figure | None:
    """Gradient norm and update-to-weight ratio of each layer by step, and the fractions of dead and saturated units by depth;
    None with fewer than two snapshots.
    """
    snapshots = [s for s in snapshots if s["weights"]]
    if len(snapshots) < 2:
        return None
    figure = canvas(12, 3.2)
    norm, ratio, units = figure.subplots(1, 3)
    norm.plot([s["step"] for s in snapshots], [s["grad_norm"] for s in snapshots], color="tab:blue")
    norm.set(title="gradient norm", xlabel="step", yscale="log")
    _update_ratios(ratio, snapshots)
    last = snapshots[-1]["activations"]
    for name, marker in (("dead", "o"), ("saturated", "s")):
        points = [(i, layer[name]) for i, layer in enumerate(last) if layer.get(name) is not None]
        if points:
            units.plot(*zip(*points, strict=True), marker=marker, linestyle="-", label=name)
    units.set(title="units at the end, by depth", xlabel="nonlinearity", ylabel="fraction", ylim=(-0.02, 1.02))
    for ax in (norm, ratio, units):
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=7)
    return figure


def _update_ratios(ax: Axes, snapshots: Sequence[Snapshot]) -> None:
    """Plot the update-to-weight ratio of each layer, dark for the first and bright for the last."""
    import matplotlib as mpl

    colors = mpl.colormaps["viridis"]
    last = snapshots[-1]["weights"]
    depth = max(len(s["weights"]) for s in snapshots)
    for i in range(depth):
        points = [(s["step"], s["weights"][i]["update_ratio"]) for s in snapshots if i < len(s["weights"])]
        points = [(step, value) for step, value in points if value]
        if points:
            label = last[i]["tag"] if i in (0, depth - 1) and i < len(last) else None
            ax.plot(*zip(*points, strict=True), color=colors(i / max(depth - 1, 1)), linewidth=1, label=label)
    ax.axhline(1e-3, color="gray", linestyle=":", linewidth=1)
    ax.set(title="update-to-weight ratio (1e-3 is usual)", xlabel="step", yscale="log")
