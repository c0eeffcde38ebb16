"""Networks of the user and of torch, torchvision and timm, from their classes or functions."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from trainer.architectures.layers import forward_once
from trainer.plain import constructing

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.architectures.options import ExternalArchitecture, Shape


def external_model(option: ExternalArchitecture, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
    """Return the network; layers such as ``nn.LazyLinear`` get their sizes from an image of ``shape``.

    Raises:
        ConfigError: The class or function does not accept its arguments, or fails with them.
    """
    available = {"num_classes": num_classes, "in_channels": shape[0], "shape": shape}
    parameters = inspect.signature(option.target).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepted = available.keys() if takes_any else {p.name for p in parameters}
    arguments = {k: v for k, v in available.items() if k in accepted} | option.arguments
    with constructing("architecture", option.target, arguments):
        model: nn.Module = option.target(**arguments)
    if any(map(is_lazy, model.parameters())):
        forward_once(model, shape)
    return model
