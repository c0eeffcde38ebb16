"""From a node of the config to the option it describes: the class, its arguments, and all that is wrong with them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from trainer.checks import ConfigError, Problem, nearest


class Foreign:
    """A class which is not an option of ours (torch's, or the user's), with the arguments the config gives it."""

    def __init__(self, target: Any, arguments: dict[str, Any]) -> None:
        self.target, self.arguments = target, arguments

    def accepts(self, name: str) -> bool:
        """Whether the class takes an argument of that name, so that ``num_classes`` and the like can be handed over."""
        parameters = inspect.signature(self.target).parameters.values()
        return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def construct(node: dict[str, Any], place: str, where: str) -> tuple[Any, list[Problem]]:
    """The option a node describes, or all that is wrong with the node; ``place`` is its dotted place in the config."""
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    if "_target_" not in node:
        return None, [Problem(place, arguments, "has no _target_ (the class to use)", where=where)]
    try:
        target = locate(node["_target_"])
    except (ImportError, ValueError) as error:
        return None, [Problem(f"{place}._target_", node["_target_"], f"cannot be imported: {error}", where=where)]
    own = dataclasses.is_dataclass(target) and isinstance(target, type)
    if own:
        hints = get_type_hints(target)
        names = [f.name for f in dataclasses.fields(target) if f.init]
        required = [f.name for f in dataclasses.fields(target) if f.init and _required(f)]
    else:
        try:
            parameters = inspect.signature(target).parameters  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError):
            text = "is no class or function that says what it takes"
            return None, [Problem(f"{place}._target_", node["_target_"], text, where=where)]
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        hints, names, required = {}, list(arguments) if anything else list(parameters), []
    found = _problems_of(arguments, names, required, hints, place, where)
    wrong = {problem.key for problem in found}
    given = {k: v for k, v in arguments.items() if f"{place}.{k}".strip(".") not in wrong}
    if found and not (own and given.keys() >= set(required)):
        return None, found
    if not own:
        return Foreign(target, arguments), []
    given = {k: coerce(v, hints[k]) for k, v in given.items()}
    while True:
        try:
            option = target(**given)  # pyright: ignore[reportCallIssue]
            return (None, found) if found else (option, [])
        except ConfigError as error:
            found += [
                dataclasses.replace(p, key=f"{place}.{p.key}".strip("."), where=p.where or where)
                for p in error.problems
            ]
            # An option stops at its first wrong keys; without them it tells what else is wrong.
            left = {k: v for k, v in given.items() if k not in {p.key for p in error.problems} or k in required}
            if left == given:
                return None, found
            given = left


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _problems_of(
    arguments: dict[str, Any], names: list[str], required: list[str], hints: dict[str, Any], place: str, where: str
) -> list[Problem]:
    problems = []
    for key, value in arguments.items():
        full = f"{place}.{key}" if place else key
        if key not in names:
            hint = nearest(key, names) or "there are: " + (", ".join(names) or "none")
            problems.append(Problem(full, value, "there is no such key", hint, where))
        elif value == "???":
            problems.append(Problem(full, value, f"must be given: {full}=...", where=where))
        elif not finite(value):
            problems.append(Problem(full, value, "must be a finite number", where=where))
        elif key in hints:
            try:
                coerce(value, hints[key])
            except TypeError:
                problems.append(Problem(full, value, f"must be {describe(hints[key])}", where=where))
    missing = [key for key in required if key not in arguments]
    return problems + [Problem(f"{place}.{key}", None, "must be given", where=where) for key in missing]


def locate(target: str) -> Any:
    """The class or function behind a dotted ``_target_``; ImportError says which part is missing."""
    module, _, name = str(target).rpartition(".")
    if not module or not isinstance(target, str):
        raise ImportError("must be a dotted path such as package.module.Class")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        names = [n for n in vars(found) if not n.startswith("_")]
        raise ImportError(f"{module} has no {name}; {nearest(name, names)}".rstrip("; "))
    return getattr(found, name)


def coerce(value: Any, wanted: Any) -> Any:
    """The value as the annotation wants it, where nothing is lost by it; else TypeError.

    >>> coerce(1, float), coerce([1, 2], tuple[int, ...]), coerce("auto", float | Literal["auto"])
    (1.0, (1, 2), 'auto')
    >>> coerce("abc", float)
    Traceback (most recent call last):
    TypeError: a number
    """
    origin = get_origin(wanted)
    if wanted is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(value, get_args(wanted))
    if origin is Literal:
        if value in get_args(wanted) and isinstance(value, type(get_args(wanted)[0])):
            return value
    elif origin in (tuple, list):
        return _coerce_sequence(value, origin, get_args(wanted))
    elif origin is dict or wanted is dict:
        if isinstance(value, dict):
            return value
    elif wanted is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif wanted is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    elif wanted is type(None):
        if value is None:
            return value
    elif isinstance(value, wanted):
        return value
    raise TypeError(describe(wanted))


def _coerce_union(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in sorted(choices, key=lambda c: c is float):  # int before float, so that 3 stays 3
        try:
            return coerce(value, choice)
        except TypeError:
            continue
    raise TypeError(" or ".join(describe(c) for c in choices))


def _coerce_sequence(value: Any, kind: type, args: tuple[Any, ...]) -> Any:
    wanted = kind[args] if args else kind  # pyright: ignore[reportIndexIssue]
    if not isinstance(value, list | tuple):
        raise TypeError(describe(wanted))
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise TypeError(describe(wanted))
        return tuple(coerce(v, a) for v, a in zip(value, args, strict=True))
    return kind(coerce(v, args[0]) if args else v for v in value)


def describe(wanted: Any) -> str:
    """An annotation in words.

    >>> describe(Literal["batch", "none"]), describe(int | None), describe(tuple[float, float])
    ('batch or none', 'a whole number or null', 'a list [a number, a number]')
    """
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin in (tuple, list):
        inside = ", ".join("..." if a is Ellipsis else describe(a) for a in args)
        return f"a list [{inside}]"
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(wanted, getattr(wanted, "__name__", str(wanted)))


def finite(value: Any) -> bool:
    """Whether no number in a value is infinite or none at all: no parameter means anything then.

    >>> finite([1, 2.0, "a"]), finite([1.0, float("inf")])
    (True, False)
    """
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)
