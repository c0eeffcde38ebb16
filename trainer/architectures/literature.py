"""Networks as their papers have them: plain ``nn.Sequential``s of blocks, for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.activations import Activation
from trainer.architectures.layers import GlobalAveragePool, norm_2d, ordered


def cifar10_full(shape: Sequence[int], num_classes: int, norm: str, position: str, act: Activation) -> nn.Sequential:
    """Caffe's ``cifar10_full``: three 5 x 5 convolutions, overlapping pooling, response normalisation (norm ``response``).

    The first pooling takes the largest and stands before the non-linearity, the others take the mean and stand after it.
    """

    def normalized(width: int) -> list[nn.Module]:
        return [nn.LocalResponseNorm(3, alpha=5e-5, beta=0.75)] if norm == "response" else []

    def block(before: int, after: int, pool: nn.Module, pool_first: bool) -> list[nn.Module]:
        other = [] if norm == "response" else [norm_2d(norm, after)]
        tail = [*other, act.build()] if position == "before" else [act.build(), *other]
        return [nn.Conv2d(before, after, 5, padding=2), *([pool, *tail] if pool_first else [*tail, pool])]

    layers = block(shape[0], 32, nn.MaxPool2d(3, 2, ceil_mode=True), True) + normalized(32)
    layers += block(32, 32, nn.AvgPool2d(3, 2, ceil_mode=True), False) + normalized(32)
    layers += block(32, 64, nn.AvgPool2d(3, 2, ceil_mode=True), False)
    features = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        width = features.eval()(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*features.train(), nn.Linear(width, num_classes))


class Scale(nn.Module):
    """factor·x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def airbench(
    shape: Sequence[int], num_classes: int, widths: Sequence[int], stem: int, norm: str, position: str, act: Activation
) -> nn.Sequential:
    """Jordan's network: a stem to be whitened, blocks of two convolutions, the largest of each channel, logits over 9.

    Pooling stands before the norm, which then costs a quarter; batch norm forgets in a few steps, because the run is short.
    """

    def normalized(width: int) -> list[nn.Module]:
        layer = norm_2d(norm, width)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.4
        return ordered(layer, act.build(), position)

    before, side = 2 * shape[0] * stem**2, min(shape[1:]) - stem + 1
    layers: list[nn.Module] = [nn.Conv2d(shape[0], before, stem), act.build()]
    for width in widths:
        layers.append(nn.Conv2d(before, width, 3, padding=1, bias=norm == "none"))
        if side >= 2:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers += normalized(width)
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"), *normalized(width)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(before, num_classes), Scale(1 / 9))


class Residual(nn.Module):
    """after(shortcut(x) + branch(x)); ``before`` is what both share in front (pre-activation)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.branch, self.shortcut, self.after = before, branch, shortcut, after

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(self.shortcut(x) + self.branch(x))


class PreActivated(Residual):
    """x + branch(before(x)), or shortcut(before(x)) + branch(before(x)) where the number of channels changes."""

    def forward(self, x: Tensor) -> Tensor:
        ahead = self.before(x)
        around = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(ahead)
        return around + self.branch(ahead)


def resnet18_cifar(shape: Sequence[int], num_classes: int, norm: str, position: str, act: Activation) -> nn.Sequential:
    """ResNet-18 with a 3 x 3 stem and no pooling in front: stages of 64, 128, 256, 512 channels, two blocks each."""

    def conv(a: int, b: int, kernel: int, stride: int) -> nn.Conv2d:
        return nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=norm == "none")

    layers: list[nn.Module] = [conv(shape[0], 64, 3, 1), *ordered(norm_2d(norm, 64), act.build(), position)]
    before = 64
    for width in (64, 128, 256, 512):
        for i in range(2):
            stride = 2 if i == 0 and width > 64 else 1
            middle = ordered(norm_2d(norm, width), act.build(), position)
            branch = nn.Sequential(
                conv(before, width, 3, stride), *middle, conv(width, width, 3, 1), norm_2d(norm, width)
            )
            same = before == width
            shortcut = nn.Identity() if same else nn.Sequential(conv(before, width, 1, stride), norm_2d(norm, width))
            layers.append(Residual(branch, shortcut, nn.Identity(), act.build()))
            before = width
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(512, num_classes))


def wide_resnet(
    shape: Sequence[int], num_classes: int, depth: int, widen_factor: int, dropout: float, norm: str, position: str,
    act: Activation,
) -> nn.Sequential:  # fmt: skip
    """Pre-activated blocks in stages of 16, 32, 64 channels times ``widen_factor``; ``dropout`` between the convolutions."""

    def conv(a: int, b: int, kernel: int, stride: int) -> nn.Conv2d:
        return nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=norm == "none")

    layers: list[nn.Module] = [conv(shape[0], 16, 3, 1)]
    before = 16
    for stage, width in enumerate((16 * widen_factor, 32 * widen_factor, 64 * widen_factor)):
        for i in range((depth - 4) // 6):
            stride = 2 if i == 0 and stage > 0 else 1
            ahead = nn.Sequential(*ordered(norm_2d(norm, before), act.build(), position))
            middle = ordered(norm_2d(norm, width), act.build(), position)
            middle += [nn.Dropout(dropout)] if dropout else []
            branch = nn.Sequential(conv(before, width, 3, stride), *middle, conv(width, width, 3, 1))
            same = before == width and stride == 1
            shortcut = nn.Identity() if same else conv(before, width, 1, stride)
            layers.append(PreActivated(branch, shortcut, ahead, nn.Identity()))
            before = width
    layers += ordered(norm_2d(norm, before), act.build(), position)
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(before, num_classes))


class Dense(nn.Module):
    """x with ``branch(x)`` appended to its channels."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.grow = branch

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.grow(x)), 1)


def densenet(
    shape: Sequence[int], num_classes: int, depth: int, growth_rate: int, norm: str, position: str, act: Activation
) -> nn.Sequential:
    """DenseNet-BC: three dense blocks of bottlenecked layers, each transition halves the channels and the picture."""
    bias, channels = norm == "none", 2 * growth_rate
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 3, padding=1, bias=bias)]
    for stage in range(3):
        for _ in range((depth - 4) // 6):
            inside = 4 * growth_rate
            layers.append(
                Dense(
                    nn.Sequential(
                        *ordered(norm_2d(norm, channels), act.build(), position),
                        nn.Conv2d(channels, inside, 1, bias=bias),
                        *ordered(norm_2d(norm, inside), act.build(), position),
                        nn.Conv2d(inside, growth_rate, 3, padding=1, bias=bias),
                    )
                )
            )
            channels += growth_rate
        layers += ordered(norm_2d(norm, channels), act.build(), position)
        if stage < 2:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=bias), nn.AvgPool2d(2, ceil_mode=True)]
            channels //= 2
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))
