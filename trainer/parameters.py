"""Typed parameters: one declaration holds a parameter's type, default, range, unit, and meaning.

    @option
    class Momentum(Optimizer):
        momentum: Annotated[float, Field(gt=0, lt=1, description="fraction of the last update kept")] = 0.9

The comments of the option files, ``--help``, the documentation, and error messages are derived from it.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import pydantic.dataclasses
from pydantic import ConfigDict, Field
from pydantic.fields import FieldInfo

from trainer.progress import activity

T = TypeVar("T")
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
CONFIG = ConfigDict(allow_inf_nan=False, defer_build=True, extra="forbid")


@overload
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field, dataclasses.field))
def option(cls: type[T]) -> type[T]: ...
@overload
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field, dataclasses.field))
def option(*, frozen: bool = True, kw_only: bool = True) -> Callable[[type[T]], type[T]]: ...
def option(
    cls: type[T] | None = None, *, frozen: bool = True, kw_only: bool = True
) -> type[T] | Callable[[type[T]], type[T]]:
    """Class decorator that turns annotated attributes into validated parameters (a pydantic dataclass).

    Args:
        cls: The class, where the decorator is used without arguments.
        frozen: Whether instances are immutable.
        kw_only: Whether parameters must be passed by keyword.
    """
    make: Callable[[type[T]], Any] = pydantic.dataclasses.dataclass(frozen=frozen, kw_only=kw_only, config=CONFIG)
    return make if cls is None else make(cls)


def implemented_by(path: str) -> Any:
    """Return a method that calls ``module:function`` with the option as its first argument.

    The module is imported at the first call. Options can thus be validated without torch, and the modules that
    implement them import it at the top.
    """
    module, _, name = path.partition(":")

    def method(self: object, *args: object, **kwargs: object) -> object:
        return getattr(_loaded(module), name)(self, *args, **kwargs)

    method.__qualname__ = method.__name__ = name
    method.__doc__ = f"See ``{path}``."
    return method


def _loaded(module: str) -> ModuleType:
    if module in sys.modules:
        return sys.modules[module]
    first = "torch" not in sys.modules
    with activity("loading torch" if first else "loading the program"), without_collections(freeze=first):
        return importlib.import_module(module)


@contextmanager
def without_collections(freeze: bool) -> Iterator[None]:
    """Import libraries without searching for cyclic garbage, which takes a second of the time: they have a million objects.

    Args:
        freeze: Whether later searches leave out the objects that exist at the end.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freeze:
            gc.freeze()
        if enabled:
            gc.enable()


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The space in which ``job=search`` searches a parameter, as part of its annotation.

    Attributes:
        text: Such as ``log(1e-4,1e-1)``.
        by_default: Whether the parameter is searched where no space is typed.
    """

    text: str
    by_default: bool = True


def search_space(annotation: Any) -> SearchSpace | None:
    """Return the search space that the declaration of a parameter has.

    >>> search_space(Annotated[PositiveFloat, SearchSpace("log(1e-4,1e-1)")])
    SearchSpace(text='log(1e-4,1e-1)', by_default=True)
    """
    return next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, SearchSpace)), None)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of an option, as declared."""

    name: str
    annotation: object
    default: object  # dataclasses.MISSING for a required parameter
    meaning: str

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def comment(self) -> str:
        """What an option file says about the parameter: its meaning, then the values allowed."""
        return "; ".join(filter(None, (self.meaning, allowed_values(self.annotation))))


@lru_cache(maxsize=1000)
def parameters(cls: type) -> tuple[Parameter, ...]:
    """Return the parameters of an option class, in the order of declaration."""
    hints = get_type_hints(cls, include_extras=True)
    result = []
    for field in dataclasses.fields(cls):
        if field.init:
            default = field.default
            if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            annotation = hints[field.name]
            result.append(Parameter(field.name, annotation, default, _meaning(annotation)))
    return tuple(result)


def _meaning(annotation: object) -> str:
    infos = [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, FieldInfo)]
    return next((info.description for info in infos if info.description), "")


def describe(annotation: object) -> str:
    """Return the type and range of a parameter in words, as they complete "must be ...".

    >>> describe(Annotated[float, Field(gt=0)]), describe(Annotated[int, Field(ge=1)] | Literal["auto"])
    ('a number > 0', 'an integer >= 1 or auto')
    >>> describe(tuple[float, float]), describe(Literal["batch", "group", "none"])
    ('a list [a number, a number]', 'batch, group or none')
    """
    annotation, limits = _unwrap(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        *first, last = map(str, args)
        return f"{', '.join(first)} or {last}" if first else last
    if origin in (tuple, list):
        return f"a list [{', '.join('...' if a is Ellipsis else describe(a) for a in args)}]"
    names = {
        float: "a number",
        int: "an integer",
        bool: "true or false",
        str: "text",
        type(None): "null",
        dict: "a table",
    }
    text = names.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{text} {limits}".strip()


def allowed_values(annotation: object) -> str:
    """Return the range of a parameter as option files note it; empty where its type alone limits it.

    >>> allowed_values(Annotated[float, Field(ge=0, lt=1)]), allowed_values(Annotated[int, Field(ge=1)] | None)
    ('in [0, 1)', '>= 1 or null')
    >>> allowed_values(Literal["best", "last"]), allowed_values(bool)
    ('best | last', '')
    """
    annotation, limits = _unwrap(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        texts = [allowed_values(a) for a in args]
        return " or ".join(filter(None, texts)) if any(text not in ("", "null") for text in texts) else ""
    if origin in (tuple, list):
        each = {text for text in (allowed_values(a) for a in args if a is not Ellipsis) if text}
        return f"each {each.pop()}" if len(each) == 1 else ""
    return "null" if annotation is type(None) else limits


def limits(annotation: object) -> dict[str, float]:
    """Return the limits ``gt``, ``ge``, ``lt`` and ``le`` that the declaration of a number has, those of a union together.

    >>> limits(Annotated[float, Field(ge=0, lt=1)]), limits(PositiveInt | Literal["auto"]), limits(str)
    ({'ge': 0, 'lt': 1}, {'ge': 1}, {})
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return {k: v for a in get_args(annotation) for k, v in limits(a).items()}
    if get_origin(annotation) is not Annotated:
        return {}
    bare, *metadata = get_args(annotation)
    found = limits(bare)
    for meta in metadata:
        for constraint in getattr(meta, "metadata", [meta]):
            found |= {k: getattr(constraint, k) for k in ("gt", "ge", "lt", "le") if hasattr(constraint, k)}
    return found


def _unwrap(annotation: object) -> tuple[object, str]:
    """The bare type of an annotation, and its limits in words."""
    if get_origin(annotation) is not Annotated:
        return annotation, ""
    return _unwrap(get_args(annotation)[0])[0], _interval(limits(annotation))


def _interval(limits: dict[str, float]) -> str:
    low, high = limits.get("gt", limits.get("ge")), limits.get("lt", limits.get("le"))
    if low is not None and high is not None:
        return f"in {'(' if 'gt' in limits else '['}{_number(low)}, {_number(high)}{')' if 'lt' in limits else ']'}"
    if low is not None:
        return f"{'>' if 'gt' in limits else '>='} {_number(low)}"
    if high is not None:
        return f"{'<' if 'lt' in limits else '<='} {_number(high)}"
    return ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


__all__ = [
    "Annotated",
    "Field",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Parameter",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "SearchSpace",
    "allowed_values",
    "describe",
    "implemented_by",
    "limits",
    "option",
    "parameters",
    "search_space",
]
