"""The history of a run: one flat row per epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Mode = Literal["min", "max"]

MINIMIZED = ("loss", "error", "seconds", "nll", "brier", "ece", "mae", "rmse")
WITH_CLASS = ("recall", "precision", "f1", "mae", "rmse", "r2")  # metrics that the name of a class or target may follow


def better_is(metric: str) -> Mode:
    """Whether the best value of a metric is its minimum or its maximum: the minimum of losses, errors and durations.

    The first word that names a metric of single classes or targets decides, whatever the class is called; in a name without
    one, the last word.

    >>> better_is("validation_loss"), better_is("test.loss"), better_is("validation_accuracy")
    ('min', 'min', 'max')
    >>> better_is("validation_size_mae_width"), better_is("recall_error"), better_is("error_accuracy")
    ('min', 'max', 'max')
    """
    words = re.split("[_.]", metric)
    return "min" if next((word for word in words if word in WITH_CLASS), words[-1]) in MINIMIZED else "max"


class History:
    """An append-only list of rows. Schedules, stopping rules and reports read it; only the loop writes it.

    A row is a flat dict of JSON values: ``phase``, ``epoch`` (at its end, in epochs of its phase, float), ``step``
    (optimizer steps so far, over all phases), ``lr``, ``momentum``, ``train_loss``, ``train_accuracy``,
    ``validation_loss``, ``validation_accuracy``, with averaging also ``averaged_loss`` and ``averaged_accuracy`` (on the
    validation images), ``seconds``, ``images_per_second``.

    >>> history = History([{"epoch": 1.0, "validation_loss": 0.5}, {"epoch": 2.0, "validation_loss": 0.7}])
    >>> history.column("validation_loss"), history.best("validation_loss")
    ([0.5, 0.7], 0)
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    def append(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def column(self, name: str) -> list[Any]:
        """The values of one column, without the rows that have none."""
        return [row[name] for row in self.rows if row.get(name) is not None]

    def best(self, metric: str) -> int | None:
        """The index of the first row with the best value of ``metric``; None if no row has a value other than NaN."""
        sign = 1.0 if better_is(metric) == "min" else -1.0
        scores = [(sign * row[metric], i) for i, row in enumerate(self.rows) if row.get(metric) is not None]
        scores = [(score, i) for score, i in scores if not math.isnan(score)]
        return min(scores)[1] if scores else None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.rows == other.rows
