"""The network of the CIFAR-10 speed record (Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainer.architectures.layers import conv_2d, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import Airbench, Shape

BATCH_NORM_MOMENTUM = 0.4  # torch's default, 0.1, is too slow for a run of a few epochs
LOGIT_SCALE = 1 / 9


class Scale(nn.Module):
    """factor·x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def airbench(option: Airbench, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """A stem to be whitened, blocks of two convolutions, global max pooling, and a linear classifier with scaled logits.

    Pooling precedes the normalization, which then costs a quarter.
    """
    channels, side = 2 * shape[0] * option.stem**2, min(shape[1:]) - option.stem + 1
    stem = nn.Conv2d(shape[0], channels, option.stem)
    stem.weight.requires_grad_(option.train_stem)
    layers: list[nn.Module] = [stem, activation.build()]
    for width in option.widths:
        layers.append(conv_2d(option, channels, width, 3))
        if side >= 2:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers += norm_activation(option, width, activation)
        layers += [conv_2d(option, width, width, 3), *norm_activation(option, width, activation)]
        channels = width
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCH_NORM_MOMENTUM
    head = nn.Linear(channels, num_classes)
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head, Scale(LOGIT_SCALE))
