"""Metrics that are summed on the device and read only on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from trainer.hardware import accumulator_dtype

if TYPE_CHECKING:
    from trainer.tasks.task import Losses, Task


def top_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Fraction of images whose label (N,) is among the ``k`` largest of its logits (N, K).

    >>> top_accuracy(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]), 2)
    0.5
    """
    return float((logits.topk(k, 1).indices == labels[:, None]).any(1).double().mean())


def calibration(logits: Tensor, labels: Tensor, bins: int = 15) -> tuple[float, list[dict[str, float]]]:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599) and the bins it is the sum over.

    The error is Σ n/N·|accuracy − confidence| over ``bins`` intervals of equal width of the confidence, the largest
    predicted probability; 0 = calibrated. Of each interval (``low``, ``high``] that is not empty, the mean ``confidence``,
    the ``accuracy`` and the number of ``images`` are returned.

    Args:
        logits: (N, K).
        labels: (N,).
        bins: Number of intervals of [0, 1].

    >>> error, intervals = calibration(torch.tensor([[9.0, -9.0], [9.0, -9.0]]), torch.tensor([0, 1]), bins=10)
    >>> round(error, 3), intervals[0]["low"], intervals[0]["images"], intervals[0]["accuracy"]
    (0.5, 0.9, 2, 0.5)
    """
    # On the CPU: the sums of bincount on a GPU differ in their last bits.
    confidence, predicted = logits.double().cpu().softmax(1).max(1)
    correct = (predicted == labels.cpu()).double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    counts = torch.bincount(index, minlength=bins).double()
    mean_confidence, accuracy = (
        torch.bincount(index, v, minlength=bins) / counts.clamp_min(1) for v in (confidence, correct)
    )
    error = float((counts * (accuracy - mean_confidence).abs()).sum() / len(labels))
    rows = [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "confidence": float(mean_confidence[i]),
            "accuracy": float(accuracy[i]),
            "images": int(counts[i]),
        }
        for i in range(bins)
        if counts[i]
    ]
    return error, rows


class Sums(TypedDict):
    """The state of running metrics: sums of loss and correct predictions (2,), and how many images they are of."""

    totals: Tensor
    count: int


class RunningMetrics:
    """Sums of the losses and running metrics of a task, on the device that computes them."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.totals = torch.zeros(task.sums[-1].stop, dtype=accumulator_dtype(task.device), device=task.device)
        self.values = self.totals.unbind()  # views: to index a tensor takes longer than to add to it
        self.count = 0
        self.left_out = torch.zeros((), dtype=torch.int64, device=task.device)  # images of skipped steps, see StepGuard

    def add(self, losses: Losses, outputs: Tensor, y: Tensor) -> None:
        """Add a batch: its losses, outputs (N, O), and targets (N, D)."""
        self.task.add(self.values, losses, outputs, y)
        self.count += y.shape[0]

    def means(self) -> dict[str, float]:
        """The mean ``loss`` and running metric so far. This is the only place that waits for the device."""
        return self.task.means(self.totals.tolist(), self.count - int(self.left_out))

    def reset(self) -> None:
        self.totals.zero_()
        self.left_out.zero_()
        self.count = 0

    def state_dict(self) -> Sums:
        return {"totals": self.totals.clone(), "count": self.count - int(self.left_out)}

    def load_state_dict(self, state: Sums) -> None:
        self.totals.copy_(state["totals"])
        self.left_out.zero_()
        self.count = state["count"]
