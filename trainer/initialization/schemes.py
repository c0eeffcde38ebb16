"""Initialization of all layers of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.architectures.layers import find_head
from trainer.initialization.lsuv import scale_to_unit_variance
from trainer.initialization.whitening import whiten

if TYPE_CHECKING:
    from trainer.activations import Activation
    from trainer.initialization.options import Initialization

# Standard deviation of the weights of a new head after pretrained layers, whose outputs may have any scale: with small logits
# the first loss is that of guessing.
NEW_HEAD_STD = 0.01


def initialize(
    option: Initialization,
    model: nn.Module,
    activation: Activation,
    output_bias: Sequence[float] | None = None,
    batch: Tensor | None = None,
    head_only: bool = False,
) -> None:
    """Initialize the convolutions and linear layers of ``model`` in place.

    Args:
        output_bias: Bias of the head, such as the log prior of the classes; None leaves it at 0.
        batch: Images (N, C, H, W) for the rules that need them.
        head_only: Whether all layers but the last keep their (pretrained) weights.
    """
    head = find_head(model)[1]
    if option.rule != "torch":
        for module in [head] if head_only else model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if head_only and option.rule in ("auto", "whitening"):
                    nn.init.normal_(module.weight, 0.0, NEW_HEAD_STD)
                else:
                    # No activation follows the last layer.
                    init_weight(option, module.weight, activation, gain=1.0 if module is head else activation.gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    if not head_only:
        if option.identity:
            init_identity([m for m in model.modules() if isinstance(m, nn.Conv2d)][1:])
        if option.rule == "lsuv" and batch is not None:
            scale_to_unit_variance(model, batch)
        if option.rule == "whitening" and batch is not None:
            first = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
            if first is not head:
                whiten(first, batch)
    if output_bias is not None and head.bias is not None:
        with torch.no_grad():
            head.bias.copy_(torch.tensor(output_bias))


def init_weight(option: Initialization, weight: Tensor, activation: Activation, gain: float) -> None:
    """Draw a weight (outputs, inputs, ...) by the option's rule, in place."""
    rule = option.rule
    if rule in ("auto", "whitening"):
        rule = "kaiming_normal" if activation.relu_like else "xavier_uniform"
    kaiming_std = gain / math.sqrt(weight[0].numel())
    if rule == "kaiming_normal":
        nn.init.normal_(weight, 0.0, kaiming_std)
    elif rule == "kaiming_uniform":
        nn.init.uniform_(weight, -math.sqrt(3) * kaiming_std, math.sqrt(3) * kaiming_std)
    elif rule == "xavier_normal":
        nn.init.xavier_normal_(weight, gain)
    elif rule == "xavier_uniform":
        nn.init.xavier_uniform_(weight, gain)
    elif rule in ("orthogonal", "lsuv"):
        nn.init.orthogonal_(weight, gain)
    elif rule == "normal":
        nn.init.normal_(weight, 0.0, option.std)
    else:
        assert rule == "zeros"
        nn.init.zeros_(weight)


def init_identity(layers: Sequence[nn.Conv2d]) -> None:
    """Let each convolution that has at least as many outputs as inputs copy its inputs to its first outputs.

    Grouped convolutions are left unchanged.

    >>> layer = torch.nn.Conv2d(2, 3, 3, padding=1)
    >>> init_identity([layer])
    >>> x = torch.rand(1, 2, 4, 4)
    >>> bool(torch.allclose(torch.nn.functional.conv2d(x, layer.weight, padding=1)[:, :2], x))
    True
    """
    for layer in layers:
        if layer.groups == 1 and layer.out_channels >= layer.in_channels:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
