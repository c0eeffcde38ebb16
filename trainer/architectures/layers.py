"""Layers shared by the architectures, and functions that find, count, and replace the layers of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import NormalizedArchitecture

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Hardswish
)  # fmt: skip


def norm_2d(kind: str, channels: int) -> nn.Module:
    """Normalization of (N, C, H, W): batch, group (at most about 8 channels per group), layer (a single group), or none."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "none":
        return nn.Identity()
    groups = 1 if kind == "layer" else next(g for g in range(max(channels // 8, 1), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def norm_1d(kind: str, features: int) -> nn.Module:
    """Normalization of (N, C)."""
    if kind == "batch":
        return nn.BatchNorm1d(features)
    if kind == "none":
        return nn.Identity()
    return nn.LayerNorm(features) if kind == "layer" else norm_2d("group", features)


def in_order(option: NormalizedArchitecture, norm: nn.Module, activation: nn.Module) -> list[nn.Module]:
    """Return the normalization and the activation in the order given by ``norm_position``."""
    return [norm, activation] if option.norm_position == "before" else [activation, norm]


def norm_activation(option: NormalizedArchitecture, channels: int, activation: Activation) -> list[nn.Module]:
    """Return the option's normalization of (N, C, H, W) and the activation, in the order given by ``norm_position``."""
    return in_order(option, norm_2d(option.norm, channels), activation.build())


def conv_2d(option: NormalizedArchitecture, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of the image (over ``stride``), with a bias only if nothing is normalized."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=option.norm == "none")


class GlobalAveragePool(nn.Module):
    """Mean over height and width, (N, C, H, W) to (N, C, 1, 1), whose gradient has the memory format of its input.

    ``AdaptiveAvgPool2d(1)`` returns a contiguous gradient to a channels-last network, whose layers then copy whole activations
    to convert them. A mean in the order of memory avoids these copies.

    >>> GlobalAveragePool()(torch.arange(8.0).reshape(1, 2, 2, 2)).flatten().tolist()
    [1.5, 5.5]
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_contiguous(memory_format=torch.channels_last):
            return x.permute(0, 2, 3, 1).mean((1, 2), keepdim=True).permute(0, 3, 1, 2)
        return x.mean((2, 3), keepdim=True)


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the name of the last linear or convolutional layer, in the order of definition, and the layer.

    >>> find_head(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))[0]
    '2'
    """
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ValueError("the network has no linear or convolutional layer that could be its head")
    return layers[-1]


class Parallel(nn.Module):
    """Several networks of the same architecture on the same images, whose outputs are concatenated: (N, ΣK).

    Args:
        networks: The networks by name.
    """

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({f"task_{name}": network for name, network in networks.items()})

    def network(self, name: str) -> nn.Module:
        """Return one of the networks."""
        return self.networks[f"task_{name}"]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.networks.values()], 1)


def networks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the networks that a model consists of by the prefix of their parameters: several side by side, or itself alone.

    >>> list(networks_of(Parallel({"a": nn.Linear(4, 3), "b": nn.Linear(4, 2)})))
    ['networks.task_a.', 'networks.task_b.']
    """
    if isinstance(model, Parallel):
        return {f"networks.{name}.": network for name, network in model.networks.items()}
    return {"": model}


def side_by_side(networks: dict[str, nn.Module]) -> nn.Module:
    """Return a single network as it is, several as ``Parallel``."""
    return next(iter(networks.values())) if len(networks) == 1 else Parallel(networks)


def map_networks(function: Callable[[nn.Module], nn.Module], model: nn.Module) -> nn.Module:
    """Return the model with each of its networks replaced by the function of it."""
    if not isinstance(model, Parallel):
        return function(model)
    for name, network in list(model.networks.items()):
        model.networks[name] = function(network)
    return model


def weight_layers(model: nn.Module) -> list[list[tuple[str, nn.Parameter]]]:
    """Return all parameters, each once, by layer from first to last: a weight matrix or kernel and the vectors after it.

    Layers of the same depth of networks side by side count as one.

    >>> [len(layer) for layer in weight_layers(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))]
    [4, 2]
    """
    networks = networks_of(model)
    if len(networks) > 1 or "" not in networks:
        columns = (
            [[(prefix + name, p) for name, p in layer] for layer in weight_layers(network)]
            for prefix, network in networks.items()
        )
        return [[pair for layer in layers for pair in layer] for layers in zip_longest(*columns, fillvalue=[])]
    layers: list[list[tuple[str, nn.Parameter]]] = []
    for name, parameter in model.named_parameters():
        if not layers or parameter.ndim > 1:
            layers.append([])
        layers[-1].append((name, parameter))
    return layers


def trainable_names(model: nn.Module, part: str | float) -> set[str]:
    """Return the names of the parameters in ``part``: ``all``, the ``head``, or a fraction of the layers, counted from the last.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    >>> sorted(trainable_names(net, "head")), len(trainable_names(net, 0.5)), len(trainable_names(net, "all"))
    (['3.bias', '3.weight'], 4, 8)
    """
    layers = weight_layers(model)
    if part == "head":
        heads = {prefix: find_head(network) for prefix, network in networks_of(model).items()}
        return {f"{prefix}{name}.{p}" for prefix, (name, head) in heads.items() for p, _ in head.named_parameters()}
    count = len(layers) if part == "all" else max(1, math.ceil(float(part) * len(layers) - 1e-9))
    return {name for layer in layers[-count:] for name, _ in layer}


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values.

    >>> count_parameters(nn.Linear(4, 3))
    15
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Replace the submodule with a dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


@torch.no_grad()
def forward_once(model: nn.Module, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Return the output for one black image of ``shape`` in evaluation mode, which tests whether the shapes fit."""
    training = model.training
    try:
        return model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        model.train(training)


def norm_of_single_values(model: nn.Module, shape: Sequence[int]) -> str | None:
    """The name of the first batch normalization that sees one value per channel of an image (C, H, W); None without one.

    From a single value no variance can be estimated: torch refuses to train on a batch of one such image.
    """
    found: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):

            def hook(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if inputs[0][:, 0].numel() == 1:
                    found.append(name)

            hooks.append(module.register_forward_pre_hook(hook))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        if hooks:
            forward_once(model, shape, device)
    finally:
        for handle in hooks:
            handle.remove()
    return found[0] if found else None
