"""The activations as torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from trainer.activations.options import Activation

MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU,
    "identity": nn.Identity,
}  # fmt: skip


def activation_module(option: Activation) -> nn.Module:
    """Return a new module that applies the activation to each element."""
    return nn.LeakyReLU(option.slope) if option.name == "leaky_relu" else MODULES[option.name]()
