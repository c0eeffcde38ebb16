"""Pictures from plain values: nothing here needs the run they are of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

PANELS = (("loss", "cross-entropy, nats"), ("accuracy", "share of pictures"), ("lr", "learning rate"))
SERIES = {"train": "tab:blue", "validation": "tab:orange", "averaged": "tab:green"}


def schedule_figure(rates: tuple[list[float], list[float], list[float | None]]) -> Figure:
    """The rate by time in epochs, and the momentum below it where the schedule moves it."""
    times, values, momenta = rates
    moved = any(m is not None for m in momenta)
    figure = canvas(8, 5 if moved else 3)
    axes = figure.subplots(1 + moved, 1, sharex=True, squeeze=False)[:, 0]
    for ax, series, name in zip(axes, (values, momenta), ("learning rate", "momentum"), strict=False):
        ax.plot(times, series, color="tab:blue")
        ax.set(ylabel=name)
        ax.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    return figure


def batch_figure(before: np.ndarray, after: np.ndarray, names: list[str]) -> Figure:
    """Pictures (N, H, W, C) in 0..1 before augmentation above, after it below, named by class."""
    import numpy as np

    return sheet(
        np.concatenate([before, after]), [*names, *[""] * len(after)], len(before), ("as read", "as trained on")
    )


def sheet(pictures: np.ndarray, texts: list[str], across: int, rows: tuple[str, ...] = ()) -> Figure:
    """Pictures (N, H, W, C) in 0..1 in lines of ``across``, each under its text, the lines named by ``rows``: one drawing,
    because a frame for each picture takes twenty times as long.
    """
    import numpy as np

    n, h, w, c = pictures.shape
    down, above = math.ceil(n / across), 0.15 * h * max((t.count("\n") + 1 for t in texts if t), default=0)
    step_x, step_y = 1.08 * w, h * 1.08 + above
    figure = canvas(1.25 * across + 0.5, 1.25 * down * step_y / step_x + 0.2)
    axes = figure.subplots()
    for i, image in enumerate(pictures):
        x, y = (i % across) * step_x, (i // across) * step_y
        shown = np.broadcast_to(image, (h, w, 3)) if c == 1 else image
        axes.imshow(shown, extent=(x, x + w, y + h, y), interpolation="nearest" if h < 100 else None)
        axes.text(x + w / 2, y - 0.06 * h, texts[i], ha="center", va="bottom", fontsize=7)
    for i, name in enumerate(rows):
        axes.text(-0.08 * w, i * step_y + h / 2, name, ha="right", va="center", rotation=90, fontsize=8)
    axes.set(xlim=(-0.25 * w if rows else -2, across * step_x), ylim=(down * step_y - above, -above - 0.1 * h))
    axes.set_axis_off()
    return figure


def canvas(width: float, height: float) -> Figure:
    """A figure that belongs to no global state, so that reports can be drawn anywhere."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(rows: list[dict[str, Any]]) -> Figure:
    """Loss, accuracy and rate by epoch, training and validation on one chart."""
    figure = canvas(12, 3.6)
    epochs = total_epochs(rows)
    axes: Any
    for axes, (name, unit) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        columns = {"": name} if name == "lr" else {split: f"{split}_{name}" for split in SERIES}
        for split, column in columns.items():
            pairs = [(e, r[column]) for e, r in zip(epochs, rows, strict=True) if r.get(column) is not None]
            if pairs:
                axes.plot(
                    *zip(*pairs, strict=True), marker=".", label=split or name, color=SERIES.get(split, "tab:gray")
                )
        axes.set(xlabel="epoch", ylabel=unit, title=name)
        axes.grid(alpha=0.3)
        if name != "lr" and axes.lines:
            axes.legend(frameon=False)
    return figure


def total_epochs(rows: list[dict[str, Any]]) -> list[float]:
    """Each row's time in epochs since the run began, over all its phases.

    >>> total_epochs([{"phase": "head", "epoch": 1.0}, {"phase": "all", "epoch": 1.0}, {"phase": "all", "epoch": 2.0}])
    [1.0, 2.0, 3.0]
    """
    before, times = 0.0, []
    for i, row in enumerate(rows):
        if i and row["phase"] != rows[i - 1]["phase"]:
            before += rows[i - 1]["epoch"]
        times.append(before + row["epoch"])
    return times


def confusion_figure(confusion: np.ndarray, classes: list[str]) -> Figure:
    """True classes down, predicted ones across, each row as shares of its class; counts where there is room."""
    k = len(classes)
    shares = confusion / confusion.sum(1, keepdims=True).clip(1)
    side = max(3.2, min(0.42 * k + 1.6, 14))
    figure = canvas(side + 0.8, side)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="share of the true class")
    if k <= 25:
        for i in range(k):
            for j in range(k):
                if confusion[i, j]:
                    color = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, str(int(confusion[i, j])), ha="center", va="center", fontsize=7, color=color)
    ticks = range(k) if k <= 40 else range(0, k, math.ceil(k / 40))
    axes.set_xticks(list(ticks), [classes[i] for i in ticks], rotation=90, fontsize=7)
    axes.set_yticks(list(ticks), [classes[i] for i in ticks], fontsize=7)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def highest_loss_figure(pictures: np.ndarray, texts: list[str]) -> Figure:
    """Pictures (N, H, W, C) in 0..1, each under its text."""
    return sheet(pictures, texts, min(len(pictures), 8))


