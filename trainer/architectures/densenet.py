"""Densely connected network, DenseNet-BC (Huang et al. 2016, arXiv:1608.06993)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.architectures.layers import GlobalAveragePool, conv_2d, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import DenseNet, Shape


class Dense(nn.Module):
    """x and, as further channels, grow(x)."""

    def __init__(self, grow: nn.Module) -> None:
        super().__init__()
        self.grow = grow

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.grow(x)), 1)


def densenet(option: DenseNet, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """Three dense blocks of bottleneck layers; each transition between them halves the channels and the image."""
    growth, channels = option.growth_rate, 2 * option.growth_rate
    layers: list[nn.Module] = [conv_2d(option, shape[0], channels, 3)]
    for stage in range(3):
        for _ in range((option.depth - 4) // 6):
            grow = nn.Sequential(
                *norm_activation(option, channels, activation),
                conv_2d(option, channels, 4 * growth, 1),
                *norm_activation(option, 4 * growth, activation),
                conv_2d(option, 4 * growth, growth, 3),
            )
            layers.append(Dense(grow))
            channels += growth
        layers += norm_activation(option, channels, activation)
        if stage < 2:
            layers += [conv_2d(option, channels, channels // 2, 1), nn.AvgPool2d(2, ceil_mode=True)]
            channels //= 2
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))
