"""From a node of the config to the option it describes: the class, its arguments, and every error in them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from collections.abc import Collection, Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainer.config.tree import is_table
from trainer.errors import ConfigError, Problem, nearest
from trainer.parameters import Parameter, describe, parameters


class External:
    """A third-party component: a class which is not one of our options, with the arguments given in the config."""

    def __init__(self, target: Any, arguments: dict[str, Any]) -> None:
        self.target, self.arguments = target, arguments


def instantiate(node: Any, key: str) -> tuple[Any, list[Problem]]:
    """Return the option that a node of the config describes, or None and all errors of the node.

    Args:
        node: The arguments of the option, and its class under ``_target_``.
        key: The dotted key of the node in the config.
    """
    option, problems = _construct(node)
    return option, [dataclasses.replace(p, key=f"{key}.{p.key}".strip(".")) for p in problems]


def _construct(node: Any) -> tuple[Any, Iterable[Problem]]:
    """The option and its errors, with keys relative to the node."""
    if not is_table(node):
        hint = "an option of a list group holds its keys under its own name, as in conf/schedule"
        return None, [Problem("", node, "must be an option: a class under _target_, and its arguments", hint)]
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    if "_target_" not in node:
        return None, [Problem("", arguments, "has no _target_ (the class to use)")]
    try:
        target = locate(node["_target_"])
        signature = inspect.signature(target).parameters
    except ImportError as error:
        return None, [Problem("_target_", node["_target_"], f"cannot be imported: {error}")]
    except (TypeError, ValueError):
        return None, [Problem("_target_", node["_target_"], "is not a class or function with a known signature")]
    if is_option(target):
        return _validated(target, arguments)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    problems = _unusable(arguments, arguments if takes_any else signature)
    return (None, problems.values()) if problems else (External(target, arguments), [])


def _validated(target: Any, arguments: dict[str, Any]) -> tuple[Any, Iterable[Problem]]:
    """Construct an option from JSON values, in which a list stands for a tuple and nothing is converted silently."""
    known = {p.name: p for p in parameters(target)}
    required = [name for name, p in known.items() if p.required]
    problems = {name: Problem(name, None, "must be given") for name in required if name not in arguments}
    problems |= _unusable(arguments, known)
    usable = {name: value for name, value in arguments.items() if name not in problems}
    adapter, option = TypeAdapter[Any](target), None
    while all(name in usable for name in required):
        try:
            option = adapter.validate_json(json.dumps(usable), strict=True)
            break
        except ValidationError as error:
            new = {name: p for name, p in _problems(error, known, usable).items() if name not in problems}
        problems |= new
        # Rules that involve several parameters are checked only once each parameter is valid by itself: the invalid ones
        # take their defaults, so that one answer names every error.
        if not new:
            break
        usable = {name: value for name, value in usable.items() if name not in new}
    return (None, problems.values()) if problems else (option, [])


def _problems(error: ValidationError, known: dict[str, Parameter], arguments: dict[str, Any]) -> dict[str, Problem]:
    """pydantic's errors by parameter, worded from the declaration of each."""
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if item["loc"]:
            name = str(item["loc"][0])
            allowed = "a finite number" if item["type"] == "finite_number" else describe(known[name].annotation)
            problems.setdefault(name, Problem(name, arguments[name], f"must be {allowed}", known[name].meaning))
        elif isinstance(cause, ConfigError):
            problems = {problem.key: problem for problem in cause.problems} | problems
        else:
            problems.setdefault("", Problem("", None, str(cause or item["msg"])))
    return problems


def _unusable(arguments: dict[str, Any], names: Collection[str]) -> dict[str, Problem]:
    """The errors in arguments that the class does not take, and in those still to be given."""
    problems: dict[str, Problem] = {}
    for name, value in arguments.items():
        if name not in names:
            hint = nearest(name, names) or "available: " + (", ".join(names) or "none")
            problems[name] = Problem(name, value, "unknown key", hint)
        elif value == "???":
            problems[name] = Problem(name, None, "must be given")
    return problems


def is_option(target: Any) -> bool:
    """Return whether a class declares its parameters, as ours do."""
    return isinstance(target, type) and dataclasses.is_dataclass(target)


def locate(target: Any) -> Any:
    """Return the class or function behind a dotted ``_target_``; ImportError says which part is missing."""
    module, _, name = str(target).rpartition(".")
    if not module or not isinstance(target, str):
        raise ImportError("must be a dotted path such as package.module.Class")
    namespace = importlib.import_module(module)
    if not hasattr(namespace, name):
        names = [n for n in vars(namespace) if not n.startswith("_")]
        raise ImportError(f"{module} has no {name}; {nearest(name, names)}".rstrip("; "))
    return getattr(namespace, name)
