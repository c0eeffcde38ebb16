"""Pieces that networks share, and questions to a network: its head, its layers from stem to head, its size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Hardswish
)  # fmt: skip


def norm_2d(kind: str, channels: int) -> nn.Module:
    """Normalisation of (N, C, H, W): batch, group (8 channels or fewer a group), layer (one group), or none."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "none":
        return nn.Identity()
    groups = 1 if kind == "layer" else next(g for g in range(max(channels // 8, 1), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def norm_1d(kind: str, width: int) -> nn.Module:
    """Normalisation of (N, C)."""
    if kind == "batch":
        return nn.BatchNorm1d(width)
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(width) if kind == "layer" else norm_2d("group", width)


def ordered(norm: nn.Module, activation: nn.Module, position: str) -> list[nn.Module]:
    """Norm and non-linearity, in the order that ``norm_position`` says."""
    return [norm, activation] if position == "before" else [activation, norm]


def find_head(model: nn.Module) -> tuple[str, nn.Module]:
    """The last linear or convolutional layer and its name, in order of definition.

    >>> head_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))[0]
    '2'
    """
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not found:
        raise ValueError("the network has no linear or convolutional layer to call its head")
    return found[-1]


def weight_layers(model: nn.Module) -> list[list[tuple[str, nn.Parameter]]]:
    """All parameters, each once, in layers from stem to head: a weight matrix or kernel with what follows it.

    >>> [len(layer) for layer in layers_of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))]
    [4, 2]
    """
    layers: list[list[tuple[str, nn.Parameter]]] = []
    for name, parameter in model.named_parameters():
        if not layers or parameter.ndim > 1:
            layers.append([])
        layers[-1].append((name, parameter))
    return layers


def trained(model: nn.Module, part: str | float) -> set[str]:
    """Names of the parameters of ``all`` the network, of its ``head``, or of a share of its layers, those next to the head.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    >>> sorted(trained(net, "head")), len(trained(net, 0.5)), len(trained(net, "all"))
    (['3.bias', '3.weight'], 4, 8)
    """
    layers = weight_layers(model)
    if part == "head":
        name, head = find_head(model)
        return {f"{name}.{own}" for own, _ in head.named_parameters()}
    count = len(layers) if part == "all" else max(1, math.ceil(float(part) * len(layers) - 1e-9))
    return {name for layer in layers[-count:] for name, _ in layer}


def count_parameters(model: nn.Module) -> int:
    """How many numbers are trained.

    >>> count_parameters(nn.Linear(4, 3))
    15
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def replace(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put another module in the place of a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


class GlobalAveragePool(nn.Module):
    """Mean over height and width, (N, C, H, W) to (N, C, 1, 1), whose gradient keeps the layout of its input.

    ``AdaptiveAvgPool2d(1)`` hands a contiguous gradient back to a channels-last network, where the layers before it then
    copy whole activations to match; a mean taken in the order of the memory leaves them nothing to copy.

    >>> GlobalAveragePool()(torch.arange(8.0).reshape(1, 2, 2, 2)).flatten().tolist()
    [1.5, 5.5]
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_contiguous(memory_format=torch.channels_last):
            return x.permute(0, 2, 3, 1).mean((1, 2), keepdim=True).permute(0, 3, 1, 2)
        return x.mean((2, 3), keepdim=True)
