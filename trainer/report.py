"""Pictures and pages from saved histories: nothing here needs the run that made them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

PANELS = (("loss", "cross-entropy, nats"), ("accuracy", "share of pictures"), ("lr", "learning rate"))
SERIES = {"train": "tab:blue", "validation": "tab:orange", "averaged": "tab:green"}


def write_report(folder: Path) -> Path:
    """Write ``report.md`` with its pictures from a run folder's history.jsonl, result.json and overrides.txt."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    overrides = (folder / "overrides.txt").read_text().split("\n")
    if rows:
        picture = folder / "report" / "curves.png"
        picture.parent.mkdir(exist_ok=True)
        curves(rows).savefig(picture, dpi=110)
    path = folder / "report.md"
    path.write_text(page(rows, result, [o for o in overrides if o]))
    return path


def page(rows: list[dict[str, Any]], result: dict[str, Any], overrides: list[str]) -> str:
    """The report as Markdown: how it ended, the scores, the curves, every epoch, the command."""
    lines = [f"# {' '.join(overrides) or 'the default run'}", "", f"{result['stop_reason']}."]
    lines += ["", "| | accuracy | loss |", "|---|---|---|"]
    places = [("best", result), ("averaged", result.get("averaged") or {}), ("last", result.get("last") or {})]
    for name, place in places:
        for part in ("validation", "test"):
            if scores := place.get(part):
                lines.append(f"| {name}, {part} | {_number(scores.get('accuracy'))} | {_number(scores.get('loss'))} |")
    epochs = f"Best epoch {result.get('best_epoch')}, last epoch {result.get('last_epoch')}"
    speed = f"{result.get('seconds', 0):.1f} s of training, {result.get('images_per_second', 0):,.0f} images per second"
    lines += ["", f"{epochs}, {speed}."]
    if rows:
        columns = [c for c in rows[-1] if c not in ("phase", "step")]
        lines += ["", "![loss, accuracy and rate by epoch](report/curves.png)", ""]
        lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(_number(row.get(c)) for c in columns)} |" for row in rows]
    return "\n".join([*lines, "", f"    train {' '.join(shlex.quote(o) for o in overrides)}".rstrip(), ""])


def schedule_picture(rates: tuple[list[float], list[float], list[float | None]]) -> Figure:
    """The rate by time in epochs, and the momentum below it where the schedule moves it."""
    times, values, momenta = rates
    moved = any(m is not None for m in momenta)
    figure = _figure(8, 5 if moved else 3)
    axes = figure.subplots(1 + moved, 1, sharex=True, squeeze=False)[:, 0]
    for ax, series, name in zip(axes, (values, momenta), ("learning rate", "momentum"), strict=False):
        ax.plot(times, series, color="tab:blue")
        ax.set(ylabel=name)
        ax.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    return figure


def batch_picture(before: np.ndarray, after: np.ndarray, names: list[str]) -> Figure:
    """Pictures (N, H, W, C) in 0..1 before augmentation above, after it below, named by class."""
    figure = _figure(1.3 * len(before) + 0.6, 3)
    axes = figure.subplots(2, len(before), squeeze=False)
    for row, pictures in enumerate((before, after)):
        for column, image in enumerate(pictures):
            ax = axes[row, column]
            ax.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(names[column], fontsize=9)
        axes[row, 0].set_ylabel(("as read", "as trained on")[row], fontsize=9)
    return figure


def _figure(width: float, height: float) -> Figure:
    """A figure that belongs to no global state, so that reports can be drawn anywhere."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(rows: list[dict[str, Any]]) -> Figure:
    """Loss, accuracy and rate by epoch, training and validation on one chart."""
    figure = _figure(12, 3.6)
    epochs = total_epochs(rows)
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


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
