"""Plot of an LR range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from trainer.analysis.lr_range import MIN_STEPS, NoDescent, Suggestion, smooth, suggest_lr
from trainer.records import read_table
from trainer.report.layout import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.03  # as job.smoothing of job=range_test
COLORS = {"min_lr": "tab:green", "suggested_lr": "tab:orange", "max_lr": "tab:red"}


def saved_range_figure(file: Path) -> Figure | None:
    """The plot of an LR range test of a run, from its ``range_test.json``; None if that is damaged or too short."""
    content = read_table(file)
    lrs, losses = (numbers(content.get(key)) for key in ("lr", "loss"))
    if len(lrs) != len(losses) or len(losses) < MIN_STEPS:
        return None
    try:
        suggestion = suggest_lr(lrs, losses, SMOOTHING)
    except NoDescent:
        suggestion = None
    return lr_range_figure(lrs, losses, smooth(losses, SMOOTHING * len(losses)).tolist(), suggestion, "exponential")


def numbers(value: object) -> list[float]:
    """A list of numbers from a file; empty if it is not one.

    >>> numbers([1, 0.5]), numbers([1, None]), numbers("1")
    ([1, 0.5], [], [])
    """
    values = cast(list[object], value) if isinstance(value, list) else []
    return [v for v in values if isinstance(v, int | float)] if all(isinstance(v, int | float) for v in values) else []


def lr_range_figure(
    lrs: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: Suggestion | None,
    scale: str,
) -> Figure:
    """Loss of each batch by learning rate, the smoothed loss, and the suggested learning rates with their ranges."""
    figure = canvas(8, 4.5)
    axes = figure.subplots()
    axes.plot(lrs, losses, ".", color="tab:gray", markersize=4, alpha=0.6, label="loss of a batch")
    axes.plot(lrs, smoothed, color="tab:blue", label="smoothed")
    if suggestion is not None:
        for name, color in COLORS.items():
            lr = getattr(suggestion, name)
            low, high = suggestion.ranges.get(name, (lr, lr))
            axes.axvspan(low, high, color=color, alpha=0.12, linewidth=0)
            axes.axvline(lr, color=color, linestyle="--", label=f"{name} {lr:.3g} ({low:.2g} to {high:.2g})")
    top = max(losses[: max(3, len(losses) // 10)])
    axes.set(
        xlabel="learning rate",
        ylabel="loss, nats",
        ylim=(min(0.9 * min(smoothed), min(losses)), 1.5 * top),
        xscale="log" if scale == "exponential" else "linear",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure
