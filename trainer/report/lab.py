"""Pictures of what is done before and after training: the range test, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.report.figures import canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from trainer.rates import Reading


def range_picture(
    rates: Sequence[float], losses: Sequence[float], line: Sequence[float], reading: Reading | None, scale: str
) -> Figure:
    """Loss of each batch against its rate, the smooth line through it, and the suggested rates with their ranges."""
    figure = canvas(8, 4.5)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:gray", markersize=4, alpha=0.6, label="loss of a batch")
    axes.plot(rates, line, color="tab:blue", label="smoothed")
    if reading is not None:
        colors = {"floor": "tab:green", "fixed": "tab:orange", "peak": "tab:red"}
        for name, color in colors.items():
            rate = getattr(reading, name)
            low, high = reading.ranges.get(name, (rate, rate))
            axes.axvspan(low, high, color=color, alpha=0.12, linewidth=0)
            axes.axvline(rate, color=color, linestyle="--", label=f"{name} {rate:.3g} ({low:.2g} to {high:.2g})")
    top = max(losses[: max(3, len(losses) // 10)])
    axes.set(
        xlabel="learning rate", ylabel="loss, nats", ylim=(min(0.9 * min(line), min(losses)), 1.5 * top),
        xscale="log" if scale == "exponential" else "linear",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure
