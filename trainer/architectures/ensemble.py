"""Several networks as one, so that whatever takes a model takes an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Average = Literal["probabilities", "logits"]


class Ensemble(nn.Module):
    """Logits (N, K) whose softmax is the mean of the members' ``probabilities``, or the mean of their ``logits``."""

    def __init__(self, members: Sequence[nn.Module], average: Average = "probabilities") -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.average: Average = average

    def forward(self, x: Tensor) -> Tensor:
        return averaged([member(x) for member in self.members], self.average)


class Renormalized(nn.Module):
    """A member whose pictures were normalised otherwise: x·scale + shift makes its input of the ensemble's."""

    scale: Tensor
    shift: Tensor

    def __init__(self, member: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.member = member
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.member(x * self.scale + self.shift)


def averaged(logits: Sequence[Tensor], average: Average) -> Tensor:
    """One set of logits (N, K) for several: of a mean of probabilities it is the logarithm.

    >>> two = [torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])]
    >>> averaged(two, "logits").tolist()
    [[1.0, 0.0]]
    >>> [round(p, 3) for p in averaged(two, "probabilities").exp()[0].tolist()]
    [0.69, 0.31]
    """
    stacked = torch.stack([each.float() for each in logits])
    if average == "logits":
        return stacked.mean(0)
    return stacked.log_softmax(-1).logsumexp(0) - torch.log(torch.tensor(float(len(logits))))
