"""The declaration of the parameter that a dotted key of a config sets."""

from __future__ import annotations

from typing import Any

from trainer.config.instantiate import is_option
from trainer.config.schema import Settings
from trainer.config.tree import value_at
from trainer.construct import locate
from trainer.parameters import Parameter, parameters


def declaration(tree: dict[str, Any], key: str) -> Parameter | None:
    """Return the declaration of a key; None where the config has no such key, or its option is not one of ours.

    Args:
        tree: The config as plain values.
        key: Dotted, such as ``optimizer.lr``.

    >>> declaration({"optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}}, "optimizer.lr").default
    0.001
    """
    place, _, name = key.rpartition(".")
    try:
        cls: Any = locate(value_at(tree, f"{place}._target_"), place.partition(".")[0]) if place else Settings
    except ImportError:
        return None
    return next((p for p in parameters(cls) if p.name == name), None) if is_option(cls) else None
