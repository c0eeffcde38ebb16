"""A class of the user as an observer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import ConfigError, Problem
from trainer.plain import Plain

if TYPE_CHECKING:
    from trainer.engine.observer import Observer
    from trainer.observers.context import Context

METHODS = ("on_fit_start", "on_step_end", "on_epoch_end", "on_fit_end", "on_result")


@dataclass(frozen=True)
class PlainObserver:
    """A class with some of the methods of observers; it is constructed when the run begins."""

    plain: Plain

    def build(self, context: Context) -> Observer:
        """Return an instance that has the other methods, too."""
        from trainer.engine.observer import Observer

        return self.plain.with_methods_of(Observer)


def adapted(plain: Plain) -> PlainObserver:
    """Return an observer that makes an instance of the class; ConfigError if that observes nothing."""
    if not isinstance(plain.target, type) or not any(hasattr(plain.target, name) for name in METHODS):
        text = f"{plain.name} must be a class with at least one of the methods {', '.join(METHODS)}"
        raise ConfigError(Problem("", None, text, "see docs/own_components.md"))
    return PlainObserver(plain)
