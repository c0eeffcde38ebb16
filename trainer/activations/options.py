"""Activations: one switch for the non-linearity of the whole network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.errors import check

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Activation:
    """A non-linearity by ``name``; ``slope`` is the negative side's of leaky_relu, 0 elsewhere."""

    name: Literal["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "identity"] = "relu"
    slope: float = 0.0

    def __post_init__(self) -> None:
        fits = 0 < self.slope < 1 if self.name == "leaky_relu" else self.slope == 0
        check(self, slope=(fits, "must be in (0, 1) for leaky_relu, and 0 for all others"))

    def build(self) -> nn.Module:
        from torch import nn

        if self.name == "leaky_relu":
            return nn.LeakyReLU(self.slope)
        kinds = {
            "relu": nn.ReLU,
            "elu": nn.ELU,
            "tanh": nn.Tanh,
            "sigmoid": nn.Sigmoid,
            "gelu": nn.GELU,
            "silu": nn.SiLU,
        }
        return kinds.get(self.name, nn.Identity)()

    @property
    def gain(self) -> float:
        """What keeps the variance from layer to layer: √(2/(1 + slope²)) for the ReLU-like, 5/3 for tanh, else 1.

        >>> round(Activation("relu").gain, 4), Activation("identity").gain
        (1.4142, 1.0)
        """
        if self.name in ("relu", "leaky_relu", "elu", "gelu", "silu"):
            return math.sqrt(2 / (1 + self.slope**2))
        return 5 / 3 if self.name == "tanh" else 1.0

    @property
    def keeps_order(self) -> bool:
        """Whether the largest of its values is the value of the largest, to the last bit, and their gradients alike. Not so for
        leaky_relu, whose rounding makes equals of what was not.
        """
        return self.name in ("relu", "identity")

    @property
    def relu_like(self) -> bool:
        return self.name in ("relu", "leaky_relu", "elu", "gelu", "silu")
