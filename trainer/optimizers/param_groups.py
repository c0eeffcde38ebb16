"""Parameters in groups that share a rate and a decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from trainer.optimizers.options import Optimizer
from trainer.optimizers.rules import MultiTensor

Layers = list[list[tuple[str, Parameter]]]


def parameter_groups(layers: Layers, option: Optimizer, span: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimizer: weights decay, biases and norms do not (unless ``decay_all``); layer i of L has the ratio
    layer_decay^(L−1−i) · span^(−(L−1−i)/(L−1)) of the peak rate, its biases bias_lr_mult times that. Parameters that are frozen
    are left out.
    """
    groups: dict[tuple[float, float, str], dict[str, Any]] = {}
    for depth, layer in enumerate(layers):
        above = len(layers) - 1 - depth
        ratio = option.layer_decay**above * span ** (-above / max(len(layers) - 1, 1))
        for name, parameter in layer:
            if not parameter.requires_grad:
                continue
            decay = option.weight_decay if parameter.ndim > 1 or option.decay_all else 0.0
            kind, share = option.kind(parameter.ndim, depth == len(layers) - 1)
            own = ratio * share * (option.bias_lr_mult if name.rpartition(".")[2] == "bias" else 1.0)
            group = groups.setdefault(
                (own, decay, kind),
                {"params": [], "lr": option.lr * own, "weight_decay": decay, "ratio": own, "name": name, "kind": kind},
            )
            group["params"].append(parameter)
    return list(groups.values())


def set_lr(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let each group step by its ratio of ``rate``: in place where a recorded step reads it from the device.

    >>> optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "ratio": 0.5}], lr=1.0)
    >>> set_rate(optimizer, 0.1)
    >>> optimizer.param_groups[0]["lr"]
    0.05
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["ratio"])
        else:
            group["lr"] = rate * group["ratio"]


def can_be_recorded(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer's step can read its rate from the device: torch's fused ones and our own rules can."""
    return isinstance(optimizer, MultiTensor) or all(group.get("fused") for group in optimizer.param_groups)


def portable(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state with its rates as numbers, whatever recorded its step."""
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if group.get("capturable"):
            group["capturable"] = False
    return state
