"""Pictures of what is done before and after training: the range test, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.report.figures import canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from trainer.analysis.lr_range import Reading


def lr_range_figure(
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


def reliability_figure(bins: Sequence[dict[str, float]], error: float) -> Figure:
    """Accuracy against confidence (Guo et al. 2017): on the diagonal a network is as often right as it says."""
    figure = canvas(4.6, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width, total = 1 / 15, sum(row["pictures"] for row in bins)
    x = [row["confidence"] for row in bins]
    upper.plot((0, 1), (0, 1), ":", color="tab:gray")
    upper.bar(x, [row["accuracy"] for row in bins], width, color="tab:blue", alpha=0.7, label="accuracy")
    upper.plot(x, x, "_", color="tab:red", markersize=12, label="confidence")
    upper.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02), title=f"calibration error {100 * error:.2f} %")
    upper.legend(frameon=False, loc="upper left")
    lower.bar(x, [row["pictures"] / total for row in bins], width, color="tab:gray")
    lower.set(xlabel="confidence", ylabel="pictures", ylim=(0, 1))
    return figure
