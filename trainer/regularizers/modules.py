"""Regularizers that change the network itself; the names of its parameters stay as they were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.architectures.layers import ACTIVATIONS, head_of


def insert_dropout(model: nn.Module, p: float, where: str) -> nn.Module:
    """Dropout before the last layer (``head``) or after every non-linearity (``all``), by forward hooks.

    A hook leaves the names of all parameters alone, so that checkpoints with and without dropout exchange, and works
    where one module is used several times. Dropout that the head has already is set to ``p`` instead of doubled.
    """
    if where == "all":
        for module in model.modules():
            if isinstance(module, ACTIVATIONS):
                module.register_forward_hook(DropAfter(p))
        return model
    own = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for module in own:
        module.p = p
    if not own:
        head_of(model)[1].register_forward_pre_hook(DropBefore(p))
    return model


class DropAfter:
    """A forward hook: dropout of a module's output while the module trains."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.dropout(output, self.p, module.training)


class DropBefore(DropAfter):
    """A forward pre-hook: dropout of a module's input while the module trains."""

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> Tensor:
        return torch.dropout(inputs[0], self.p, module.training)
