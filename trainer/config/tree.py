"""A config as plain values: tables in tables, whose values are named by dotted keys."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def value_at(tree: Any, key: str) -> Any:
    """Return the value of a dotted key; None without it.

    >>> value_at({"optimizer": {"lr": 1.0}}, "optimizer.lr"), value_at({}, "optimizer.lr")
    (1.0, None)
    """
    for part in key.split("."):
        tree = tree.get(part) if is_table(tree) else None
    return tree


def with_value(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value of a dotted key.

    >>> with_value({"optimizer": {"lr": 1.0}, "seed": 0}, "optimizer.lr", 2.0)
    {'optimizer': {'lr': 2.0}, 'seed': 0}
    """
    first, _, rest = key.partition(".")
    return {**tree, first: with_value(tree[first], rest, value) if rest else value}


def without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy without a dotted key.

    >>> without({"optimizer": {"lr": 1.0}, "seed": 0}, "optimizer.lr")
    {'optimizer': {}, 'seed': 0}
    """
    first, _, rest = key.partition(".")
    return {k: without(v, rest) if k == first else v for k, v in tree.items() if rest or k != first}


def merged(old: Any, new: Any) -> Any:
    """Return the new value; of two tables, the old one with the values of the new one.

    >>> merged({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}})
    {'a': 1, 'b': {'c': 2, 'd': 3}}
    """
    if is_table(old) and is_table(new):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return new
