"""Columns of the history and scores of a result by their names: of which task and metric they are, how values are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from trainer.history import key_word

RUNNING = ("accuracy", "label_accuracy", "mae")  # metrics of training batches, by kind of task
MAIN = {"label_accuracy": "map"}  # the main metric, where it is not the running one
PERCENTAGES = ("accuracy", "recall", "precision", "f1", "map", "match")
IN_UNITS = ("mae", "rmse")  # in the units of the target
WIDE = 1e4  # from which a loss has no room for four decimals in a table
LONG = 1e9  # from which a number is shown with an exponent
SPLITS = ("train", "validation", "averaged")


class TaskColumns(NamedTuple):
    """The names of the metrics of one task, without the split.

    Attributes:
        name: Name of the task; empty for a single one.
        running: Metric of training batches.
        metric: Main metric.
    """

    name: str
    running: str
    metric: str

    def column(self, metric: str) -> str:
        """Return the name of one of its metrics.

        >>> TaskColumns("digit", "accuracy", "accuracy").column("loss")
        'digit_loss'
        """
        return f"{self.name}_{metric}" if self.name else metric

    @property
    def loss(self) -> str:
        """The name of its loss."""
        return self.column("loss")

    @property
    def main(self) -> str:
        """The name of its main metric."""
        return self.column(self.metric)


def tasks_of(columns: Iterable[str]) -> list[TaskColumns]:
    """Return the tasks of a run from the columns of its history, or from the names of its scores on one split.

    >>> tasks_of(["epoch", "train_loss", "train_accuracy", "validation_loss"])
    [TaskColumns(name='', running='accuracy', metric='accuracy')]
    >>> names = ["train_loss", "train_kind_loss", "train_kind_label_accuracy", "train_ink_loss", "train_ink_mae"]
    >>> [(task.name, task.main) for task in tasks_of(names)]
    [('kind', 'kind_map'), ('ink', 'ink_mae')]
    """
    names = dict.fromkeys(columns)
    own = [name.removeprefix("train_") for name in names if name.startswith("train_")] or list(names)
    tasks = []
    for loss in own:
        name, _, last = loss.rpartition("loss")
        running = next((metric for metric in RUNNING if f"{name}{metric}" in own), None)
        if last == "" and running is not None and (not name or name.endswith("_")):
            tasks.append(TaskColumns(name.removesuffix("_"), running, MAIN.get(running, running)))
    several = [task for task in tasks if task.name]
    return several or tasks


def split_and_metric(column: str) -> tuple[str, str]:
    """Return the split and the metric that a column of the history is of; no split for another column.

    >>> split_and_metric("validation_digit_accuracy"), split_and_metric("weight_digit")
    (('validation', 'digit_accuracy'), ('', 'weight_digit'))
    """
    split, _, metric = column.partition("_")
    return (split, metric) if split in SPLITS and metric else ("", column)


def is_percentage(metric: str) -> bool:
    """Return whether a metric is a fraction of images or labels, which is shown in percent.

    >>> [is_percentage(name) for name in ("digit_accuracy", "recall_cat", "top5", "loss", "auroc", "slant_mae")]
    [True, True, True, False, False, False]
    """
    word = key_word(metric)
    return word in PERCENTAGES or re.fullmatch(r"top\d+", word) is not None


def shown(metric: str, value: float) -> str:
    """Return the value of a metric as text: in percent, in the units of the target, or with four decimals.

    >>> shown("digit_accuracy", 0.9712), shown("slant_mae", 0.031416), shown("size_mae", 1234.56), shown("loss", 0.12345)
    ('97.12 %', '0.03142', '1,235', '0.1235')
    >>> shown("slant_mae", 1.2e12), shown("loss", 1.2e12), shown("loss", 9999.5)
    ('1.200e+12', '1.200e+12', '9999.5000')
    """
    if math.isnan(value):
        return "nan"
    if is_percentage(metric):
        return f"{100 * value:.2f} %"
    if key_word(metric) in IN_UNITS and math.isfinite(value):
        return f"{value:,.0f}" if 1000 <= abs(value) < LONG else f"{value:#.4g}"
    return f"{value:#.4g}" if WIDE <= abs(value) < math.inf else f"{value:.4f}"
