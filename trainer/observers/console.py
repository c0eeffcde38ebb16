"""Progress in the terminal: bars and a growing table, or plain lines if the output is not a terminal."""

from __future__ import annotations

import math
import os
import sys
import time
from itertools import pairwise

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.architectures.layers import count_parameters
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.formats import Result, Row, number_at
from trainer.observers.context import Context
from trainer.observers.options import Console
from trainer.run_dir import terminal

COLUMNS = ("epoch", "lr", "train loss", "train acc", "val loss", "val acc", "avg acc", "images/s", "seconds")


class ConsoleObserver(Observer):
    """Prints one line per epoch, and progress within it.

    In a terminal, bars show loss, accuracy, learning rate, images per second and time left, refreshed every ``every``
    seconds. Otherwise, a line is printed every ``plain_every`` seconds in long epochs. Not every step is shown, because
    reading the loss waits for the device.
    """

    def __init__(self, option: Console, context: Context) -> None:
        self.alert = context.alert
        # The output of a notebook's ! commands claims to be a terminal, but shows every frame of the bars below the last one.
        forced = False if "JPY_PARENT_PID" in os.environ else None
        self.terminal = terminal(soft_wrap=True, force_terminal=forced, force_jupyter=forced)
        self.live = self.terminal.is_terminal
        self.interval = option.every if self.live else option.plain_every

    def on_fit_start(self, view: RunView) -> None:
        self.next_update = time.monotonic() + self.interval
        self.started, self.steps_before = time.monotonic(), view.step
        sizes = ", ".join(f"{n:,} {name}" for name, n in image_counts(view).items())
        self._print(f"{count_parameters(view.model):,} parameters · {sizes} · {len(view.info.classes)} classes")
        for note in view.notes:
            self._print(note)
        if view.folder is not None:
            self._print(f"run directory: {view.folder}")
        if view.epochs_done:
            self._print(f"resuming after {view.epochs_done} epochs, {view.step} steps")
        self.terminal.print(heading(view), markup=False, style="bold" if self.live else None)
        for i, row in enumerate(view.history):
            self._print(line(view, row, i))
        if self.live:
            self._start_bars(view)

    def _print(self, text: str) -> None:
        self.terminal.print(text, markup=False)

    def _print_alert(self, text: str) -> None:
        self.terminal.print(text, markup=False, style="bold red")

    def _start_bars(self, view: RunView) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
        )
        # Refreshed from the step, because a thread of its own would take the interpreter from the training.
        self.bars = Progress(*columns, console=self.terminal, auto_refresh=False, transient=True)
        self.run_bar = self.bars.add_task("run", total=view.total_steps, completed=view.step, text="")
        self.epoch_bar = self.bars.add_task("epoch", total=view.steps_in_epoch, text="")
        self.bars.start()
        self.alert.display = self._print_alert

    def on_step_end(self, view: RunView) -> None:
        now = time.monotonic()
        if now < self.next_update:
            return
        metrics = view.running_metrics()
        if self.live:
            self._update_bars(view, metrics, now)
        else:
            progress = f"{view.batch_index}/{view.steps_in_epoch} batches"
            scores = f"loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.4f}"
            print(f"  {progress}  {scores}  lr {view.lr:.3g}", flush=True)
        self.next_update = time.monotonic() + self.interval  # counted from here, so that a slow terminal gets a rest

    def _update_bars(self, view: RunView, metrics: dict[str, float], now: float) -> None:
        images = (view.step - self.steps_before) * view.train.num_images / len(view.train)
        speed = images / max(now - self.started, 1e-9)
        trend = sparkline(view.history.column("train_loss"), 12)
        scores = f"loss {metrics['loss']:.4f}  acc {metrics['accuracy']:.4f}"
        text = f"{scores}  lr {view.lr:.2e}  {speed:,.0f} images/s  {trend}"
        self.bars.update(
            self.epoch_bar,
            completed=view.batch_index,
            total=view.steps_in_epoch,
            text=text,
            description=f"epoch {view.epochs_done + 1}",
        )
        self.bars.update(self.run_bar, completed=view.step, total=view.total_steps, text=f"step {view.step}")
        self.bars.refresh()

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        text = line(view, row, view.epochs_done - 1)
        if self.live:
            self._print(text)
            self.bars.update(self.epoch_bar, completed=0)
            self.next_update = 0.0
        else:
            print(text, flush=True)
            self.next_update = time.monotonic() + self.interval

    def on_fit_end(self, view: RunView, result: Result) -> None:
        if self.live:
            self.alert.display = None
            self.bars.stop()

    def on_result(self, view: RunView, result: Result) -> None:
        for text in summary_lines(view, result):
            self._print(text)
        sys.stdout.flush()


