"""From a node of the config to the option it describes: the class, its arguments, and every error in them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

from trainer.augmentation.transforms import Transform
from trainer.construct import construct, is_option, locate, unusable
from trainer.data.options import WithoutTestSplit
from trainer.errors import Problem
from trainer.formats import JsonObject
from trainer.interfaces import INTERFACES, has_base
from trainer.parameters import parameters
from trainer.plain import Plain, adapted, is_open
from trainer.tree import is_table
from trainer.trust import INSTANTIATE_KEYS, NotTrusted

# Keys of a config node of the user's class that are not its arguments, by group: the parameters of what adapts it.
SETTINGS: dict[str, type] = {"data": WithoutTestSplit, "augmentation": Transform}


class External:
    """A third-party component: a class which is not one of our options, with the arguments given in the config under ``key``."""

    def __init__(self, target: Any, arguments: JsonObject, key: str) -> None:
        self.target, self.arguments, self.key = target, arguments, key


def instantiate(node: Any, key: str) -> tuple[Any, list[Problem]]:
    """Return the option that a node of the config describes, or None and all errors of the node.

    Args:
        node: The arguments of the option, and its class under ``_target_``.
        key: The dotted key of the node in the config.
    """
    option, problems = _construct(node, key, key.partition(".")[0])
    return option, [dataclasses.replace(p, key=f"{key}.{p.key}".strip(".")) for p in problems]


def _construct(node: Any, place: str, group: str) -> tuple[Any, Iterable[Problem]]:
    """The option and its errors, with keys relative to the node."""
    if not is_table(node):
        hint = "an option of a list group holds its keys under its own name, as in conf/schedule"
        return None, [Problem("", node, "must be an option: a class under _target_, and its arguments", hint)]
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    if "_target_" not in node:
        return None, [Problem("", arguments, "has no _target_ (the class to use)")]
    try:
        target = locate(node["_target_"], group)
        signature = inspect.signature(target).parameters
    except NotTrusted as error:
        return None, [Problem("_target_", node["_target_"], str(error), error.hint)]
    except ImportError as error:
        return None, [Problem("_target_", node["_target_"], f"cannot be imported: {error}")]
    except (TypeError, ValueError):
        return None, [Problem("_target_", node["_target_"], "is not a class or function with a known signature")]
    if is_option(target) and has_base(target, group):
        return construct(target, arguments)
    adapter, partial = INTERFACES[group].adapter, arguments.get("_partial_")
    if adapter and isinstance(partial, bool):
        del arguments["_partial_"]
    wrong = [key for key in INSTANTIATE_KEYS if key in arguments]
    if wrong:
        return None, [
            Problem(key, arguments[key], "is a key of Hydra's instantiate, which is not used here") for key in wrong
        ]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    own = {p.name for p in parameters(SETTINGS[group])} - signature.keys() if group in SETTINGS else set[str]()
    settings = {key: value for key, value in arguments.items() if key in own}
    arguments = {key: value for key, value in arguments.items() if key not in own}
    problems = unusable(arguments, arguments if takes_any else signature, own)
    if problems or not adapter or is_albumentations(target):
        return (None, problems.values()) if problems else (External(target, arguments, place), [])
    option, errors = construct(SETTINGS[group], settings) if settings else (None, [])
    if errors:
        return None, errors
    settings = {key: getattr(option, key) for key in settings}
    partial = partial if isinstance(partial, bool) else not isinstance(target, type) and is_open(target, arguments)
    return adapted(Plain(target, arguments, settings, partial, place), adapter)


def is_albumentations(target: Any) -> bool:
    """Return whether a class is a transform of albumentations, which the pipeline of single images takes as it is."""
    return any(cls.__module__.startswith("albumentations.") for cls in getattr(target, "__mro__", ()))
