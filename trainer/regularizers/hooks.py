"""Regularizers that change the network itself; the names of its parameters stay as they were."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth, stochastic_depth

from trainer.architectures.layers import ACTIVATIONS, find_head
from trainer.architectures.resnet import Residual
from trainer.architectures.wide_resnet import PreActivationResidual
from trainer.errors import ConfigError, Problem

REFERENCE = "reference_"  # buffers, by the number of the parameter


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
        find_head(model)[1].register_forward_pre_hook(DropBefore(p))
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


def drop_branches(model: nn.Module, p: float, mode: str) -> int:
    """Stochastic depth by forward hooks on the branch of each residual block, rising linearly to ``p``; how many there are."""
    branches = [branch for module in model.modules() if (branch := branch_of(module)) is not None]
    for i, branch in enumerate(branches, 1):
        if isinstance(branch, StochasticDepth):  # torchvision's own, where its networks have one
            branch.p, branch.mode = p * i / len(branches), mode
        else:
            branch.register_forward_hook(DropBranch(p * i / len(branches), mode))
    return len(branches)


def branch_of(module: nn.Module) -> nn.Module | None:
    """The module whose output a residual block adds to its shortcut; None where the module is no such block."""
    if isinstance(module, StochasticDepth):
        return module
    if isinstance(module, Residual | PreActivationResidual):
        return module.branch
    # torchvision's and timm's blocks: the last norm before the sum.
    last = {"BasicBlock": "bn2", "Bottleneck": "bn3"}.get(type(module).__name__)
    return getattr(module, last, None) if last else None


class DropBranch:
    """A forward hook: the output left out, or divided by the chance that it stays, while the module trains."""

    def __init__(self, p: float, mode: str) -> None:
        self.p, self.mode = p, mode

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return stochastic_depth(output, self.p, self.mode, module.training)


def hold_reference(model: nn.Module, path: str | None) -> nn.Module:
    """Keep the weights of a checkpoint, or those of now, beside the model's, in buffers that no checkpoint holds."""
    weights: dict[str, Tensor] = dict(model.state_dict())
    if path is not None:
        try:
            content = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
            content = content.get("state", content)
            weights = content.get("model", content)
            fits = {n for n, p in model.named_parameters() if n in weights and weights[n].shape == p.shape}
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            problem = Problem("regularizer.soft_sharing.reference", path, f"cannot be read: {reason}")
            raise ConfigError(problem) from None
        if not fits:
            text = "holds no weights of this architecture"
            raise ConfigError(Problem("regularizer.soft_sharing.reference", path, text))
    for i, (name, parameter) in enumerate(model.named_parameters()):
        held = weights.get(name)
        if parameter.ndim > 1 and held is not None and held.shape == parameter.shape:
            model.register_buffer(f"{REFERENCE}{i}", held.detach().clone(), persistent=False)
    return model


def references(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Each weight that has a reference, with it."""
    buffers = model._buffers
    found = [(p, buffers.get(f"{REFERENCE}{i}")) for i, p in enumerate(model.parameters())]
    return [(p, held) for p, held in found if held is not None]
