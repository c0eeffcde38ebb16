"""Plain values as YAML and JSON files hold them: tables in tables, whose values are found by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard, cast

from trainer.formats import Json, JsonObject


def is_table(value: object) -> TypeGuard[JsonObject]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Json]]:
    return isinstance(value, list)


def table(value: object) -> JsonObject:
    """Return a value that is a table; of any other an empty one.

    >>> table({"a": 1}), table(None)
    ({'a': 1}, {})
    """
    return value if is_table(value) else {}


def entries(value: object) -> list[Json]:
    """Return a value that is a list; of any other a list of it, and of None an empty one.

    >>> entries([1, 2]), entries("a"), entries(None)
    ([1, 2], ['a'], [])
    """
    return value if is_list(value) else [] if value is None else [cast(Json, value)]


def value_at(tree: Mapping[str, object], *path: str) -> object:
    """Return the value under nested keys; None if one of them is missing.

    >>> tree = {"test": {"accuracy": 0.9}}
    >>> value_at(tree, "test", "accuracy"), value_at(tree, "test", "loss"), value_at(tree, "seed", "accuracy")
    (0.9, None, None)
    """
    value: object = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def number_at(tree: Mapping[str, object], *path: str) -> float | None:
    """Return the number under nested keys; None if one of them is missing, or the value is not a number.

    >>> number_at({"test": {"accuracy": 0.9}}, "test", "accuracy"), number_at({"test": None}, "test", "accuracy")
    (0.9, None)
    """
    value = value_at(tree, *path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def with_value(tree: Mapping[str, Json], key: str, value: Json) -> JsonObject:
    """Return a copy with another value of a dotted key.

    >>> with_value({"optimizer": {"lr": 1.0}, "seed": 0}, "optimizer.lr", 2.0)
    {'optimizer': {'lr': 2.0}, 'seed': 0}
    """
    first, _, rest = key.partition(".")
    return {**tree, first: with_value(table(tree[first]), rest, value) if rest else value}


def without(tree: JsonObject, key: str) -> JsonObject:
    """Return a copy without a dotted key.

    >>> without({"optimizer": {"lr": 1.0}, "seed": 0}, "optimizer.lr")
    {'optimizer': {}, 'seed': 0}
    """
    first, _, rest = key.partition(".")
    return {k: without(table(v), rest) if k == first else v for k, v in tree.items() if rest or k != first}


def merged(old: Json, new: Json) -> Json:
    """Return the new value; of two tables, the old one with the values of the new one.

    >>> merged({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}})
    {'a': 1, 'b': {'c': 2, 'd': 3}}
    """
    if is_table(old) and is_table(new):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return new