def distributions_figure(snapshots: list[dict[str, Any]], most: int = 6) -> Figure | None:
    """Activations above, gradients below, of up to ``most`` layers from stem to head: median, 68 % and 95 % by step."""
    snapshots = [look for look in snapshots if look["activations"] or look["weights"]]
    if len(snapshots) < 2:
        return None
    last = snapshots[-1]
    kinds = [("activations", "quantiles"), ("weights", "grad_quantiles")]
    kinds = [(kind, key) for kind, key in kinds if last[kind]]
    picks = {
        kind: sorted({round(i * (len(last[kind]) - 1) / max(most - 1, 1)) for i in range(most)}) for kind, _ in kinds
    }
    across = max(len(p) for p in picks.values())
    figure = canvas(2.3 * across + 0.4, 2.1 * len(kinds) + 0.3)
    grid = figure.subplots(len(kinds), across, squeeze=False, sharex=True)
    for ax in grid.flat:
        ax.set_axis_off()
    for row, (kind, key) in zip(grid, kinds, strict=True):
        for ax, index in zip(row, picks[kind], strict=False):
            there = [look for look in snapshots if index < len(look[kind])]
            steps, bands = [look["step"] for look in there], [look[kind][index][key] for look in there]
            q = list(zip(*bands, strict=True))
            ax.set_axis_on()
            for low, high, alpha in ((0, 4, 0.2), (1, 3, 0.35)):
                ax.fill_between(steps, q[low], q[high], color="tab:blue", alpha=alpha, linewidth=0)
            ax.plot(steps, q[2], color="tab:blue", linewidth=1)
            ax.set_title(last[kind][index]["tag"], fontsize=7)
            ax.tick_params(labelsize=6)
            ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
            ax.yaxis.get_offset_text().set_fontsize(6)
        row[0].set_ylabel("activations" if kind == "activations" else "gradients", fontsize=8)
    return figure


def steps_figure(snapshots: list[dict[str, Any]]) -> Figure | None:
    """By step: the gradient's norm, each layer's update-to-weight ratio, the shares of dead or saturated units."""
    import matplotlib as mpl

    snapshots = [look for look in snapshots if look["weights"]]
    if len(snapshots) < 2:
        return None
    figure = canvas(12, 3.2)
    norm, ratio, share = figure.subplots(1, 3)
    norm.plot([look["step"] for look in snapshots], [look["grad_norm"] for look in snapshots], color="tab:blue")
    norm.set(title="norm of the gradient", xlabel="step", yscale="log")
    color = mpl.colormaps["viridis"]
    depth = max(len(look["weights"]) for look in snapshots)
    for i in range(depth):
        pairs = [(look["step"], look["weights"][i]["update_ratio"]) for look in snapshots if i < len(look["weights"])]
        pairs = [(s, v) for s, v in pairs if v]
        if pairs:
            label = (
                snapshots[-1]["weights"][i]["tag"]
                if i in (0, depth - 1) and i < len(snapshots[-1]["weights"])
                else None
            )
            ratio.plot(*zip(*pairs, strict=True), color=color(i / max(depth - 1, 1)), linewidth=1, label=label)
    ratio.axhline(1e-3, color="gray", linestyle=":", linewidth=1)
    ratio.set(title="update-to-weight ratio (1e-3 is usual)", xlabel="step", yscale="log")
    last = snapshots[-1]["activations"]
    for name, marker in (("dead", "o"), ("saturated", "s")):
        pairs = [(i, layer[name]) for i, layer in enumerate(last) if layer.get(name) is not None]
        if pairs:
            share.plot(*zip(*pairs, strict=True), marker=marker, linestyle="-", label=name)
    share.set(title="units at the end, by depth", xlabel="non-linearity", ylabel="share", ylim=(-0.02, 1.02))
    for ax in (norm, ratio, share):
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=7)
    return figure


def comparison_figure(groups: list[tuple[str, list[list[dict[str, Any]]], list[float]]], metric: str) -> Figure:
    """Validation loss and accuracy of groups of runs (label, histories, scores) laid over each other, mean and range over the
    runs of a group; beside them the scores, each run a point.
    """
    figure = canvas(13, max(3.6, 0.22 * len(groups) + 2.6))
    loss, accuracy, points = figure.subplots(1, 3)
    colors = [f"C{i % 10}" for i in range(len(groups))]
    for (label, histories, scores), color in zip(groups, colors, strict=True):
        for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
            _band(ax, [h for h in histories if h], name, label, color)
        points.plot(scores, [label[:60]] * len(scores), "o", color=color, alpha=0.6, markersize=5)
        if scores:
            points.plot([sum(scores) / len(scores)], [label[:60]], "|", color=color, markersize=16)
    for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
        ax.set(xlabel="epoch", title=f"validation {name}")
        ax.grid(alpha=0.3)
    points.set(title=metric)
    points.invert_yaxis()
    points.tick_params(axis="y", labelsize=7)
    points.grid(alpha=0.3)
    return figure


def _band(ax: Any, histories: list[list[dict[str, Any]]], name: str, label: str, color: str) -> None:
    """Mean and range of a column over runs, as far as all of them went."""
    part = "validation" if any(f"validation_{name}" in h[0] for h in histories) else "train"
    length = min((len(h) for h in histories), default=0)
    lines = [[row.get(f"{part}_{name}") for row in h[:length]] for h in histories]
    lines = [line for line in lines if all(v is not None for v in line)]
    if not lines or not length:
        return
    epochs, columns = total_epochs(histories[0])[:length], list(zip(*lines, strict=True))
    ax.plot(epochs, [sum(c) / len(c) for c in columns], color=color, label=label)
    if len(lines) > 1:
        ax.fill_between(
            epochs, [min(c) for c in columns], [max(c) for c in columns], color=color, alpha=0.2, linewidth=0
        )
