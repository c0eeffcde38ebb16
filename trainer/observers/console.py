"""Progress in the terminal: bars and a growing table, or plain lines if the output is not a terminal."""

from __future__ import annotations

import os
import sys
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from trainer.architectures.layers import count_parameters
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.formats import Result, Row
from trainer.observers.context import Context
from trainer.observers.epoch_table import PIPE_WIDTH, EpochTable, outputs_text, running_text
from trainer.observers.options import Console
from trainer.observers.summary import sparkline, summary_lines
from trainer.run_dir import terminal

BAR_WIDTH, NARROW = 24, 100  # characters of a bar, a third of it below this width of the terminal
WITH_TIME = 60  # characters of the line from which on the time left is not cut
BESIDE = 22  # characters of the line besides bar and text: what it is of, and the time left


class ConsoleObserver(Observer):
    """Prints one line per epoch, and progress within it.

    In a terminal, bars show loss, running metrics, learning rate, images per second and time left, refreshed every ``every``
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
        self.bar_width = BAR_WIDTH if self.terminal.width >= NARROW else BAR_WIDTH // 3

    def on_fit_start(self, view: RunView) -> None:
        self.next_update = time.monotonic() + self.interval
        self.started, self.steps_before = time.monotonic(), view.step
        sizes = ", ".join(f"{n:,} {name}" for name, n in image_counts(view).items())
        self._print(f"{parameters_text(view.model)} · {sizes} · {outputs_text(view.task)}")
        for note in view.notes:
            self._print(note)
        if view.folder is not None:
            self._print(f"run directory: {view.folder}")
        if view.epochs_done:
            epochs = "1 epoch" if view.epochs_done == 1 else f"{view.epochs_done} epochs"
            self._print(f"resuming after {epochs}, {view.step} steps")
        self.table = EpochTable(view, self.terminal.width if self.live else PIPE_WIDTH)
        for text in self.table.notes():
            self._print(text)
        self.terminal.print(self.table.heading(), markup=False, style="bold" if self.live else None)
        for i, row in enumerate(view.history):
            self._print(self.table.line(view, row, i))
        if self.live:
            self._start_bars(view)

    def _print(self, text: str) -> None:
        self.terminal.print(text, markup=False)

    def _print_alert(self, text: str) -> None:
        self.terminal.print(text, markup=False, style="bold red")

    def _start_bars(self, view: RunView) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=self.bar_width),
            TextColumn("{task.fields[text]}"),
            *([TimeRemainingColumn(compact=True)] if self.terminal.width >= WITH_TIME else []),
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
            scores = running_text(view.task, metrics, PIPE_WIDTH - len(progress) - 20)
            print(f"  {progress}  {scores}  lr {view.lr:.3g}", flush=True)
        self.next_update = time.monotonic() + self.interval  # counted from here, so that a slow terminal gets a rest

    def _update_bars(self, view: RunView, metrics: dict[str, float], now: float) -> None:
        images = (view.step - self.steps_before) * view.train.num_images / len(view.train)
        speed = images / max(now - self.started, 1e-9)
        trend = sparkline(view.history.column("train_loss"), 12)
        room = self.terminal.width - self.bar_width - BESIDE
        more = [f"lr {view.lr:.2e}", f"{speed:,.0f} images/s", trend]
        scores = running_text(view.task, metrics, room - len("  ".join(more)), short=True)
        while more and len("  ".join([scores, *more])) > room:
            more.pop()
        text = "  ".join([scores, *more])
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
        text = self.table.line(view, row, view.epochs_done - 1)
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
        for text in summary_lines(view, result, self.terminal.width if self.live else PIPE_WIDTH):
            self._print(text)
        sys.stdout.flush()


def parameters_text(model: nn.Module) -> str:
    """The number of parameters, and of those that are trained now if some are frozen.

    >>> parameters_text(nn.Linear(4, 3)), parameters_text(nn.Linear(4, 3).requires_grad_(False))
    ('15 parameters', '15 parameters (0 trained now)')
    """
    trained, total = count_parameters(model), sum(p.numel() for p in model.parameters())
    return f"{total:,} parameters" + ("" if trained == total else f" ({trained:,} trained now)")


def image_counts(view: RunView) -> dict[str, int]:
    """Number of images in each split."""
    names = {"train": "training", "validation": "validation", "test": "test"}
    return {names[split]: loader.num_images for split, loader in view.loaders.items()}
