"""From the composed config to typed options: every problem is found, and all are told at once."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.checks import ConfigError, Problem, check, nearest
from trainer.compose import LISTS

SINGLE = ("job", "architecture", "activation", "initialization", "optimizer", "averaging", "data", "engine", "recipe")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The scalars of ``conf/train.yaml``; their comments there say what each means."""

    epochs: float = 15.0
    batch_size: int | Literal["full"] = 64
    micro_batch: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "bf16", "float32"] = "auto"
    metric: str = "validation_accuracy"
    output: str | None = None
    resume: str | None = None
    checkpoint: str | None = None
    run: str | None = None
    runs: tuple[str, ...] | str | None = None

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        known = self.device in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())
        check(
            self,
            epochs=(0 < self.epochs < float("inf"), "must be > 0 (epochs; fractions are allowed)"),
            batch_size=(self.batch_size == "full" or self.batch_size >= 1, "must be >= 1, or full"),
            micro_batch=(
                self.micro_batch is None or self.micro_batch >= 1,
                "must be >= 1, or null for the whole batch",
            ),
            seed=(0 <= self.seed < 2**32, "must be from 0 to 4294967295"),
            device=(known, "must be auto, cpu, cuda or cuda:N"),
        )


@dataclass(frozen=True)
class Config:
    """What ``resolve`` returns: the settings, one option per single group, named options in order per list group."""

    settings: Settings
    single: dict[str, Any]
    lists: dict[str, dict[str, Any]]
    tree: dict[str, Any]  # the resolved config as plain values, as written to the run folder
    open: tuple[str, ...] = ()  # keys left to a range test
    chosen: dict[str, float] = field(default_factory=dict)  # what one chose for them
    notes: tuple[str, ...] = ()  # what composing decided for the user

    def __getattr__(self, name: str) -> Any:
        for place in ("single", "lists"):
            if name in self.__dict__[place]:
                return self.__dict__[place][name]
        return getattr(self.__dict__["settings"], name)


class Foreign:
    """A class which is not an option of ours (torch's, or the user's), with the arguments the config gives it."""

    def __init__(self, target: Any, arguments: dict[str, Any]) -> None:
        self.target, self.arguments = target, arguments

    def accepts(self, name: str) -> bool:
        """Whether the class takes an argument of that name, so that ``num_classes`` and the like can be handed over."""
        parameters = inspect.signature(self.target).parameters.values()
        return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


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


def locate(target: str) -> Any:
    """The class or function behind a dotted ``_target_``; ImportError says which part is missing."""
    module, _, name = target.rpartition(".")
    if not module:
        raise ImportError("must be a dotted path such as package.module.Class")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        names = [n for n in vars(found) if not n.startswith("_")]
        raise ImportError(f"{module} has no {name}; {nearest(name, names)}".rstrip("; "))
    return getattr(found, name)


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
        parameters = inspect.signature(target).parameters  # pyright: ignore[reportArgumentType]
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        hints, names, required = {}, list(arguments) if anything else list(parameters), []
    problems = _problems_of(arguments, names, required, hints, place, where)
    if problems:
        return None, problems
    if not own:
        return Foreign(target, arguments), []
    given = {k: coerce(v, hints[k]) for k, v in arguments.items()}
    found: list[Problem] = []
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
            except TypeError as error:
                problems.append(Problem(full, value, f"must be {error}", where=where))
    missing = [key for key in required if key not in arguments]
    return problems + [Problem(f"{place}.{key}", None, "must be given", where=where) for key in missing]


def finite(value: Any) -> bool:
    """Whether no number in a value is infinite or none at all: no parameter means anything then.

    >>> finite([1, 2.0, "a"]), finite([1.0, float("inf")])
    (True, False)
    """
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, interpolations resolved; ``???`` stays, for ``resolve`` to complain of."""
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(
            Problem(str(error.full_key or ""), str(error.msg).split("\n")[0], "cannot be resolved")
        ) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


# Keys that may be ``auto``, with the numbers they have until a range test has been made.
AUTO = {("optimizer", "lr"): 1e-3, ("schedule", "clr", "floor"): 0.1}


def opened(tree: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config with numbers for what is left to a range test, and the keys that are.

    >>> opened({"optimizer": {"lr": "auto"}, "seed": 0})
    ({'optimizer': {'lr': 0.001}, 'seed': 0}, ('optimizer.lr',))
    """
    found = []
    for path, number in AUTO.items():
        node: Any = tree
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(path[-1]) == "auto":
            found.append(".".join(path))
            tree = placed(tree, path, number)
    return tree, tuple(found)


def placed(tree: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of the config with another value at a place.

    >>> placed({"optimizer": {"lr": 1.0}, "seed": 0}, ["optimizer", "lr"], 2.0)
    {'optimizer': {'lr': 2.0}, 'seed': 0}
    """
    key, *rest = path
    return {**tree, key: placed(tree[key], rest, value) if rest else value}


def resolve(
    cfg: DictConfig | dict[str, Any], choices: dict[str, str] | None = None, notes: Sequence[str] = ()
) -> Config:
    """The config with every option constructed; ConfigError with all problems where there are any.

    ``choices`` says which option each group took (Hydra knows), to name the file that defines a key; ``notes`` are kept.
    """
    tree = plain(cfg) if isinstance(cfg, DictConfig) else dict(cfg)
    choices = choices or {}
    whole, (tree, left) = tree, opened(tree)
    problems: list[Problem] = []
    single: dict[str, Any] = {}
    lists: dict[str, dict[str, Any]] = {group: {} for group in LISTS}
    for group in SINGLE:
        node = tree.get(group)
        if not isinstance(node, dict):
            problems.append(Problem(group, node, f"must name one option of conf/{group}", f"see: train {group}=?"))
            continue
        single[group], wrong = construct(node, group, f"conf/{group}/{choices.get(group, '*')}.yaml")
        problems += wrong
    for group in LISTS:
        for name, node in (tree.get(group) or {}).items():
            where = f"conf/{group}/{name}.yaml"
            if not isinstance(node, dict):
                hint = f"options in use: {', '.join(tree[group]) or 'none'}"
                if name == "_target_":
                    hint = f"an option file of {group} holds its keys under its own name, as in conf/{group}"
                problems.append(Problem(f"{group}.{name}", node, "is no option with a _target_", hint))
                continue
            lists[group][name], wrong = construct(node, f"{group}.{name}", where)
            problems += wrong
    scalars = {k: v for k, v in tree.items() if k not in SINGLE + LISTS + ("experiment",)}
    settings, wrong = construct({"_target_": f"{__name__}.Settings", **scalars}, "", "conf/train.yaml")
    problems += wrong
    if problems:
        raise ConfigError(*problems)
    return Config(settings, single, lists, whole, left, notes=tuple(notes))
