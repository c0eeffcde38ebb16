"""Dropout and stochastic depth by forward hooks, which leave the names of the parameters unchanged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth, stochastic_depth

from trainer.architectures.layers import ACTIVATIONS, find_head
from trainer.architectures.resnet import Residual
from trainer.architectures.wide_resnet import PreActivationResidual
from trainer.errors import ConfigError, Problem
from trainer.regularizers import options


def insert_dropout(option: options.Dropout, model: nn.Module) -> nn.Module:
    """Insert dropout before the last layer (``head``) or after every activation (``all``).

    Since parameter names do not change, checkpoints can be exchanged between models with and without dropout; and a module that
    is used several times gets dropout each time. Dropout layers that the model already has are set to ``p`` instead.
    """
    if option.where == "all":
        for module in model.modules():
            if isinstance(module, ACTIVATIONS):
                module.register_forward_hook(DropAfter(option.p))
        return model
    existing = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for module in existing:
        module.p = option.p
    if not existing:
        find_head(model)[1].register_forward_pre_hook(DropBefore(option.p))
    return model


class DropAfter:
    """Forward hook: dropout of the output of a module in training mode."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.dropout(output, self.p, module.training)


class DropBefore(DropAfter):
    """Forward pre-hook: dropout of the input of a module in training mode."""

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> Tensor:
        return torch.dropout(inputs[0], self.p, module.training)


def drop_branches(option: options.StochasticDepth, model: nn.Module) -> nn.Module:
    """Insert stochastic depth into the branches of all residual blocks; the probability rises linearly to ``p``.

    Raises:
        ConfigError: The model has no residual blocks.
    """
    branches = [branch for module in model.modules() if (branch := branch_of(module)) is not None]
    if not branches:
        text = "needs a network of residual blocks"
        hint = "architecture=resnet20, wide_resnet, resnet18_cifar, or a residual network of torchvision or timm"
        raise ConfigError(Problem("regularizer.stochastic_depth", "on", text, hint))
    for i, branch in enumerate(branches, 1):
        if isinstance(branch, StochasticDepth):  # a layer of torchvision's ConvNeXt, EfficientNet and others
            branch.p, branch.mode = option.p * i / len(branches), option.mode
        else:
            branch.register_forward_hook(DropBranch(option.p * i / len(branches), option.mode))
    return model


def branch_of(module: nn.Module) -> nn.Module | None:
    """Return the module whose output a residual block adds to its shortcut; None if the module is not a residual block."""
    if isinstance(module, StochasticDepth):
        return module
    if isinstance(module, Residual | PreActivationResidual):
        return module.branch
    # In the blocks of torchvision and timm: the last norm before the sum.
    last = {"BasicBlock": "bn2", "Bottleneck": "bn3"}.get(type(module).__name__)
    return getattr(module, last, None) if last else None


class DropBranch:
    """Forward hook: in training mode the output is zeroed with probability ``p``, otherwise divided by 1 − p."""

    def __init__(self, p: float, mode: str) -> None:
        self.p, self.mode = p, mode

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return stochastic_depth(output, self.p, self.mode, module.training)
