"""A function or class of the user as a regularizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from trainer.errors import ConfigError, Problem
from trainer.plain import Plain
from trainer.regularizers.base import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

PLACES = ("model", "batch", "penalty", "stop")


class BatchFunction(Regularizer):
    """Images (N, C, H, W) and targets (N, D) of each batch become ``function(x, y)``."""

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.function = function

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(x, y)


def adapted(plain: Plain) -> Regularizer:
    """Return a regularizer with the methods that the class has, or that calls the function on each batch."""
    target = plain.target
    if isinstance(target, type) and any(hasattr(target, place) for place in PLACES):
        return plain.with_methods_of(Regularizer)
    function = plain.object()
    if not callable(function):
        text = f"{plain.name} must be a function (x, y) -> (x, y), or have one of the methods {', '.join(PLACES)}"
        raise ConfigError(Problem("", None, text, "see docs/own_components.md"))
    return BatchFunction(cast("Callable[..., tuple[Tensor, Tensor]]", function))
