"""TensorBoard: training and validation curves on one chart, values by step, the config, and the HPARAMS tab."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import torch
from omegaconf import OmegaConf
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trainer.columns import TaskColumns, split_and_metric, tasks_of
from trainer.engine.evaluation import eval_mode
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.errors import first_line
from trainer.formats import Result, Row
from trainer.literal import markdown_literal
from trainer.observers.context import Context
from trainer.observers.options import TensorBoard


class TensorBoardObserver(Observer):
    """Writes events into ``<run>/train``, ``<run>/validation`` and, with averaging, ``<run>/averaged``.

    The tags of these sub-runs are the same, so that their curves share a chart. Batch loss and learning rate are
    collected at every ``every``-th step and written at the end of the epoch, so that no step waits for the device. The
    HPARAMS tab has a line for the run from its first step on.
    """

    def __init__(self, option: TensorBoard, context: Context) -> None:
        self.every, self.graph = option.every, option.graph
        self.writers, self.alert = context.event_writers, context.alert
        self.losses: list[Tensor] = []
        self.steps: list[tuple[int, float, float | None]] = []

    def on_fit_start(self, view: RunView) -> None:
        if view.folder is None:
            return
        self.tasks = tasks_of(view.task.history_columns(averaged=False))
        writer = self.writers("train")
        writer.add_text("config", "    " + OmegaConf.to_yaml(view.info.config).replace("\n", "\n    "))
        writer.add_text("notes", "\n\n".join(map(markdown_literal, view.notes)))
        writer.add_custom_scalars(layout(self.tasks))
        split = "validation" if view.validation is not None else "train"
        tags = hparams_tags(hparams_metrics(self.tasks, view.metric), split)
        start_hparams(writer, plain(view.hyperparameters), tags)
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
        for column, value in row.items():
            split, metric = split_and_metric(column)
            if split and isinstance(value, int | float):
                self.writers(split).add_scalar(tag(metric, self.tasks), value, row["step"])
            elif column.startswith("weight_") and isinstance(value, int | float):
                self.writers("train").add_scalar(f"loss_weight/{column.removeprefix('weight_')}", value, row["step"])
        self.writers("train").add_scalar("speed/images_per_second", row["images_per_second"], row["step"])
        self._write_scores(view, row)
        self.writers.flush()

    def on_result(self, view: RunView, result: Result) -> None:
        if view.folder is None:
            return
        self._write_steps()
        writer = self.writers("train")
        for split, scores in (("validation", result.get("validation")), ("test", result.get("test"))):
            for name, value in (scores or {}).items():
                if value is not None:
                    writer.add_scalar(f"{split}/{name}", value, view.step)
        end_hparams(writer, finished=result.get("status") == "finished")

    def _write_steps(self) -> None:
        if not self.steps:
            return
        writer = self.writers("train")
        for (step, lr, momentum), loss in zip(self.steps, torch.stack(self.losses).tolist(), strict=True):
            writer.add_scalar("batch/loss", loss, step)
            writer.add_scalar("batch/lr", lr, step)
            if momentum is not None:
                writer.add_scalar("batch/momentum", momentum, step)
        self.losses, self.steps = [], []

    def _write_scores(self, view: RunView, row: Row) -> None:
        """Write the best and the current metrics for the HPARAMS tab, every epoch, so that a killed run has them too."""
        if view.best is None:
            return
        best, writer = view.history[view.best["row"]], self.writers("train")
        split = "validation" if view.validation is not None else "train"
        for name in hparams_metrics(self.tasks, view.metric):
            for name_of_tag, source in ((f"{split}/{name}", best), (f"last/{split}_{name}", row)):
                if (value := source.get(f"{split}_{name}")) is not None:
                    writer.add_scalar(name_of_tag, value, row["step"])

    def _write_graph(self, view: RunView) -> None:
        """Write the graph of the model, traced with a blank image; alert if the model cannot be traced."""
        x = torch.zeros((1, *view.info.shape), device=view.precision.device)
        with warnings.catch_warnings(), eval_mode(view.model), torch.random.fork_rng():
            warnings.simplefilter("ignore")  # tracing warns about every size that becomes a constant
            try:
                self.writers("train").add_graph(view.model, x)
            except Exception as error:  # whatever tracing a user's model may raise
                self.alert(f"no graph for TensorBoard: {first_line(error)}")


LAYOUT = {
    "steps": {
        "learning rate": ["Multiline", ["batch/lr"]],
        "gradient norm": ["Multiline", ["layers/gradient_norm"]],
        "update-to-weight ratio by layer": ["Multiline", ["update_to_weight/.*"]],
    },
    "units": {"dead": ["Multiline", ["dead/.*"]], "saturated": ["Multiline", ["saturated/.*"]]},
}


def layout(tasks: Sequence[TaskColumns]) -> dict[str, dict[str, list[str | list[str]]]]:
    """The prepared dashboard: the curves of loss and metrics of each task, the steps, the units."""
    names = dict.fromkeys(
        ["loss", *(name for task in tasks for name in (task.loss, task.main, task.column(task.running)))]
    )
    learning = {name: ["Multiline", [f"^{re.escape(tag(name, tasks))}$"]] for name in names}
    return {"learning": learning, **LAYOUT}


def tag(metric: str, tasks: Sequence[TaskColumns]) -> str:
    """The tag of a metric, the same for all splits: loss and main metrics of a single task stand alone, its further metrics in
    a section, and those of each of several tasks in one of its own.

    >>> single, several = [TaskColumns("", "accuracy", "accuracy")], [TaskColumns("ink", "mae", "mae")]
    >>> tag("loss", single), tag("auroc", single), tag("ink_mae", several), tag("loss", several)
    ('loss', 'metrics/auroc', 'ink/mae', 'loss')
    """
    task = max(
        (t for t in tasks if t.name and metric.startswith(f"{t.name}_")), key=lambda t: len(t.name), default=None
    )
    if task is not None:
        return f"{task.name}/{metric.removeprefix(f'{task.name}_')}"
    known = {"loss"} | {name for t in tasks for name in (t.running, t.metric)}
    return metric if metric in known else f"metrics/{metric}"


def hparams_metrics(tasks: Sequence[TaskColumns], metric: str) -> list[str]:
    """The metrics of the HPARAMS tab: the one that decides, the main metrics, and the losses."""
    return list(dict.fromkeys([split_and_metric(metric)[1], *(task.main for task in tasks), "loss"]))


def hparams_tags(metrics: Sequence[str], split: str) -> list[str]:
    """The tags under which the HPARAMS tab finds metrics: of the best weights on each split, and of the last ones."""
    return [f"{s}/{name}" for s in (split, "test") for name in metrics] + [f"last/{split}_{name}" for name in metrics]


def start_hparams(writer: SummaryWriter, settings: Mapping[str, bool | float | str], metrics: Sequence[str]) -> None:
    """Write the run's line of the HPARAMS tab; ``add_hparams`` would create a sub-run for it, with metrics of -1.

    It is written before training and gets its metrics during the run, so that a killed run has a line, too.
    """
    experiment, start, _ = hparams(settings, dict.fromkeys(metrics, 0.0))
    file_writer = writer._get_file_writer()
    file_writer.add_summary(experiment)
    file_writer.add_summary(start)


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
