"""The history of a run: one flat row per epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from trainer.formats import Row

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
    return "min" if key_word(metric) in MINIMIZED else "max"


def ranked(values: Sequence[float], metric: str) -> list[int]:
    """Return the indices of values of a metric from the best to the worst; NaN is the worst.

    >>> ranked([0.5, float("nan"), 0.9], "accuracy"), ranked([0.5, 0.4], "loss")
    ([2, 0, 1], [1, 0])
    """
    sign = 1 if better_is(metric) == "min" else -1
    return sorted(range(len(values)), key=lambda i: (values[i] != values[i], sign * values[i], i))


def key_word(metric: str) -> str:
    """Return the word of a metric's name that says what it is.

    >>> key_word("validation_size_mae_width"), key_word("test.average_precision_cat"), key_word("digit_accuracy")
    ('mae', 'precision', 'accuracy')
    """
    words = re.split("[_.]", metric)
    return next((word for word in words if word in WITH_CLASS), words[-1])


def has_finite_losses(row: Row, names: Iterable[str] = ("train", "validation", "averaged")) -> bool:
    """Return whether the losses in a row are finite, those that it has. In a file, null stands for NaN and Inf.

    >>> has_finite_losses({"train_loss": 0.5}), has_finite_losses({"train_loss": 0.5, "validation_loss": None})
    (True, False)
    """
    losses = [row[name] for name in (f"{name}_loss" for name in names) if name in row]
    return all(loss is not None and math.isfinite(loss) for loss in losses)


class History:
    """An append-only list of rows (``trainer.formats.Row``). Schedules, stopping rules and reports
    read it; only the loop writes it.

    >>> history = History([{"epoch": 1.0, "validation_loss": 0.5}, {"epoch": 2.0, "validation_loss": 0.7}])
    >>> history.column("validation_loss"), history.best("validation_loss")
    ([0.5, 0.7], 0)
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = [row.copy() for row in rows]

    def append(self, row: Row) -> None:
        self.rows.append(row)

    def column(self, name: str) -> list[float]:
        """The values of one column, without the rows that have none."""
        values = (row.get(name) for row in self.rows)
        return [value for value in values if value is not None]

    def best(self, metric: str) -> int | None:
        """The index of the first row with the best value of ``metric``; None if no row has a value other than NaN.

        Of equal values the first is the best, as early stopping counts: an epoch replaces another one only if it is better by the
        metric that the user chose. ``metric=validation_loss`` tells epochs of equal accuracy apart.

        A row whose training, validation or averaged loss is NaN or Inf is never the best.
        """
        sign = 1.0 if better_is(metric) == "min" else -1.0
        values = [(row.get(metric), i) for i, row in enumerate(self.rows) if has_finite_losses(row)]
        scores = [(sign * value, i) for value, i in values if value is not None and not math.isnan(value)]
        return min(scores)[1] if scores else None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.rows == other.rows