def image_counts(view: RunView) -> dict[str, int]:
    """Number of images in each split."""
    names = {"train": "training", "validation": "validation", "test": "test"}
    return {names[split]: loader.num_images for split, loader in view.loaders.items()}


def heading(view: RunView) -> str:
    """The head of the table of epochs."""
    return "".join(f"{name:>11}" for name in columns(view))


def columns(view: RunView) -> list[str]:
    """The columns that this run has values for."""
    missing = set() if view.averaged is not None else {"avg acc"}
    if view.validation is None:
        missing |= {"val loss", "val acc", "avg acc"}
    return [name for name in COLUMNS if name not in missing]


def line(view: RunView, row: Row, index: int) -> str:
    """A row of the history as a line of the table; a star marks the best so far."""
    values = {
        "epoch": f"{row['epoch']:g}" if len(view.phases) == 1 else f"{row['phase']} {row['epoch']:g}",
        "lr": f"{row['lr']:.2e}",
        "images/s": f"{row['images_per_second']:,.0f}",
        "seconds": f"{row['seconds']:.1f}",
    }
    for name, column in (
        ("train loss", "train_loss"),
        ("train acc", "train_accuracy"),
        ("val loss", "validation_loss"),
        ("val acc", "validation_accuracy"),
        ("avg acc", "averaged_accuracy"),
    ):
        value = row.get(column)
        if value is not None:
            values[name] = f"{value:.4f}" if "loss" in name else f"{100 * value:.2f} %"
    star = " *" if view.best is not None and view.best["row"] == index else ""
    return "".join(f"{values.get(name, ''):>11}" for name in columns(view)) + star


def sparkline(values: list[float], width: int) -> str:
    """The trend of the values in at most ``width`` characters, each the mean of its part; empty for fewer than two values.

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


def trends(view: RunView) -> list[str]:
    """The trends of loss and accuracy over the epochs as one line; none if the terminal cannot show the characters."""
    split = "validation" if view.validation is not None else "train"
    texts = []
    for name in ("loss", "accuracy"):
        values = view.history.column(f"{split}_{name}")
        if trend := sparkline(values, 30):
            texts.append(f"{split} {name} {values[0]:.4g} {trend} {values[-1]:.4g}")
    try:
        "".join(texts).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return []
    return ["   ".join(texts)] if texts else []


def summary_lines(view: RunView, result: Result) -> list[str]:
    """How the run ended, its metrics and findings, and how to resume it."""
    seconds, fraction = result.get("observer_seconds"), result.get("observer_fraction", 0.0)
    cost = "" if seconds is None else f"; observers took {seconds:.1f} s, {100 * fraction:.1f} %"
    lines = [f"{result.get('stop_reason')}, after {result.get('seconds', 0.0):.1f} s of training{cost}", *trends(view)]
    for split in ("validation", "test"):
        accuracy, loss = number_at(result, split, "accuracy"), number_at(result, split, "loss")
        if accuracy is not None and loss is not None:
            epoch = f"best epoch {result['best_epoch']:g}" if "best_epoch" in result else "now"
            averaged = number_at(result, "averaged", split, "accuracy")
            more = f" · averaged weights {100 * averaged:.2f} %" if averaged is not None else ""
            lines.append(f"{split}: accuracy {100 * accuracy:.2f} %, loss {loss:.4f} ({epoch}){more}")
    for finding in result.get("findings") or []:
        lines.append(f"{finding['name']}: {finding['evidence']}")
        lines.append(f"  {finding['meaning']}")
        if finding["attempt"]:
            lines.append(f"  Try {' or '.join(finding['attempt'])}")
    if result.get("status") == "interrupted" and view.folder is not None:
        lines.append(f"resume with: train resume={view.folder}")
    return lines
