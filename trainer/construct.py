"""Options from plain values: the class behind a ``_target_``, and an option of it with every error in its arguments."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, TypeGuard

from pydantic import TypeAdapter, ValidationError

from trainer import trust
from trainer.errors import ConfigError, Problem, nearest
from trainer.formats import JsonObject
from trainer.interfaces import check_interface, check_place
from trainer.parameters import Parameter, describe, parameters
from trainer.settings import Settings
from trainer.tree import value_at

# What checks the arguments of a class, kept for the next job of a sweep or trial of a search.
_adapter = lru_cache(maxsize=1000)(TypeAdapter[Any])


def locate(target: Any, group: str) -> Any:
    """Return the class or function behind a dotted ``_target_``, if the config may name it and the group takes it.

    Raises:
        NotTrusted: It is neither ours nor published nor named by the user, or is something else than the group takes;
            of a module that may not be named nothing is imported.
        ImportError: A part of the path is missing.
    """
    package = trust.check(target)
    module, _, name = target.rpartition(".")
    if package in trust.PUBLISHED:
        check_place(target, group)
    trust.make_importable(package)
    namespace = importlib.import_module(module)
    if not hasattr(namespace, name):
        names = [n for n in vars(namespace) if not n.startswith("_")]
        raise ImportError(f"{module} has no {name}; {nearest(name, names)}".rstrip("; "))
    value = getattr(namespace, name)
    check_interface(value, group, package)
    return value


def construct(target: Any, arguments: Mapping[str, object], others: Collection[str] = ()) -> tuple[Any, list[Problem]]:
    """Construct an option from JSON values, in which a list stands for a tuple and nothing is converted silently.

    Args:
        target: The class, whose parameters are declared.
        arguments: Their values by name.
        others: Names that may stand beside the parameters, for the answer to an unknown one.

    Returns:
        The option, or None and all errors of the arguments, with keys relative to the option.
    """
    known = {p.name: p for p in parameters(target)}
    required = [name for name, p in known.items() if p.required]
    problems = {name: Problem(name, None, "must be given") for name in required if name not in arguments}
    problems |= unusable(arguments, known, others)
    usable = {name: value for name, value in arguments.items() if name not in problems}
    adapter, option = _adapter(target), None
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
    return (None, list(problems.values())) if problems else (option, [])


def _problems(
    error: ValidationError, known: dict[str, Parameter], arguments: Mapping[str, object]
) -> dict[str, Problem]:
    """pydantic's errors by parameter, worded from the declaration of each."""
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if item["loc"]:
            name = str(item["loc"][0])
            allowed = "a finite number" if item["type"] == "finite_number" else describe(known[name].annotation)
            hint = "; ".join([*_as_typed(arguments[name], allowed), known[name].meaning])
            problems.setdefault(name, Problem(name, arguments[name], f"must be {allowed}", hint))
        elif isinstance(cause, ConfigError):
            problems = {problem.key: problem for problem in cause.problems} | problems
        else:
            problems.setdefault("", Problem("", None, str(cause or item["msg"])))
    return problems


def _as_typed(value: object, allowed: str) -> list[str]:
    """Return how a value is typed so that it is what is allowed, where only that is wrong with it.

    >>> _as_typed(5, "a list [an integer, ...]"), _as_typed(-1, "text or a number > 0")
    (['in brackets: [5]'], [])
    >>> print(*_as_typed(240, "text or null"))
    in quotes: '"240"'
    """
    if allowed.startswith("a list [") and isinstance(value, str | int | float):
        return [f"in brackets: [{value}]"]
    if allowed.startswith("text") and "number" not in allowed and isinstance(value, int | float):
        return [f"in quotes: '\"{str(value).lower()}\"'"]
    return []


def unusable(
    arguments: Mapping[str, object], names: Collection[str], others: Collection[str] = ()
) -> dict[str, Problem]:
    """Return the errors in arguments that are not among the ``names``, and in those still to be given."""
    problems: dict[str, Problem] = {}
    allowed = [*others, *names]
    for name, value in arguments.items():
        if name not in names:
            hint = nearest(name, allowed) or "available: " + (", ".join(allowed) or "none")
            problems[name] = Problem(name, value, "unknown key", hint)
        elif value == "???":
            problems[name] = Problem(name, None, "must be given")
    return problems


def is_option(target: object) -> TypeGuard[type[object]]:
    """Return whether a class declares its parameters, as ours do."""
    return isinstance(target, type) and dataclasses.is_dataclass(target)


def declaration(tree: JsonObject, key: str) -> Parameter | None:
    """Return the declaration of a key; None where the config has no such key, or its option is not one of ours.

    Args:
        tree: The config as plain values.
        key: Dotted, such as ``optimizer.lr``.

    >>> declaration({"optimizer": {"_target_": "trainer.optimizers.Adam", "lr": 0.1}}, "optimizer.lr").default
    0.001
    """
    place, _, name = key.rpartition(".")
    try:
        cls: Any = locate(value_at(tree, *place.split("."), "_target_"), place.partition(".")[0]) if place else Settings
    except ImportError:
        return None
    return next((p for p in parameters(cls) if p.name == name), None) if is_option(cls) else None
