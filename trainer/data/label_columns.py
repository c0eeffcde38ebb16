"""Which columns of a table are labels, and of what kind: ``data.labels`` of the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from trainer.data.targets import LABEL, Kind
from trainer.errors import ConfigError, Problem, nearest

KINDS: tuple[Kind, ...] = get_args(Kind)
KEYS = ("kind", "columns", "delimiter", "empty", "classes")
DELIMITER = ";"  # between the labels in a cell
DELIMITED = "of labels in one column, which a delimiter separates"


@dataclass(frozen=True)
class LabelColumns:
    """The columns of one target.

    Attributes:
        name: Its name.
        kind: Its kind.
        columns: One column of class names or of delimited labels, columns of zeros and ones, or columns of numbers.
        delimiter: What separates the labels in a cell; None for columns of zeros and ones.
        empty_is_none: Whether an image with an empty cell has none of the labels; otherwise they are missing.
        classes: Names of the classes or of the delimited labels, in their order; None = those that occur, sorted.
        alone: Whether it is the only target, which no image may lack.
        given_delimiter: Whether the config names the delimiter.
    """

    name: str
    kind: Kind
    columns: tuple[str, ...]
    delimiter: str | None = None
    empty_is_none: bool = False
    classes: tuple[str, ...] | None = None
    alone: bool = False
    given_delimiter: bool = False


def label_columns(labels: str | Sequence[str] | Mapping[str, object]) -> tuple[LabelColumns, ...]:
    """Return the targets that ``data.labels`` describes.

    A name stands for a column of classes, a list for several of them; a table gives each target its kind, or its kind,
    columns and how they are read.

    Raises:
        ConfigError: A kind, column or key is not valid.

    >>> [(t.name, t.kind, t.columns) for t in label_columns(["species", "habitat"])]
    [('species', 'classification', ('species',)), ('habitat', 'classification', ('habitat',))]
    >>> label_columns({"position": {"kind": "regression", "columns": ["x", "y"]}})[0].columns
    ('x', 'y')
    """
    if isinstance(labels, str):
        return (LabelColumns(LABEL, "classification", (labels,), alone=True),)
    if not labels:
        raise ConfigError(Problem("labels", labels, "must name at least one column"))
    if not isinstance(labels, Mapping):
        repeated = sorted({name for name in labels if labels.count(name) > 1})
        if repeated:
            raise ConfigError(Problem("labels", list(labels), f"names {', '.join(repeated)} more than once"))
        labels = dict.fromkeys(labels, "classification")
    targets, problems = [], []
    for name, value in labels.items():
        try:
            targets.append(_target(name, value, alone=len(labels) == 1))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return tuple(targets)


def _target(name: str, value: object, alone: bool) -> LabelColumns:
    key = f"labels.{name}"
    table = value if isinstance(value, Mapping) else {"kind": value}
    if unknown := [k for k in table if k not in KEYS]:
        hint = nearest(str(unknown[0]), KEYS) or f"available: {', '.join(KEYS)}"
        raise ConfigError(Problem(f"{key}.{unknown[0]}", table[unknown[0]], "unknown key", hint))
    kind, delimiter, empty = table.get("kind"), table.get("delimiter"), table.get("empty")
    if kind not in KINDS:
        text, hint = f"must be {', '.join(KINDS)}", nearest(str(kind), KINDS) if kind else "the kind is never guessed"
        raise ConfigError(Problem(f"{key}.kind" if isinstance(value, Mapping) else key, kind, text, hint))
    columns = _names(f"{key}.columns", table.get("columns")) or (name,)
    if kind == "classification" and len(columns) > 1:
        hint = f"{{kind: multilabel, columns: [{', '.join(columns)}]}} = any number of them per image"
        raise ConfigError(Problem(f"{key}.columns", list(columns), "must be one column of class names", hint))
    delimited = kind == "multilabel" and (delimiter is not None or table.get("columns") is None)
    if delimiter is not None and (kind != "multilabel" or len(columns) > 1 or not isinstance(delimiter, str)):
        raise ConfigError(Problem(f"{key}.delimiter", delimiter, f"must be text, and has an effect {DELIMITED}"))
    if delimiter == "":
        raise ConfigError(Problem(f"{key}.delimiter", "", "must not be empty", "delimiter=' ' = white space"))
    if empty is not None and (empty not in ("none", "missing") or not delimited):
        text = f"must be missing or none (the image has no labels), and has an effect {DELIMITED}"
        raise ConfigError(Problem(f"{key}.empty", empty, text))
    classes = _names(f"{key}.classes", table.get("classes"))
    if classes and not (kind == "classification" or delimited):
        raise ConfigError(Problem(f"{key}.classes", list(classes), f"has an effect on class names and {DELIMITED}"))
    mark = (delimiter or DELIMITER) if delimited else None
    return LabelColumns(name, kind, columns, mark, empty == "none", classes or None, alone, delimiter is not None)


def _names(key: str, value: object) -> tuple[str, ...]:
    """The different names that a key holds, a single one also without a list; () where it is not given."""
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or len(set(map(str, names))) < len(names):
        raise ConfigError(Problem(key, value, "must be a list of different names"))
    return tuple(map(str, names))
