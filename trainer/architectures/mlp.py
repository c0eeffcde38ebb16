"""Multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from trainer.architectures.layers import in_order, norm_1d

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import MLP, Shape


def mlp(option: MLP, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """Fully connected layers, each normalized and followed by the activation, and a linear classifier."""
    widths = [shape[0] * shape[1] * shape[2], *option.widths]
    # A normalization that follows immediately would cancel the bias.
    bias = option.norm == "none" or option.norm_position == "after"
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers.append(nn.Linear(inputs, outputs, bias=bias))
        layers += in_order(option, norm_1d(option.norm, outputs), activation.build())
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
