"""What a run has done so far: one flat row per epoch, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

Mode = Literal["min", "max"]


def better_is(metric: str) -> Mode:
    """Whether a metric improves by falling or by rising; only losses, errors and durations fall.

    >>> better_is("validation_loss"), better_is("validation_accuracy")
    ('min', 'max')
    """
    return "min" if metric.endswith(("loss", "error", "seconds")) else "max"


class History:
    """An append-only list of rows; schedules, stopping rules and reports read it, the loop alone writes it.

    A row is a flat dict of JSON values: ``phase``, ``epoch`` (time at its end, in epochs of its phase, float), ``step``
    (optimizer steps so far, over all phases), ``lr``, ``momentum``, ``train_loss``, ``train_accuracy``,
    ``validation_loss``, ``validation_accuracy``, with averaging on ``averaged_loss`` and ``averaged_accuracy`` (also on
    the validation set), ``seconds``, ``images_per_second``.

    >>> history = History([{"epoch": 1.0, "validation_loss": 0.5}, {"epoch": 2.0, "validation_loss": 0.7}])
    >>> history.column("validation_loss"), history.best("validation_loss")
    ([0.5, 0.7], 0)
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    def append(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def column(self, name: str) -> list[Any]:
        """The values of one column, rows without it left out."""
        return [row[name] for row in self.rows if row.get(name) is not None]

    def best(self, metric: str) -> int | None:
        """The index of the first row with the best value of ``metric``; None where no row has a finite one."""
        sign = 1.0 if better_is(metric) == "min" else -1.0
        found = [(sign * row[metric], i) for i, row in enumerate(self.rows) if row.get(metric) is not None]
        found = [pair for pair in found if pair[0] == pair[0]]  # NaN is never best
        return min(found)[1] if found else None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.rows == other.rows
