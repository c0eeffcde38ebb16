"""Plots of what limits a config: the error by the amount of training data, bias and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.analysis.bias_variance import COMPONENTS, Decomposition
from trainer.analysis.learning_curve import LearningCurve
from trainer.report.figures import percent_ticks
from trainer.report.layout import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"bias": "tab:blue", "data": "tab:orange", "seed": "tab:green"}
LABELS = {"bias": "bias and\nlabel noise", "data": "variance over\ntraining sets", "seed": "variance over\nseeds"}


def learning_curve_figure(curve: LearningCurve, label: str, in_percent: bool) -> Figure:
    """The error of each network by the number of training images, the fitted power law, and its extrapolation to twice as many.

    Args:
        curve: The learning curve.
        label: Of the error.
        in_percent: Whether it is a fraction.
    """
    figure = canvas(7.2, 4.5)
    axes = figure.subplots()
    for size, errors in zip(curve.sizes, curve.errors, strict=True):
        axes.plot([size] * len(errors), errors, "o", color="tab:blue", alpha=0.4, markersize=4)
    axes.plot(curve.sizes, curve.means, "_", color="tab:blue", markersize=14, label="mean over the seeds")
    measured, beyond = np.geomspace(curve.sizes[0], curve.sizes[-1]), np.geomspace(curve.sizes[-1], 2 * curve.sizes[-1])
    law = curve.law
    text = f"{law.floor:.3g} + {law.scale:.3g} · n^(−{law.exponent:.2g})"
    axes.plot(measured, [law.at(n) for n in measured], color="tab:gray", label=text)
    axes.plot(beyond, [law.at(n) for n in beyond], ":", color="tab:gray")
    reach = [[max(curve.twice - curve.low, 0.0)], [max(curve.high - curve.twice, 0.0)]]
    axes.errorbar(
        [beyond[-1]],
        [curve.twice],
        reach,
        fmt="D",
        color="tab:red",
        capsize=4,
        label="extrapolated, 95 % over the seeds",
    )
    axes.plot([curve.sizes[-1]], [curve.predicted], "x", color="tab:red", label="predicted by the smaller sizes")
    axes.set_xscale("log", base=2)
    ticks = [*curve.sizes, 2 * curve.sizes[-1]]
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.set(xlabel="training images", ylabel=label, ylim=(0, None))
    if in_percent:
        axes.yaxis.set_major_formatter(percent_ticks())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def bias_variance_figure(result: Decomposition, label: str) -> Figure:
    """The components of the squared error with their 95 % intervals, and the error that is their sum."""
    figure = canvas(6.4, 4)
    axes = figure.subplots()
    for place, name in enumerate(COMPONENTS):
        part = result.components[name]
        axes.bar(place, part.mean, 0.6, color=COLORS[name])
        if np.isfinite(part.half):
            axes.errorbar(place, part.mean, [[min(part.half, part.mean)], [part.half]], color="black", capsize=4)
    axes.bar(len(COMPONENTS), result.error, 0.6, color="tab:gray")
    axes.set_xticks(range(len(COMPONENTS) + 1), [*(LABELS[name] for name in COMPONENTS), "sum"])
    axes.set(ylabel=label, ylim=(0, None))
    axes.grid(alpha=0.3, axis="y")
    return figure


def shares(result: Decomposition) -> Sequence[float]:
    """The fraction of each component in the error; of no error, 0."""
    return [result.components[name].mean / result.error if result.error else 0.0 for name in COMPONENTS]
