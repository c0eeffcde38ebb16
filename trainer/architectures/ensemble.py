"""Several networks as a single one, so that an ensemble can be used wherever a model can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Average = Literal["probabilities", "logits"]


class Ensemble(nn.Module):
    """Logits (N, K) whose softmax is the mean of the members' ``probabilities``, or the mean of the members' ``logits``."""

    def __init__(self, members: Sequence[nn.Module], average: Average = "probabilities") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.average: Average = average

    def forward(self, x: Tensor) -> Tensor:
        return average_logits([member(x) for member in self.members], self.average)


class Renormalized(nn.Module):
    """A member that was trained with another normalization: x·scale + shift converts the ensemble's input into its own."""

    scale: Tensor
    shift: Tensor

    def __init__(self, member: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.member = member
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.member(x * self.scale + self.shift)


def average_logits(logits: Sequence[Tensor], average: Average) -> Tensor:
    """Combine several sets of logits (N, K); a mean of probabilities is returned as its logarithm.

    >>> two = [torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])]
    >>> average_logits(two, "logits").tolist()
    [[1.0, 0.0]]
    >>> [round(p, 3) for p in average_logits(two, "probabilities").exp()[0].tolist()]
    [0.69, 0.31]
    """
    stacked = torch.stack([each.float() for each in logits])
    if average == "logits":
        return stacked.mean(0)
    return stacked.log_softmax(-1).logsumexp(0) - torch.log(torch.tensor(float(len(logits))))
