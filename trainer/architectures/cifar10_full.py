"""The ``cifar10_full`` network of Caffe's examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from trainer.architectures.layers import forward_once, norm_activation

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import CIFAR10Full, Shape


def cifar10_full(option: CIFAR10Full, shape: Shape, num_classes: int, activation: Activation) -> nn.Sequential:
    """Three 5 x 5 convolutions with overlapping pooling, and local response normalization where ``norm`` is ``response``.

    The first pooling takes the maximum and precedes the activation; the other two take the mean and follow it.
    """

    def rectified(channels: int) -> list[nn.Module]:
        return [activation.build()] if option.norm == "response" else norm_activation(option, channels, activation)

    def response_norm() -> list[nn.Module]:
        return [nn.LocalResponseNorm(3, alpha=5e-5, beta=0.75)] if option.norm == "response" else []

    def pool(kind: type[nn.MaxPool2d] | type[nn.AvgPool2d]) -> nn.Module:
        return kind(3, 2, ceil_mode=True)

    features = nn.Sequential(
        nn.Conv2d(shape[0], 32, 5, padding=2), pool(nn.MaxPool2d), *rectified(32), *response_norm(),
        nn.Conv2d(32, 32, 5, padding=2), *rectified(32), pool(nn.AvgPool2d), *response_norm(),
        nn.Conv2d(32, 64, 5, padding=2), *rectified(64), pool(nn.AvgPool2d),
        nn.Flatten(),
    )  # fmt: skip
    return nn.Sequential(*features, nn.Linear(forward_once(features, shape).shape[1], num_classes))
