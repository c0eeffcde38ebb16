"""Plain convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from trainer.architectures.layers import GlobalAveragePool, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import CNN, Shape


def cnn(option: CNN, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """Blocks of convolution, normalization, activation, and max pooling; global average pooling; a linear classifier.

    Images that are already smaller than the pooling window are not pooled any further.
    """
    channels, side = shape[0], min(shape[1:])
    # A normalization that follows immediately would cancel the bias.
    bias = option.norm == "none" or option.norm_position == "after"
    # The maximum of rectified values is the rectified maximum, bit for bit, and so is its gradient: pooling first leaves the
    # activation a fraction 1/pool^2 of the work.
    pool_first = activation.commutes_with_max and option.norm_position == "before"
    layers: list[nn.Module] = []
    for width in option.widths:
        layers.append(nn.Conv2d(channels, width, option.kernel, padding=option.kernel // 2, bias=bias))
        layers += norm_activation(option, width, activation)
        if option.pool > 1 and side // option.pool >= 1:
            layers.insert(len(layers) - pool_first, nn.MaxPool2d(option.pool))
            side //= option.pool
        channels = width
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))
