"""From a node of the config to the option it describes: the class, its arguments, and every error in them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from trainer.errors import ConfigError, Problem, nearest
from trainer.parameters import describe, parameters


class External:
    """A third-party component: a class which is not one of our options, with the arguments given in the config."""

    def __init__(self, target: Any, arguments: dict[str, Any]) -> None:
        self.target, self.arguments = target, arguments


def instantiate(node: dict[str, Any], key: str) -> tuple[Any, list[Problem]]:
    """Return the option that a node of the config describes, or None and all errors of the node.

    Args:
        node: The arguments of the option, and its class under ``_target_``.
        key: The dotted key of the node in the config.
    """
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    if "_target_" not in node:
        return None, [Problem(key, arguments, "has no _target_ (the class to use)")]
    try:
        target = locate(node["_target_"])
    except (ImportError, ValueError) as error:
        return None, [Problem(f"{key}._target_", node["_target_"], f"cannot be imported: {error}")]
    if dataclasses.is_dataclass(target) and isinstance(target, type):
        return _validated(target, arguments, key)
    try:
        signature = inspect.signature(target).parameters  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        text = "is not a class or function with a known signature"
        return None, [Problem(f"{key}._target_", node["_target_"], text)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    problems = _unusable(arguments, list(arguments) if takes_any else list(signature), key)
    return (None, problems) if problems else (External(target, arguments), [])


def _validated(target: type, arguments: dict[str, Any], key: str) -> tuple[Any, list[Problem]]:
    """Construct an option from JSON values, in which a list stands for a tuple and nothing is converted silently."""
    known = {p.name: p for p in parameters(target)}
    problems = _unusable(arguments, list(known), key)
    missing = [name for name, p in known.items() if p.required and name not in arguments]
    problems += [Problem(_dotted(key, name), None, "must be given") for name in missing]
    unusable = {problem.key for problem in problems}
    arguments = {k: v for k, v in arguments.items() if _dotted(key, k) not in unusable}
    if any(p.required and name not in arguments for name, p in known.items()):
        return None, problems
    adapter = TypeAdapter(target)
    while True:
        try:
            option = adapter.validate_json(json.dumps(arguments), strict=True)
            return (None, problems) if problems else (option, [])
        except ValidationError as error:
            reported = {problem.key for problem in problems}
            new = [p for p in _problems(error, target, arguments, key) if p.key not in reported]
            problems += new
            # Rules that involve several parameters are checked only once each parameter is valid by itself: the
            # invalid ones take their defaults, so that one answer names every error.
            wrong = {problem.key for problem in new}
            rest = {k: v for k, v in arguments.items() if _dotted(key, k) not in wrong or known[k].required}
            if rest == arguments:
                return None, problems
            arguments = rest


def _problems(error: ValidationError, target: type, arguments: dict[str, Any], key: str) -> list[Problem]:
    """pydantic's errors, worded from the declaration of each parameter."""
    hints = get_type_hints(target, include_extras=True)
    meanings = {p.name: p.meaning for p in parameters(target)}
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if item["loc"]:
            name = str(item["loc"][0])
            finite = item["type"] != "finite_number"
            text = f"must be {describe(hints[name])}" if finite else "must be a finite number"
            problems.setdefault(name, Problem(_dotted(key, name), arguments[name], text, meanings[name]))
        elif isinstance(cause, ConfigError):
            for problem in cause.problems:
                problems.setdefault(problem.key, dataclasses.replace(problem, key=_dotted(key, problem.key)))
        else:
            problems.setdefault("", Problem(key, None, str(cause or item["msg"])))
    return list(problems.values())


def _unusable(arguments: dict[str, Any], names: list[str], key: str) -> list[Problem]:
    """Arguments the class does not take, and those still to be given."""
    problems = []
    for name, value in arguments.items():
        full = _dotted(key, name)
        if name not in names:
            hint = nearest(name, names) or "available: " + (", ".join(names) or "none")
            problems.append(Problem(full, value, "unknown key", hint))
        elif value == "???":
            problems.append(Problem(full, None, f"must be given: {full}=..."))
    return problems


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}".strip(".")


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
