"""Soft sharing: one network per task, whose weights are drawn together by a penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.architectures.layers import Parallel, find_head, weight_layers
from trainer.tasks.multitask_options import Multitask

EPS = 1e-12  # below the square root of the trace norm, whose derivative at 0 is infinite


class Sharing:
    """The penalty strength·distance on the weights of the first ``layers`` of all networks, but not their heads."""

    def __init__(self, option: Multitask) -> None:
        self.strength = 0.01 if option.strength is None else option.strength
        self.distance = trace_norm if option.distance == "trace_norm" else squared_distance
        self.layers = option.layers or 1.0

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return the penalty; None if nothing is shared."""
        assert isinstance(model, Parallel)
        if self.strength == 0:
            return None
        groups = shared_weights(list(model.networks.values()), self.layers)
        return self.strength * torch.stack([self.distance(group) for group in groups]).sum() if groups else None


def shared_weights(networks: Sequence[nn.Module], fraction: float) -> list[list[nn.Parameter]]:
    """Return the weights of the first layers, each with those of the other networks; neither heads, biases nor norms.

    Args:
        networks: Networks of the same architecture.
        fraction: Part of the layers, from the first on.
    """
    columns: list[list[nn.Parameter]] = []
    for network in networks:
        head = find_head(network)[1].weight
        weights = [p for layer in weight_layers(network) for _, p in layer if p.ndim > 1 and p is not head]
        columns.append(weights[: math.ceil(fraction * len(weights))])
    return [list(group) for group in zip(*columns, strict=True)]


def squared_distance(weights: Sequence[Tensor]) -> Tensor:
    """Return Σ ‖θ − mean θ‖² over the networks' weights of one layer (Duong et al. 2015).

    >>> squared_distance([torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])])
    tensor(2.)
    """
    stacked = torch.stack(list(weights))
    return (stacked - stacked.mean(0)).square().sum()


def trace_norm(weights: Sequence[Tensor]) -> Tensor:
    """Return the trace norm of the matrix whose rows are the networks' weights of one layer (Yang & Hospedales 2017).

    It is the sum of the singular values: the smaller, the more the networks are multiples of one another.

    >>> trace_norm([torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0]])]).round(decimals=3)
    tensor(7.0710)
    """
    rows = torch.stack([w.flatten() for w in weights])
    squares = cast(Tensor, torch.linalg.eigvalsh(rows @ rows.T))  # pyright: ignore[reportUnknownMemberType]
    return squares.clamp_min(0).add(EPS).sqrt().sum()


def last_shared_weight(model: nn.Module) -> nn.Parameter | None:
    """Return the weight of the last layer before the head; None if there is none."""
    head = find_head(model)[1].weight
    weights = [p for layer in weight_layers(model) for _, p in layer if p.ndim > 1 and p is not head]
    return weights[-1] if weights else None
