"""Parameters in groups that share a rate and a decay."""

from __future__ import annotations

from typing import Any

from torch.nn import Parameter

from trainer.optimizers import Optimizer

Layers = list[list[tuple[str, Parameter]]]


def parameter_groups(layers: Layers, option: Optimizer, span: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimizer: weights decay, biases and norms do not (unless ``decay_all``); layer i of L has the ratio
    layer_decay^(L−1−i) · span^(−(L−1−i)/(L−1)) of the peak rate. Parameters that are frozen are left out.
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
            own = ratio * share
            group = groups.setdefault(
                (own, decay, kind),
                {"params": [], "lr": option.lr * own, "weight_decay": decay, "ratio": own, "name": name, "kind": kind},
            )
            group["params"].append(parameter)
    return list(groups.values())
