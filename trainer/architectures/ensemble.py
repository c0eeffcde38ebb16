"""Several networks as a single one, so that an ensemble can be used wherever a model can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.architectures.options import Link

Average = Literal["probabilities", "logits"]


class Ensemble(nn.Module):
    """Outputs (N, O) whose predictions are the means of the members' predictions.

    Args:
        members: Networks that take the same images, and predict numbers in the same scale.
        links: Of each task, its columns and how they become probabilities or numbers.
        average: ``probabilities``: the mean of the members' probabilities; ``logits``: the mean of their logits. Numbers are
            averaged in both cases.
    """

    def __init__(
        self, members: Sequence[nn.Module], links: Sequence[tuple[slice, Link]], average: Average = "probabilities"
    ) -> None:
        super().__init__()
        self.members, self.links = nn.ModuleList(members), tuple(links)
        self.average: Average = average

    def forward(self, x: Tensor) -> Tensor:
        return average_outputs([member(x) for member in self.members], self.links, self.average)


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


class Rescaled(nn.Module):
    """A member whose outputs (N, O) are multiplied by ``scale`` and shifted by ``shift``, both (O,)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, member: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.member = member
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        return self.member(x).float() * self.scale + self.shift


def average_outputs(outputs: Sequence[Tensor], links: Sequence[tuple[slice, Link]], average: Average) -> Tensor:
    """Combine the outputs (N, O) of several networks, each task by its link."""
    if average == "logits":
        return torch.stack([each.float() for each in outputs]).mean(0)
    predictions = [mean_prediction([each.float()[:, columns] for each in outputs], link) for columns, link in links]
    return predictions[0] if len(predictions) == 1 else torch.cat(predictions, 1)


def mean_prediction(outputs: Sequence[Tensor], link: Link) -> Tensor:
    """Return outputs (N, K) whose prediction is the mean of the predictions of the outputs (N, K) of several networks.

    It is log p of the mean probabilities p of classes (softmax), logit p of those of labels (sigmoid), or the mean (identity).

    >>> two = [torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])]
    >>> [round(p, 3) for p in mean_prediction(two, "softmax").exp()[0].tolist()]
    [0.69, 0.31]
    >>> [round(p, 3) for p in mean_prediction(two, "sigmoid").sigmoid()[0].tolist()]
    [0.69, 0.5]
    """
    stacked = torch.stack(list(outputs))
    if link == "identity":
        return stacked.mean(0)
    if link == "softmax":
        return stacked.log_softmax(-1).logsumexp(0) - torch.log(torch.tensor(float(len(outputs))))
    return nn.functional.logsigmoid(stacked).logsumexp(0) - nn.functional.logsigmoid(-stacked).logsumexp(0)
