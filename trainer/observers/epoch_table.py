"""The table of epochs in the terminal: its columns by what is learned, as many as the width allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.columns import shown, split_and_metric, tasks_of
from trainer.engine.view import RunView
from trainer.formats import Row
from trainer.tasks.part import Part
from trainer.tasks.task import Task

PIPE_WIDTH = 160  # of output that is not a terminal
MIN_WIDTH = 10  # of a column
SPEED = {"images_per_second": "images/s", "seconds": "seconds"}
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
    """The columns of the table: time and learning rate, losses and metrics, speed; as many as ``width`` allows.

    A single task has the columns of training and validation, and that of the metric that decides; several tasks have the sums
    of the losses, and of each task metric and loss on the validation images.

    Args:
        view: The run.
        width: Characters of a line.
    """

    def __init__(self, view: RunView, width: int) -> None:
        self.split = "validation" if view.validation is not None else "train"
        self.several, self.metric = view.task.option is not None, view.metric
        own, tasks = (self._of_sum(view), self._of_tasks(view)) if self.several else (self._of_single(view), {})
        heads = {column: short_name(column) for column in own} | tasks
        self.heads = {"epoch": "epoch", "mean_lr": "lr", **heads, **SPEED}
        self.widths = {column: cell_width(head) for column, head in self.heads.items()}
        longest = max((len(f"{phase.name} {phase.epochs:.2f}") for phase in view.phases), default=0)
        self.widths["epoch"] = max(7, 2 + longest) if len(view.phases) > 1 else 7
        self.left_out: list[str] = []
        # What is dropped last comes first: validation before training, results before speed.
        losses = [column for column in tasks if column.endswith("_loss")]
        further = [c for c in self._of_own_metrics(view) if c != self.metric]
        order = [
            "epoch",
            *(c for c in reversed(own) if c not in further),
            *further,
            *(c for c in tasks if c not in losses),
            "mean_lr",
            *SPEED,
            *losses,
        ]
        while self.width > width and len(order) > 2:
            self.left_out.insert(0, self.heads.pop(order.pop()))

    @property
    def width(self) -> int:
        """Characters of a line."""
        return sum(self.widths[column] for column in self.heads) + len(" *")

    def _of_single(self, view: RunView) -> list[str]:
        option = view.task.parts[0].option
        columns = ["train_loss", f"train_{option.running_metric}"]
        if view.validation is not None:
            columns += ["validation_loss", f"validation_{option.main_metric}"]
        columns += [*self._of_own_metrics(view), *([view.metric] if has_column(view, view.metric) else [])]
        if view.validation is not None and view.averaged is not None:
            columns.append(f"averaged_{option.main_metric}")
        return list(dict.fromkeys(columns))

    def _of_own_metrics(self, view: RunView) -> list[str]:
        names = (part.column(name) for part in view.task.parts for name in part.option.own_metrics or ())
        return [] if self.several or view.validation is None else [f"validation_{name}" for name in names]

    def _of_sum(self, view: RunView) -> list[str]:
        columns = ["train_loss"]
        if view.validation is not None:
            columns += ["validation_loss", *(["averaged_loss"] if view.averaged is not None else [])]
        return list(dict.fromkeys([*columns, *([view.metric] if has_column(view, view.metric) else [])]))

    def _of_tasks(self, view: RunView) -> dict[str, str]:
        tasks = tasks_of(view.task.history_columns(averaged=False))
        metrics = [t.main if self.split == "validation" else t.column(t.running) for t in tasks]
        columns = [f"{self.split}_{name}" for name in (*metrics, *(t.loss for t in tasks))]
        shown_already = self._of_sum(view)
        return {c: short_name(split_and_metric(c)[1]) for c in columns if c not in shown_already}

    def notes(self) -> list[str]:
        """What the columns do not say themselves."""
        texts = [f"columns of tasks: {self.split} images"] if self.several else []
        if self.left_out:
            texts.append(f"too wide for: {', '.join(self.left_out)} (the history has all)")
        lr = "lr: mean over the epoch's steps; " if "mean_lr" in self.heads else ""
        return [*texts, f"{lr}*: best {self.metric} so far"]

    def heading(self) -> str:
        """The head of the table."""
        return "".join(head.rjust(self.widths[column]) for column, head in self.heads.items())

    def line(self, view: RunView, row: Row, index: int) -> str:
        """A row of the history as a line of the table; a star marks the best so far."""
        epoch = rounded(row["epoch"])
        values = {
            "epoch": epoch if len(view.phases) == 1 else f"{row['phase']} {epoch}",
            "mean_lr": "" if (lr := row.get("mean_lr")) is None else f"{lr:.2e}",
            "images_per_second": f"{row['images_per_second']:,.0f}",
            "seconds": f"{row['seconds']:.1f}",
        }
        for column in self.heads:
            if column not in values and (value := row.get(column)) is not None:
                values[column] = shown(column, value)
        star = " *" if view.best is not None and view.best["row"] == index else ""
        return "".join(values.get(column, "").rjust(self.widths[column]) for column in self.heads) + star


def rounded(epochs: float) -> str:
    """A number of epochs, of a part of one with two decimals.

    >>> rounded(3.0), rounded(0.47619)
    ('3', '0.48')
    """
    return f"{epochs:.2f}".rstrip("0").rstrip(".")


def has_column(view: RunView, column: str) -> bool:
    """Whether the history of a run has a column of metrics: without validation images it has none of theirs."""
    columns = view.task.history_columns(view.averaged is not None)
    return column in columns and (view.validation is not None or column.startswith("train_"))


def cell_width(head: str) -> int:
    """Characters of a column.

    >>> cell_width("lr"), cell_width("val balanced acc")
    (10, 18)
    """
    return max(MIN_WIDTH, len(head) + 2)


def running_text(task: Task, metrics: Mapping[str, float], width: int, short: bool = False) -> str:
    """The running metrics of an epoch: the loss and the metric of each task, of several tasks as many as ``width`` allows."""
    names = [part.column(part.option.running_metric) for part in task.parts]
    texts = [f"loss {metrics['loss']:.4f}"]
    for name in names:
        head = short_name(name) if short or task.option is not None else name
        texts.append(f"{head} {shown(name, metrics[name])}")
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
