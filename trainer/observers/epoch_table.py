"""The table of epochs in the terminal: its columns by what is learned, as many as the width allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.columns import is_percentage, shown, split_and_metric, tasks_of
from trainer.engine.view import RunView
from trainer.formats import Row
from trainer.tasks.part import Part
from trainer.tasks.task import Task

PIPE_WIDTH = 160  # of output that is not a terminal
MIN_WIDTH = 11  # of a column
UNITS = {"multilabel": "labels", "classification": "classes"}
SHORT_SPLITS = {"train": "train", "validation": "val", "averaged": "avg"}


def outputs_text(task: Task) -> str:
    """What is predicted: the number of classes or labels, the names of numbers, or these of each task."""
    if len(task.parts) == 1:
        return _outputs_text(task.parts[0])
    names = [p.name if p.classes == (p.name,) else f"{p.name} ({_outputs_text(p)})" for p in task.parts]
    return f"{len(names)} tasks: {', '.join(names)}"


def _outputs_text(part: Part) -> str:
    return ", ".join(part.classes) if part.spec.kind == "regression" else f"{part.size} {UNITS[part.spec.kind]}"


def short_name(metric: str) -> str:
    """The name of a metric as the head of a column.

    >>> short_name("accuracy"), short_name("digit_loss"), short_name("validation_balanced_accuracy")
    ('acc', 'digit loss', 'val balanced acc')
    """
    split, name = split_and_metric(metric)
    words = " ".join("acc" if word == "accuracy" else word for word in name.split("_"))
    return f"{SHORT_SPLITS[split]} {words}" if split else words


class EpochTable:
    """The columns of the table: time and learning rate, losses and metrics, speed.

    A single task has the columns of training and validation, and that of the metric that decides; several tasks have the sums
    of the losses, and of each task metric and loss on the validation images, as far as ``width`` allows.

    Args:
        view: The run.
        width: Characters of a line.
    """

    def __init__(self, view: RunView, width: int) -> None:
        tasks = tasks_of(view.task.history_columns(averaged=False))
        self.split = "validation" if view.validation is not None else "train"
        always = self._of_single(view) if view.task.option is None else self._of_sum(view)
        self.left_out: list[str] = []
        heads = {column: short_name(column) for column in always}
        if view.task.option is not None:
            metrics = {
                f"{self.split}_{t.main if self.split == 'validation' else t.column(t.running)}": t for t in tasks
            }
            columns = [*metrics, *(f"{self.split}_{t.loss}" for t in tasks)]
            columns = [column for column in columns if column not in heads]
            room = width - sum(map(cell_width, ["epoch", "lr", *heads.values(), "images/s", "seconds"])) - len(" *")
            for i, column in enumerate(columns):
                head = short_name(split_and_metric(column)[1])
                room -= cell_width(head)
                if room < 0:
                    self.left_out = [short_name(split_and_metric(c)[1]) for c in columns[i:]]
                    break
                heads[column] = head
        self.heads = heads
        self.several = view.task.option is not None

    def _of_single(self, view: RunView) -> list[str]:
        option = view.task.parts[0].option
        columns = ["train_loss", f"train_{option.running_metric}"]
        if view.validation is not None:
            columns += ["validation_loss", f"validation_{option.main_metric}"]
        columns += [view.metric] if has_column(view, view.metric) else []
        if view.validation is not None and view.averaged is not None:
            columns.append(f"averaged_{option.main_metric}")
        return list(dict.fromkeys(columns))

    def _of_sum(self, view: RunView) -> list[str]:
        columns = ["train_loss"]
        if view.validation is not None:
            columns += ["validation_loss", *(["averaged_loss"] if view.averaged is not None else [])]
        return list(dict.fromkeys([*columns, *([view.metric] if has_column(view, view.metric) else [])]))

    def notes(self) -> list[str]:
        """What the columns do not say themselves."""
        if not self.several:
            return []
        left_out = f"; too wide for: {', '.join(self.left_out)} (the history has all)" if self.left_out else ""
        return [f"columns of tasks: {self.split} images{left_out}"]

    def heading(self) -> str:
        """The head of the table."""
        return "".join(name.rjust(cell_width(name)) for name in self._names())

    def _names(self) -> list[str]:
        return ["epoch", "lr", *self.heads.values(), "images/s", "seconds"]

    def line(self, view: RunView, row: Row, index: int) -> str:
        """A row of the history as a line of the table; a star marks the best so far."""
        values = {
            "epoch": f"{row['epoch']:g}" if len(view.phases) == 1 else f"{row['phase']} {row['epoch']:g}",
            "lr": f"{row['lr']:.2e}",
            "images/s": f"{row['images_per_second']:,.0f}",
            "seconds": f"{row['seconds']:.1f}",
        }
        for column, head in self.heads.items():
            value = row.get(column)
            if value is not None:
                values[head] = shown(column, value)
        star = " *" if view.best is not None and view.best["row"] == index else ""
        return "".join(values.get(name, "").rjust(cell_width(name)) for name in self._names()) + star


def has_column(view: RunView, column: str) -> bool:
    """Whether the history of a run has a column of metrics: without validation images it has none of theirs."""
    columns = view.task.history_columns(view.averaged is not None)
    return column in columns and (view.validation is not None or column.startswith("train_"))


def cell_width(head: str) -> int:
    """Characters of a column.

    >>> cell_width("lr"), cell_width("val balanced acc")
    (11, 18)
    """
    return max(MIN_WIDTH, len(head) + 2) if len(head) > 10 else MIN_WIDTH


def running_text(task: Task, metrics: Mapping[str, float], width: int, short: bool = False) -> str:
    """The running metrics of an epoch: the loss and the metric of each task, of several tasks as many as ``width`` allows."""
    names = [part.column(part.option.running_metric) for part in task.parts]
    texts = [f"loss {metrics['loss']:.4f}"]
    for name in names:
        value = f"{metrics[name]:.4f}" if is_percentage(name) else shown(name, metrics[name])
        texts.append(f"{short_name(name) if short or task.option is not None else name} {value}")
    return "  ".join(texts) if task.option is None else fitted(texts, width)


def fitted(texts: Sequence[str], width: int) -> str:
    """The first texts, two spaces apart, as many as ``width`` characters allow but at least one, and how many are left out.

    >>> fitted(["loss 1.5", "digit acc 0.5", "ink mae 0.1"], 100), fitted(["loss 1.5", "digit acc 0.5", "ink mae 0.1"], 20)
    ('loss 1.5  digit acc 0.5  ink mae 0.1', 'loss 1.5  +2 more')
    """
    for count in range(len(texts), 0, -1):
        kept = [*texts[:count], *([f"+{len(texts) - count} more"] if count < len(texts) else [])]
        line = "  ".join(kept)
        if len(line) <= width or count == 1:
            return line
    return ""
