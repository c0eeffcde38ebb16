"""Our own networks as plain torch modules; the options in the package's front say what their arguments mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.activations import Activation
from trainer.architectures.layers import GlobalAveragePool, norm_1d, norm_2d, ordered


def mlp(
    shape: Sequence[int],
    num_classes: int,
    widths: Sequence[int],
    norm: str,
    position: str,
    activation: Activation,
) -> nn.Sequential:
    sizes = [shape[0] * shape[1] * shape[2], *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        # A norm that follows at once subtracts the bias again.
        layers.append(nn.Linear(before, after, bias=norm == "none" or position == "after"))
        layers += ordered(norm_1d(norm, after), activation.build(), position)
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def cnn(
    shape: Sequence[int],
    num_classes: int,
    widths: Sequence[int],
    kernel: int,
    pool: int,
    norm: str,
    position: str,
    activation: Activation,
) -> nn.Sequential:
    channels, side = shape[0], min(shape[1:])
    layers: list[nn.Module] = []
    for width in widths:
        bias = norm == "none" or position == "after"
        layers.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=bias))
        layers += ordered(norm_2d(norm, width), activation.build(), position)
        if pool > 1 and side // pool >= 1:
            # The largest of rectified values is the rectified largest, bit for bit, its gradient too: a quarter of the work.
            early = activation.keeps_order and position == "before"
            layers.insert(len(layers) - early, nn.MaxPool2d(pool))
            side //= pool
        channels = width
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))


class Shortcut(nn.Module):
    """He's option A: every ``stride``-th pixel, new channels zero."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class Block(nn.Module):
    """act(shortcut(x) + branch(x)), with two convolutions in the branch."""

    def __init__(
        self, inside: int, outside: int, stride: int, norm: str, position: str, activation: Activation
    ) -> None:
        super().__init__()
        bias = norm == "none"
        first = nn.Conv2d(inside, outside, 3, stride, 1, bias=bias)
        second = nn.Conv2d(outside, outside, 3, 1, 1, bias=bias)
        middle = ordered(norm_2d(norm, outside), activation.build(), position)
        self.branch = nn.Sequential(first, *middle, second, norm_2d(norm, outside))
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else Shortcut(stride, outside - inside)
        self.activation = activation.build()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.branch(x))


def resnet(
    shape: Sequence[int], num_classes: int, n: int, norm: str, position: str, activation: Activation
) -> nn.Sequential:
    stem = nn.Conv2d(shape[0], 16, 3, 1, 1, bias=norm == "none")
    layers: list[nn.Module] = [stem, *ordered(norm_2d(norm, 16), activation.build(), position)]
    channels = 16
    for width in (16, 32, 64):
        for i in range(n):
            stride = 2 if i == 0 and width > 16 else 1
            layers.append(Block(channels, width, stride, norm, position, activation))
            channels = width
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))


@torch.no_grad()
def forward_once(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """The output for one blank picture, in evaluation mode, to see whether the shapes fit."""
    was = model.training
    try:
        return model.eval()(torch.zeros(1, *shape))
    finally:
        model.train(was)
