"""Which columns of the history hold metrics, and which would if the config named them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from trainer.data.targets import Kind
from trainer.errors import Problem, nearest
from trainer.tasks.metrics import METRICS, PER_CLASS, TOP_K

MANY = 25  # columns that a message does not name


def history_columns(running: Sequence[str], further: Sequence[str], averaged: bool) -> tuple[str, ...]:
    """Return the columns of the history for metrics: ``further`` ones are not computed of training batches.

    >>> history_columns(["loss"], ["auroc"], averaged=False)
    ('train_loss', 'validation_loss', 'validation_auroc')
    """
    splits = ("validation", "averaged") if averaged else ("validation",)
    evaluated = [f"{split}_{name}" for split in splits for name in (*running, *further)]
    return (*(f"train_{name}" for name in running), *evaluated)


def possible_columns(kind: Kind, name: str = "") -> tuple[str, ...]:
    """Return the columns of a task's metrics that the history has if the config names them, without those per class.

    >>> possible_columns("regression", "ink")
    ('validation_ink_mae', 'validation_ink_rmse', 'validation_ink_r2')
    """
    names = [m for m in METRICS[kind] if not m.endswith(PER_CLASS) and m != TOP_K]
    return tuple(f"validation_{name}_{metric}" if name else f"validation_{metric}" for metric in names)


@runtime_checkable
class Watching(Protocol):
    """An option that watches a metric, such as early stopping."""

    @property
    def watched_metric(self) -> str | None:
        """The column of the history; None or ``auto`` for that of the config."""


def named_metrics(metric: str, options: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Return the columns of the history that a config names, by key; ``auto`` is left out.

    Args:
        metric: The setting ``metric``.
        options: The options with their places in the config.

    >>> named_metrics("validation_loss", [("data", object())])
    {'metric': 'validation_loss'}
    """
    watched = {f"{key}.metric": option.watched_metric for key, option in options if isinstance(option, Watching)}
    return {key: name for key, name in {"metric": metric, **watched}.items() if name is not None and name != "auto"}


def metric_problems(named: Mapping[str, str], columns: Sequence[str], possible: Sequence[str]) -> list[Problem]:
    """Return the errors of keys that name a metric which is not among the columns of the history.

    Args:
        named: The columns that a config names, by key; ``metric`` is the one that others have by default.
        columns: Those that the history has.
        possible: Those that it would have if they were named.

    >>> [problem.key for problem in metric_problems({"metric": "validation_los"}, ["validation_loss"], [])]
    ['metric']
    """
    wrong = {key: name for key, name in named.items() if name not in columns}
    by_default = wrong.get("metric")
    reported = [key for key, name in wrong.items() if key == "metric" or name != by_default]
    return [Problem(key, wrong[key], *unknown_column(wrong[key], columns, possible)) for key in reported]


def unknown_column(value: str, columns: Sequence[str], possible: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong with the name of a column that the history will not have, and a hint.

    Args:
        value: The name.
        columns: Those that it will have.
        possible: Those that it would have if they were named.

    >>> text, hint = unknown_column("validation_auc", ["validation_loss"], ["validation_auroc"])
    >>> text
    'must be a column of the history: validation_loss; or, computed if it is named, validation_ and one of auroc'
    >>> hint
    "did you mean 'validation_auroc'?"
    """
    more = [column for column in possible if column not in columns]
    text = f"must be a column of the history: {', '.join(columns)}"
    if more:
        names = [column.removeprefix("validation_") for column in more]
        listed = ", ".join(names) if len(names) <= MANY else f"{names[0]}, {names[1]}, ... (docs/task.md lists all)"
        text += f"; or, computed if it is named, validation_ and one of {listed}"
    validation = f"validation_{value.removeprefix('train_').removeprefix('validation_')}"
    if validation in (*columns, *more):
        return text, f"did you mean {validation!r}?"
    known = nearest(re.sub("acc$", "accuracy", re.sub("^val(id)?_", "validation_", value)), (*columns, *more))
    per_class = next((c for c in more if value.startswith(f"{c}_")), None)
    if per_class is None:
        return text, known
    return text, f"task.metrics=[{per_class.removeprefix('validation_')}_per_class] has a column per class"
