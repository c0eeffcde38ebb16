"""Plain classes and functions of the user, which the adapter of their group turns into an option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Plain:
    """A class or function that is not one of our options, with the arguments given in the config.

    Attributes:
        target: The class or function.
        arguments: Its arguments.
        settings: Further keys of the config node, parameters of the adapter.
        partial: Whether the object is ``target`` with the arguments filled in, as with ``_partial_: true``, not what it returns.
    """

    target: Callable[..., Any]
    arguments: dict[str, Any]
    settings: dict[str, Any]
    partial: bool

    @property
    def name(self) -> str:
        """The name of the class or function."""
        return getattr(self.target, "__name__", str(self.target))

    def object(self, **more: Any) -> Any:
        """Return what the config describes: an instance, what the function returns, or the function with arguments filled in.

        Args:
            more: Arguments that are passed as well if ``target`` has parameters of these names.
        """
        accepted = inspect.signature(self.target).parameters
        arguments = {name: value for name, value in more.items() if name in accepted} | self.arguments
        return partial(self.target, **arguments) if self.partial else self.target(**arguments)

    def with_methods_of(self, base: type) -> Any:
        """Return an instance that has the methods of ``base`` where the class has none of its own."""
        assert isinstance(self.target, type)
        bases = (self.target,) if issubclass(self.target, base) else (self.target, base)
        return type(self.target.__name__, bases, {})(**self.arguments)


def is_open(target: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    """Return whether a function has required parameters that are not among the arguments: it is to be called with them later.

    >>> def ramp(t, length): return min(1.0, t / length)
    >>> is_open(ramp, {"length": 3}), is_open(ramp, {"t": 1, "length": 3})
    (True, False)
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(target).parameters.values()
    return any(p.kind in kinds and p.default is p.empty and p.name not in arguments for p in parameters)
