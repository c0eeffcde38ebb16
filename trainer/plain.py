"""Plain classes and functions of the user, which the adapter of their group turns into an option."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError, Problem, first_line, is_out_of_memory


@dataclass(frozen=True)
class Plain:
    """A class or function that is not one of our options, with the arguments given in the config.

    Attributes:
        target: The class or function.
        arguments: Its arguments.
        settings: Further keys of the config node, parameters of the adapter.
        partial: Whether the object is ``target`` with the arguments filled in, as with ``_partial_: true``, not what it returns.
        key: The place of the node in the config, for errors.
    """

    target: Callable[..., Any]
    arguments: dict[str, Any]
    settings: dict[str, Any]
    partial: bool
    key: str = ""

    @property
    def name(self) -> str:
        """The name of the class or function."""
        return getattr(self.target, "__name__", str(self.target))

    def object(self, **more: Any) -> Any:
        """Return what the config describes: an instance, what the function returns, or the function with arguments filled in.

        Args:
            more: Arguments that are passed as well if ``target`` has parameters of these names.

        Raises:
            ConfigError: The class or function fails with its arguments.
        """
        accepted = inspect.signature(self.target).parameters
        arguments = {name: value for name, value in more.items() if name in accepted} | self.arguments
        if self.partial:
            return partial(self.target, **arguments)
        with constructing(self.key, self.target, arguments):
            return self.target(**arguments)

    def with_methods_of(self, base: type) -> Any:
        """Return an instance that has the methods of ``base`` where the class has none of its own."""
        assert isinstance(self.target, type)
        bases = (self.target,) if issubclass(self.target, base) else (self.target, base)
        with constructing(self.key, self.target, self.arguments):
            return type(self.target.__name__, bases, {})(**self.arguments)


def adapted(plain: Plain, adapter: str) -> tuple[object, list[Problem]]:
    """Return the option that an adapter, ``module:name``, makes of a plain class or function, or its errors, relative to it."""
    module, _, name = adapter.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(plain), []
    except ConfigError as error:
        return None, [replace(p, key=p.key.removeprefix(f"{plain.key}.")) for p in error.problems]


@contextmanager
def constructing(key: str, target: object, arguments: Mapping[str, object]) -> Iterator[None]:
    """Turn whatever a class or function raises with its arguments into an error of the config; memory that is lacking stays one.

    Args:
        key: The place of the option in the config.
        target: The class or function.
        arguments: Its arguments.

    Raises:
        ConfigError: It has failed.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        name = f"{target.__module__}.{getattr(target, '__qualname__', type(target).__name__)}"
        shown = ", ".join(f"{name}={shortened(value)}" for name, value in arguments.items()) or "no arguments"
        reason = f"{type(error).__name__}: {first_line(error)} ({source_line(error, target.__module__)})"
        raise ConfigError(Problem(f"{key}._target_", name, f"cannot be built with {shown}: {reason}")) from error


def shortened(value: object) -> str:
    """Return a value as Python writes it, in at most 80 characters.

    >>> shortened("wide"), shortened(list(range(100)))[-12:]
    ("'wide'", '9, 20, 21...')
    """
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def source_line(error: Exception, module: str) -> str:
    """Return file and line of an error: the innermost frame in ``module``, or the innermost frame of all if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(sys.modules.get(module), "__file__", None)
    frame = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def is_open(target: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    """Return whether a function has required parameters that are not among the arguments: it is to be called with them later.

    >>> def ramp(t, length): return min(1.0, t / length)
    >>> is_open(ramp, {"length": 3}), is_open(ramp, {"t": 1, "length": 3})
    (True, False)
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(target).parameters.values()
    return any(p.kind in kinds and p.default is p.empty and p.name not in arguments for p in parameters)
