"""TensorBoard: curves by epoch and by step, a prepared dashboard, the config, and the HPARAMS tab."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import torch
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trainer.columns import SPLITS, TaskColumns, split_and_metric, tasks_of
from trainer.engine.evaluation import eval_mode
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.errors import first_line
from trainer.formats import Result, Row
from trainer.literal import markdown_literal
from trainer.observers.context import Context
from trainer.observers.options import TensorBoard
from trainer.yaml_files import yaml_text


class TensorBoardObserver(Observer):
    """Writes events into the run directory, so that TensorBoard lists a run in one line.

    Training, validation and averaged values are tags of one section, and share a chart of the prepared dashboard. TensorBoard
    orders sections by their names, therefore they begin with a number. Batch loss and learning rate are collected at every
    ``every``-th step and written at the end of the epoch, so that no step waits for the device. The HPARAMS tab has a line
    for the run from its first step on.
    """

    def __init__(self, option: TensorBoard, context: Context) -> None:
        self.every, self.graph = option.every, option.graph
        self.events, self.alert = context.event_writer, context.alert
        self.losses: list[Tensor] = []
        self.steps: list[tuple[int, float, float | None]] = []

    def on_fit_start(self, view: RunView) -> None:
        if view.folder is None:
            return
        self.tasks = tasks_of(view.task.history_columns(averaged=False))
        writer = self.events()
        writer.add_text("config", "    " + yaml_text(view.info.config).replace("\n", "\n    "))
        writer.add_text("notes", "\n\n".join(map(markdown_literal, view.notes)))
        writer.add_custom_scalars(layout(self.tasks))
        start_hparams(writer, plain(view.hyperparameters))
        if self.graph:
            self._write_graph(view)

    def on_step_end(self, view: RunView) -> None:
        if view.step % self.every or view.loss is None:
            return
        self.losses.append(view.loss)
        self.steps.append((view.step, view.lr, view.momentum))

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        if view.folder is None:
            return
        self._write_steps()
        writer = self.events()
        for column, value in row.items():
            split, metric = split_and_metric(column)
            if split and isinstance(value, int | float):
                writer.add_scalar(tag(metric, split, self.tasks), value, row["step"])
            elif column.startswith("weight_") and isinstance(value, int | float):
                writer.add_scalar(f"2_loss_weight/{column.removeprefix('weight_')}", value, row["step"])
        writer.add_scalar("4_steps/images_per_second", row["images_per_second"], row["step"])
        self._write_best(view, row["step"])
        self.events.flush()

    def on_result(self, view: RunView, result: Result) -> None:
        if view.folder is None:
            return
        self._write_steps()
        writer = self.events()
        for split, scores in (("validation", result.get("validation")), ("test", result.get("test"))):
            for name, value in (scores or {}).items():
                if value is not None:
                    writer.add_scalar(best_tag(split, name), value, view.step)
        end_hparams(writer, finished=result.get("status") == "finished")

    def _write_steps(self) -> None:
        if not self.steps:
            return
        writer = self.events()
        for (step, lr, momentum), loss in zip(self.steps, torch.stack(self.losses).tolist(), strict=True):
            writer.add_scalar("4_steps/loss", loss, step)
            writer.add_scalar("3_lr/used", lr, step)
            if momentum is not None:
                writer.add_scalar("4_steps/momentum", momentum, step)
        self.losses, self.steps = [], []

    def _write_best(self, view: RunView, step: int) -> None:
        """Write the metrics of the best epoch, every epoch, so that a killed run has them in the HPARAMS tab, too."""
        if view.best is None:
            return
        best, split = view.history[view.best["row"]], "validation" if view.validation is not None else "train"
        for name in hparams_metrics(self.tasks, view.metric):
            if (value := best.get(f"{split}_{name}")) is not None:
                self.events().add_scalar(best_tag(split, name), value, step)

    def _write_graph(self, view: RunView) -> None:
        """Write the graph of the model, traced with a blank image; alert if the model cannot be traced."""
        x = torch.zeros((1, *view.info.shape), device=view.precision.device)
        with warnings.catch_warnings(), eval_mode(view.model), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # tracing warns about every size that becomes a constant
            try:
                self.events().add_graph(view.model, x)
            except Exception as error:  # whatever tracing a user's model may raise
                self.alert(f"no graph for TensorBoard: {first_line(error)}")


LAYOUT = {
    "steps": {
        "learning rate": ["Multiline", ["^3_lr/used$"]],
        "gradient norm": ["Multiline", ["^4_steps/gradient_norm$"]],
        "update-to-weight ratio by layer": ["Multiline", ["^5_update_to_weight/"]],
    },
    "units": {"dead": ["Multiline", ["^6_dead/"]], "saturated": ["Multiline", ["^6_saturated/"]]},
}


def layout(tasks: Sequence[TaskColumns]) -> dict[str, dict[str, list[str | list[str]]]]:
    """The prepared dashboard: the curves of loss and metrics of each task, all splits in a chart, the steps, the units."""
    names = dict.fromkeys(
        ["loss", *(name for task in tasks for name in (task.loss, task.main, task.column(task.running)))]
    )
    patterns = {name: [f"^{re.escape(tag(name, split, tasks))}$" for split in SPLITS] for name in names}
    return {"curves": {name: ["Multiline", [*tags]] for name, tags in patterns.items()}, **LAYOUT}


def tag(metric: str, split: str, tasks: Sequence[TaskColumns]) -> str:
    """Return the TensorBoard tag of a metric on a split; the part before the slash is the section of the page.

    The loss and the main metric of a single task have a section each, its further metrics share one; of several tasks, each
    has a section of its own.

    >>> single, several = [TaskColumns("", "accuracy", "accuracy")], [TaskColumns("ink", "mae", "mae")]
    >>> tag("loss", "train", single), tag("auroc", "validation", single), tag("ink_mae", "validation", several)
    ('1_loss/train', '2_metrics/auroc_validation', '2_ink/mae_validation')
    """
    task = max(
        (t for t in tasks if t.name and metric.startswith(f"{t.name}_")), key=lambda t: len(t.name), default=None
    )
    if task is not None:
        return f"2_{task.name}/{metric.removeprefix(f'{task.name}_')}_{split}"
    if metric == "loss":
        return f"1_loss/{split}"
    known = {name for t in tasks for name in (t.running, t.metric)}
    return f"2_{metric}/{split}" if metric in known else f"2_metrics/{metric}_{split}"


def best_tag(split: str, metric: str) -> str:
    """Return the TensorBoard tag of a metric of the best weights.

    The asterisk puts it before the curves in HPARAMS, which sorts tags as text, and after them on the other pages, which put
    digits first.

    >>> best_tag("test", "accuracy")
    '*best/accuracy_test'
    """
    return f"*best/{metric}_{split}"


def hparams_metrics(tasks: Sequence[TaskColumns], metric: str) -> list[str]:
    """The metrics of the HPARAMS tab: the one that decides, the main metrics, and the losses."""
    return list(dict.fromkeys([split_and_metric(metric)[1], *(task.main for task in tasks), "loss"]))


def start_hparams(writer: SummaryWriter, settings: Mapping[str, bool | float | str]) -> None:
    """Write the run's line of the HPARAMS tab; ``add_hparams`` would create a sub-run for it, with metrics of -1.

    It is written before training and gets its metrics during the run, so that a killed run has a line, too. It does not name
    the columns: TensorBoard would take those of one run for all; without them it shows the columns of all runs, first
    those in which they differ.
    """
    _, start, _ = hparams(settings, {})
    writer._get_file_writer().add_summary(start)


def end_hparams(writer: SummaryWriter, finished: bool) -> None:
    """Write for the HPARAMS tab how the run ended; torch itself writes only successes."""
    *_, end = hparams({}, {})
    if not finished:
        plugin = end.value[0].metadata.plugin_data
        content = HParamsPluginData.FromString(plugin.content)
        content.session_end_info.status = 2  # STATUS_FAILURE of its api.proto
        plugin.content = content.SerializeToString()
    writer._get_file_writer().add_summary(end)


def plain(settings: Mapping[str, object]) -> dict[str, bool | float | str]:
    """Settings with values of the types that TensorBoard accepts.

    >>> plain({"seed": 0, "widths": (1, 2), "resume": None})
    {'seed': 0, 'widths': '[1, 2]'}
    """
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items() if v is not None}
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}
