"""The loss, and running sums on the device that are read only when somebody asks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch of −Σₖ y·log softmax(logits), in nats and float32; logits (N, K), y (N, K) probabilities.

    >>> round(soft_cross_entropy(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).item(), 4)
    1.3863
    """
    return F.cross_entropy(logits.float(), y)


class Sums:
    """Loss, hits and pictures summed where they are computed; a class is hit where the largest logit meets it."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.totals = torch.zeros(2, dtype=torch.float64, device=device)  # loss, hits
        self.count = 0

    def add(self, loss: Tensor, outputs: Tensor, y: Tensor) -> None:
        """Count a batch: its mean loss, logits (N, K), targets (N, K)."""
        n = len(y)
        self.totals[0].add_(loss, alpha=n)
        self.totals[1].add_((outputs.argmax(1) == y.argmax(1)).sum())
        self.count += n

    def means(self) -> dict[str, float]:
        """The mean ``loss`` and ``accuracy`` so far; this is the one place that waits for the device."""
        loss, hits = (self.totals / max(self.count, 1)).tolist()
        return {"loss": loss, "accuracy": hits}

    def reset(self) -> None:
        self.totals.zero_()
        self.count = 0

    def state_dict(self) -> dict[str, object]:
        return {"totals": self.totals.clone(), "count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.totals.copy_(state["totals"])
        self.count = state["count"]
