"""The terminal: bars and a growing table where somebody watches, plain lines where the output goes to a file."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer
from trainer.run_dir import terminal

if TYPE_CHECKING:
    from trainer.engine.run import Run

COLUMNS = ("epoch", "rate", "train loss", "train acc", "val loss", "val acc", "avg acc", "images/s", "seconds")


@dataclass
class Console(Observer):
    """Bars of the epochs and of the batches with loss, accuracy, rate, images per second and time left, refreshed every
    ``every`` seconds; one line per epoch. Not on a terminal: plain lines, and one within long epochs each ``plain_every``
    seconds. Reading the loss waits for the device, which is why it is not done at every step.
    """

    every: float = 0.2
    plain_every: float = 30.0

    def __post_init__(self) -> None:
        check(
            self,
            every=(self.every > 0, "must be > 0 seconds"),
            plain_every=(self.plain_every > 0, "must be > 0 seconds"),
        )

    def on_fit_start(self, run: Run) -> None:
        from trainer.architectures.layers import count_parameters

        # What a notebook starts with ! believes to have a terminal, which shows every frame of the bars below the last one.
        no = False if "JPY_PARENT_PID" in os.environ else None
        self.terminal = terminal(soft_wrap=True, force_terminal=no, force_jupyter=no)
        self.live = self.terminal.is_terminal
        self.next = time.monotonic() + (self.every if self.live else self.plain_every)
        self.began, self.done_before = time.monotonic(), run.clock.step
        say = self.terminal.print
        sizes = ", ".join(f"{n:,} {name}" for name, n in image_counts(run).items())
        say(f"{count_parameters(run.model):,} parameters · {sizes} · {len(run.info.classes)} classes", markup=False)
        for note in run.notes:
            say(note, markup=False)
        if run.folder is not None:
            say(f"in {run.folder}", markup=False)
        if len(run.history):
            say(f"goes on after {len(run.history)} epochs, {run.clock.step} steps", markup=False)
        say(heading(run), markup=False, style="bold" if self.live else None)
        for i, row in enumerate(run.history):
            say(line(run, row, i), markup=False)
        if self.live:
            self._start_bars(run)

    def _start_bars(self, run: Run) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
        )
        # Its own thread would take the interpreter from the training; it is refreshed from the step instead.
        self.bars = Progress(*columns, console=self.terminal, auto_refresh=False, transient=True)
        self.all_reduced = self.bars.add_task("run", total=run.total_steps, completed=run.clock.step, text="")
        self.part = self.bars.add_task("epoch", total=run.steps_of_epoch, text="")
        self.bars.start()

    def on_step_end(self, run: Run) -> None:
        self._news(run)
        now = time.monotonic()
        if now < self.next:
            return
        means = run.sums.means()
        speed = (
            (run.clock.step - self.done_before) * run.train.num_images / len(run.train) / max(now - self.began, 1e-9)
        )
        if not self.live:
            self.next = now + self.plain_every
            share = f"{run.clock.batch}/{run.steps_of_epoch} batches"
            print(
                f"  {share}  loss {means['loss']:.4f}  accuracy {means['accuracy']:.4f}  rate {run.lr:.3g}", flush=True
            )
            return
        trend = sparkline([row["train_loss"] for row in run.history], 12)
        text = (
            f"loss {means['loss']:.4f}  acc {means['accuracy']:.4f}  rate {run.lr:.2e}  {speed:,.0f} images/s  {trend}"
        )
        epoch = f"epoch {len(run.history) + 1}"
        self.bars.update(self.part, completed=run.clock.batch, total=run.steps_of_epoch, text=text, description=epoch)
        self.bars.update(
            self.all_reduced, completed=run.clock.step, total=run.total_steps, text=f"step {run.clock.step}"
        )
        self.bars.refresh()
        self.next = time.monotonic() + self.every  # a slow terminal is not asked again at once

    def _news(self, run: Run) -> None:
        """What cannot wait."""
        for text in run.news:
            self.terminal.print(text, markup=False, style="bold red" if self.live else None)
        run.news.clear()

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        self._news(run)
        text = line(run, row, len(run.history) - 1)
        if self.live:
            self.bars.console.print(text, markup=False)
            self.bars.update(self.part, completed=0)
        else:
            print(text, flush=True)
        self.next = 0.0 if self.live else time.monotonic() + self.plain_every

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if self.live:
            self.bars.stop()
        for text in closing(run, result):
            self.terminal.print(text, markup=False)
        sys.stdout.flush()


def image_counts(run: Run) -> dict[str, int]:
    """How many pictures each part has."""
    parts = {"training": run.train, "validation": run.validation, "test": run.test}
    return {name: part.num_images for name, part in parts.items() if part is not None}


def heading(run: Run) -> str:
    """The head of the table of epochs."""
    return "".join(f"{name:>11}" for name in shown(run))


def shown(run: Run) -> list[str]:
    """The columns that this run has values for."""
    without = set() if run.averaged is not None else {"avg acc"}
    if run.validation is None:
        without |= {"val loss", "val acc", "avg acc"}
    return [name for name in COLUMNS if name not in without]


def line(run: Run, row: dict[str, Any], index: int) -> str:
    """One epoch as a line of the table; a star marks the best so far."""
    value = {
        "epoch": f"{row['epoch']:g}" if len(run.phases) == 1 else f"{row['phase']} {row['epoch']:g}",
        "rate": f"{row['lr']:.2e}",
        "train loss": f"{row['train_loss']:.4f}",
        "train acc": f"{100 * row['train_accuracy']:.2f} %",
        "images/s": f"{row['images_per_second']:,.0f}",
        "seconds": f"{row['seconds']:.1f}",
    }
    for name, column in (
        ("val loss", "validation_loss"),
        ("val acc", "validation_accuracy"),
        ("avg acc", "averaged_accuracy"),
    ):
        found = row.get(column)
        if found is not None:
            value[name] = f"{found:.4f}" if "loss" in name else f"{100 * found:.2f} %"
    star = " *" if run.best is not None and run.best["row"] == index else ""
    return "".join(f"{value.get(name, ''):>11}" for name in shown(run)) + star


def sparkline(values: list[float], width: int) -> str:
    """The values' course in ``width`` characters or fewer, each the mean of its share of them; empty below two values.

    >>> sparkline([3.0, 2.0, 1.0, 0.0], 8), sparkline([1.0], 8)
    ('█▆▃▁', '')
    """
    values = [v for v in values if v is not None and math.isfinite(v)]
    if len(values) < 2:
        return ""
    width = min(width, len(values))
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (m - low) / (high - low or 1))] for m in means)


def trends(run: Run) -> list[str]:
    """The course of loss and accuracy over the epochs, as one line; none where the terminal knows no such characters."""
    part = "validation" if run.validation is not None else "train"
    found = []
    for name in ("loss", "accuracy"):
        values = run.history.column(f"{part}_{name}")
        if line := sparkline(values, 30):
            found.append(f"{part} {name} {values[0]:.4g} {line} {values[-1]:.4g}")
    try:
        "".join(found).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return []
    return ["   ".join(found)] if found else []


def closing(run: Run, result: dict[str, Any]) -> list[str]:
    """How the run ended, and what to type next."""
    watched = result.get("watching_seconds")
    cost = f"; observers took {watched:.1f} s, {100 * result['watching_share']:.1f} %" if watched is not None else ""
    lines = [f"{result['stop_reason']}, after {result['seconds']:.1f} s of training{cost}", *trends(run)]
    for part in ("validation", "test"):
        scores = result.get(part)
        if scores and scores.get("accuracy") is not None:
            which = f"epoch {result['best_epoch']:g}, the best" if "best_epoch" in result else "now"
            averaged = ((result.get("averaged") or {}).get(part) or {}).get("accuracy")
            more = f" · averaged weights {100 * averaged:.2f} %" if averaged is not None else ""
            lines.append(
                f"{part}: accuracy {100 * scores['accuracy']:.2f} %, loss {scores['loss']:.4f} ({which}){more}"
            )
    for found in result.get("findings") or []:
        lines.append(f"{found['name']}: {found['evidence']}")
        lines.append(f"  {found['meaning']}")
        if found["attempt"]:
            lines.append(f"  Try {' or '.join(found['attempt'])}")
    if result["status"] == "interrupted" and run.folder is not None:
        lines.append(f"go on with: train resume={run.folder}")
    return lines
