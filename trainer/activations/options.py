"""The option of the activation, one for the whole network."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from trainer.errors import check
from trainer.parameters import implemented_by, option

RELU_LIKE = ("relu", "leaky_relu", "elu", "gelu", "silu")


@option(kw_only=False)
class Activation:
    """An activation function, applied to each element."""

    name: Annotated[
        Literal["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "identity"],
        Field(description="the function"),
    ] = "relu"
    slope: Annotated[float, Field(description="slope below zero, in (0, 1) for leaky_relu and 0 for all others")] = 0.0

    def __post_init__(self) -> None:
        valid = 0 < self.slope < 1 if self.name == "leaky_relu" else self.slope == 0
        check(self, slope=(valid, "must be in (0, 1) for leaky_relu, and 0 for all others"))

    build = implemented_by("trainer.activations.modules:activation_module")

    @property
    def gain(self) -> float:
        """The gain that preserves the variance from layer to layer: √(2/(1 + slope²)) if ReLU-like, 5/3 for tanh, else 1.

        >>> round(Activation("relu").gain, 4), Activation("identity").gain
        (1.4142, 1.0)
        """
        if self.relu_like:
            return math.sqrt(2 / (1 + self.slope**2))
        return 5 / 3 if self.name == "tanh" else 1.0

    @property
    def commutes_with_max(self) -> bool:
        """Whether max(f(x)) and f(max(x)), and their gradients, are equal bit for bit.

        This is not the case for leaky_relu, because rounding makes different values equal.
        """
        return self.name in ("relu", "identity")

    @property
    def relu_like(self) -> bool:
        """Whether the function is close to 0 (or ``slope``·x) below zero and to x above."""
        return self.name in RELU_LIKE
