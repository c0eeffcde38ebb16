"""Parameter groups: parameters that share a learning rate, a weight decay and an update rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import StateDict

from trainer.optimizers.options import Optimizer, ParamGroup
from trainer.optimizers.rules import MultiTensor

Layers = list[list[tuple[str, Parameter]]]  # the named parameters of each layer, from the first layer to the last


def parameter_groups(layers: Layers, option: Optimizer, lr_ratio: float = 1.0) -> list[ParamGroup]:
    """Return torch's parameter groups of all parameters that are not frozen.

    Weights decay; biases and norms do not unless ``decay_all``. The learning rate of layer i of L (from 0) is the peak
    learning rate times layer_decay^(L−1−i) · lr_ratio^(−(L−1−i)/(L−1)), where ``lr_ratio`` is the learning rate of the
    last layer divided by that of the first one. Biases have ``bias_lr_mult`` times the learning rate of their layer.
    The key ``ratio`` of a group holds its learning rate divided by the peak learning rate.
    """
    groups: dict[tuple[float, float, str], ParamGroup] = {}
    for depth, layer in enumerate(layers):
        layers_after = len(layers) - 1 - depth
        layer_ratio = option.layer_decay**layers_after * lr_ratio ** (-layers_after / max(len(layers) - 1, 1))
        for name, parameter in layer:
            if not parameter.requires_grad:
                continue
            decay = option.weight_decay if parameter.ndim > 1 or option.decay_all else 0.0
            kind, kind_ratio = option.kind(parameter.ndim, depth == len(layers) - 1)
            ratio = layer_ratio * kind_ratio * (option.bias_lr_mult if name.rpartition(".")[2] == "bias" else 1.0)
            initial: ParamGroup = {
                "params": [],
                "lr": option.lr * ratio,
                "weight_decay": decay,
                "ratio": ratio,
                "name": name,
                "kind": kind,
            }
            groups.setdefault((ratio, decay, kind), initial)["params"].append(parameter)
    return list(groups.values())


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group to ``lr`` times its ratio; in place if it is a tensor, which a CUDA graph reads.

    On a GPU it is one from the first step on, also where no graph is captured: an optimizer computes with a tensor of
    float32 and with a number of Python not quite the same, and a resumed run begins with steps that are not captured.

    >>> optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "ratio": 0.5}], lr=1.0)
    >>> set_lr(optimizer, 0.1)
    >>> optimizer.param_groups[0]["lr"]
    0.05
    """
    first = optimizer.param_groups[0]
    if first["params"][0].is_cuda and not isinstance(first["lr"], Tensor) and can_be_captured(optimizer):
        move_lrs(optimizer, first["params"][0].device)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["ratio"])
        else:
            group["lr"] = lr * group["ratio"]


def move_lrs(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Make the optimizer read its learning rates from the device, and count its steps there."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True
    # Steps that are not captured are meant to be: torch would warn about them.
    optimizer._warned_capturable_if_run_uncaptured = True  # pyright: ignore[reportAttributeAccessIssue]


def can_be_captured(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether the step can be captured in a CUDA graph, that is, can read its learning rate from the device.

    torch's fused optimizers and the rules of ``trainer.optimizers.rules`` can.
    """
    return isinstance(optimizer, MultiTensor) or all(group.get("fused") for group in optimizer.param_groups)


def portable(state: StateDict) -> StateDict:
    """Return an optimizer's state dict with learning rates as numbers, so that it can be loaded with and without CUDA graphs."""
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if group.get("capturable"):
            group["capturable"] = False
    return state
