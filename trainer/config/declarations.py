"""The declaration of the parameter that a dotted key of a config sets."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainer.config.instantiate import locate
from trainer.config.schema import Settings
from trainer.parameters import Parameter, parameters


def declaration(tree: dict[str, Any], key: str) -> Parameter | None:
    """Return the declaration of a key; None where the config has no such key, or its option is not one of ours.

    Args:
        tree: The config as plain values.
        key: Dotted, such as ``optimizer.lr``.

    >>> declaration({"optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}}, "optimizer.lr").default
    0.001
    """
    *path, name = key.split(".")
    node: Any = tree
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return None
    try:
        cls = locate(node.get("_target_")) if path else Settings
    except ImportError:
        return None
    known = parameters(cls) if dataclasses.is_dataclass(cls) and isinstance(cls, type) else []
    return next((p for p in known if p.name == name), None)
