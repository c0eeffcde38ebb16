"""The targets of a table: from cells of text to classes, labels and numbers, with what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from trainer.data.inventory import shortened
from trainer.data.label_columns import LabelColumns
from trainer.data.split_names import class_name
from trainer.data.table_columns import TableColumns
from trainer.data.targets import MISSING_CLASS, Known, Target, is_missing

BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}  # also as pandas writes them
DELIMITERS = ("|", ",", ";", "/")  # that cells are searched for where none is given
KEY = "data.labels"


@dataclass(frozen=True)
class TargetColumns:
    """One target of a table and its values, one row for each row of the table."""

    spec: LabelColumns
    target: Target
    values: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """Which rows have no value at all (N,)."""
        return np.all(is_missing(self.target, self.values).reshape(len(self.values), -1), axis=1)

    def differ(self, row: int, other: int) -> bool:
        """Return whether two rows have different values; two missing ones are equal."""
        first, second = self.values[row], self.values[other]
        return not np.array_equal(first, second, equal_nan=self.values.dtype.kind == "f")


def read_target(table: TableColumns, spec: LabelColumns, known: Known) -> TargetColumns:
    """Return the values of a target.

    Args:
        table: The table.
        spec: The columns of the target.
        known: The classes that a trained network knows; they take the place of those of the table.

    Raises:
        ConfigError: There is no such column, or a cell does not hold a number, zero or one, or a listed class; the error
            names the rows.
    """
    classes_of_network = known.get(spec.name)
    if classes_of_network is not None and (spec.kind == "classification" or spec.delimiter is not None):
        spec = replace(spec, classes=classes_of_network)
    allowed = "must be one of {}" if classes_of_network is None else "is not a class of the checkpoint ({})"
    cells = [table.column(KEY, column) for column in spec.columns]
    if spec.kind == "classification":
        classes, values = _classes(table, spec, cells[0], allowed)
    elif spec.kind == "regression":
        classes, values = spec.columns, _numbers(table, spec, cells)
    elif spec.delimiter is None:
        classes, values = spec.columns, _zeros_and_ones(table, spec, cells)
    else:
        classes, values = _delimited(table, spec, cells[0], spec.delimiter, allowed)
    return TargetColumns(spec, Target(spec.name, spec.kind, classes), values)


def _classes(
    table: TableColumns, spec: LabelColumns, cells: list[str], allowed: str
) -> tuple[tuple[str, ...], np.ndarray]:
    names = [class_name(cell) for cell in cells]
    classes = _names(table, spec, [[name] if name else [] for name in names], allowed)
    index = {"": MISSING_CLASS} | {name: i for i, name in enumerate(classes)}
    return classes, np.array([index[name] for name in names], np.int64)


def _names(table: TableColumns, spec: LabelColumns, names: list[list[str]], allowed: str) -> tuple[str, ...]:
    """The classes: those that are listed, of which each row must have some, or those that occur, in their order or sorted."""
    if spec.classes is None:
        found = {name for row in names for name in row}
        ordered = [name for name in map(class_name, table.classes.get(spec.columns[0], ())) if name in found]
        return tuple(dict.fromkeys([*ordered, *sorted(found)]))
    classes = tuple(map(class_name, spec.classes))
    wrong = [row for row, each in enumerate(names) if not set(each) <= set(classes)]
    table.refuse(wrong, spec.columns[0], allowed.format(shortened(classes, 20)))
    return classes


def _numbers(table: TableColumns, spec: LabelColumns, columns: list[list[str]]) -> np.ndarray:
    values = np.full((len(table.rows), len(columns)), np.nan)
    for i, cells in enumerate(columns):
        numbers = [_number(cell) if cell else math.nan for cell in cells]
        wrong = [row for row, number in enumerate(numbers) if number is None]
        hint = "a cell without a number is left empty; the decimal separator is the point"
        table.refuse(wrong, spec.columns[i], "must be a number", hint)
        values[:, i] = numbers
    return values


def _number(cell: str) -> float | None:
    """The finite number in a cell, None for other text."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def _zeros_and_ones(table: TableColumns, spec: LabelColumns, columns: list[list[str]]) -> np.ndarray:
    values = np.full((len(table.rows), len(columns)), np.nan, np.float32)
    for i, cells in enumerate(columns):
        wrong = [row for row, cell in enumerate(cells) if cell and cell.lower() not in BINARY]
        hint = "names are kind: classification, or kind: multilabel with a delimiter"
        table.refuse(wrong, spec.columns[i], "must be 0 or 1", hint)
        values[:, i] = [BINARY.get(cell.lower(), math.nan) for cell in cells]
    return values


def _delimited(
    table: TableColumns, spec: LabelColumns, cells: list[str], delimiter: str, allowed: str
) -> tuple[tuple[str, ...], np.ndarray]:
    if not spec.given_delimiter:
        _check_delimiter(table, spec, cells, delimiter)
    parts = [cell.split() if delimiter.isspace() else cell.split(delimiter) for cell in cells]
    names = [[class_name(part.strip()) for part in row if part.strip()] for row in parts]
    classes = _names(table, spec, names, allowed)
    index = {name: i for i, name in enumerate(classes)}
    values = np.zeros((len(cells), len(classes)), np.float32)
    for row, each in enumerate(names):
        values[row, [index[name] for name in each]] = 1
        if not each and not spec.empty_is_none:
            values[row] = np.nan
    return classes, values


def _check_delimiter(table: TableColumns, spec: LabelColumns, cells: list[str], delimiter: str) -> None:
    """Refuse cells that hold zeros and ones, or that another delimiter seems to separate: neither is guessed."""
    (column,) = spec.columns
    if all(cell.lower() in BINARY for cell in cells if cell):
        hint = f"{spec.name}: {{kind: multilabel, columns: [{column}]}} = one label that an image has or not"
        table.refuse(list(range(len(cells))), column, f"must hold names of labels, separated by {delimiter!r}", hint)
    for other in () if any(delimiter in cell for cell in cells) else DELIMITERS:
        rows = [row for row, cell in enumerate(cells) if other in cell]
        hint = (
            f"{spec.name}: {{kind: multilabel, delimiter: '{other}'}}; delimiter: '{delimiter}' takes them as they are"
        )
        table.refuse(rows, column, f"holds {other!r} and no {delimiter!r}, the delimiter of labels", hint)
