"""Residual networks for small images (He et al. 2015, arXiv:1512.03385)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.architectures.layers import GlobalAveragePool, conv_2d, norm_2d, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import NormalizedArchitecture, ResNet, ResNet18CIFAR, Shape


class Residual(nn.Module):
    """activation(shortcut(x) + branch(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shortcut(x) + self.branch(x))


class PaddedShortcut(nn.Module):
    """Shortcut without parameters (option A): every ``stride``-th pixel, padded with ``new_channels`` zero channels."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


def resnet(option: ResNet, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """The network of §4.2: three stages of n blocks, 6n + 2 layers."""

    def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
        return PaddedShortcut(stride, outputs - inputs)

    blocks = (option.depth - 2) // 6
    return _residual_network(option, shape, num_classes, activation, (16, 32, 64), blocks, shortcut)


def resnet18_cifar(option: ResNet18CIFAR, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """ResNet-18 with a 3 x 3 stem and no pooling: four stages of two blocks, shortcuts by 1 x 1 convolutions (option B)."""

    def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(conv_2d(option, inputs, outputs, 1, stride), norm_2d(option.norm, outputs))

    return _residual_network(option, shape, num_classes, activation, (64, 128, 256, 512), 2, shortcut)


def _residual_network(
    option: NormalizedArchitecture,
    shape: Shape,
    num_classes: int,
    activation: Activation,
    widths: Sequence[int],
    blocks: int,
    shortcut: Callable[[int, int, int], nn.Module],
) -> nn.Sequential:
    """Stages of ``blocks`` residual blocks; each stage but the first halves the height and width of the image.

    Args:
        widths: The channels of each stage.
        shortcut: (inputs, outputs, stride) -> the shortcut of a block that changes the shape.
    """
    channels = widths[0]
    layers = [conv_2d(option, shape[0], channels, 3), *norm_activation(option, channels, activation)]
    for width in widths:
        for _ in range(blocks):
            stride = 2 if width != channels else 1
            branch = nn.Sequential(
                conv_2d(option, channels, width, 3, stride),
                *norm_activation(option, width, activation),
                conv_2d(option, width, width, 3),
                norm_2d(option.norm, width),
            )
            around = nn.Identity() if width == channels else shortcut(channels, width, stride)
            layers.append(Residual(branch, around, activation.build()))
            channels = width
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))
