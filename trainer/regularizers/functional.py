"""The mathematics of the regularizers, as pure functions that receive their random numbers, and the draws beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def smooth_labels(y: Tensor, eps: float, form: str = "others") -> Tensor:
    """Targets (N, K) with eps spread over the other classes (``others``) or over all (``all``).

    >>> smooth_labels(torch.tensor([[1.0, 0.0, 0.0]]), 0.2)
    tensor([[0.8000, 0.1000, 0.1000]])
    """
    k = y.shape[1]
    share = eps * k / (k - 1) if form == "others" else eps
    return y * (1 - share) + share / k


def mixup_batch(x: Tensor, y: Tensor, weight: Tensor | float, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """weight·x + (1 − weight)·x[permutation], the same for y; x (N, C, H, W), y (N, K).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> mixup_batch(x, y, 0.75, torch.tensor([1, 0]))[0].flatten().tolist()
    [0.25, 0.75]
    """
    return x * weight + x[permutation] * (1 - weight), y * weight + y[permutation] * (1 - weight)


def cutmix_batch(x: Tensor, y: Tensor, box: tuple[int, int, int, int], permutation: Tensor) -> tuple[Tensor, Tensor]:
    """The rows top:bottom and columns left:right of each picture from another, targets mixed by area."""
    top, bottom, left, right = box
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[permutation, :, top:bottom, left:right]
    share = (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
    return mixed, y * (1 - share) + y[permutation] * share


def cutout_batch(x: Tensor, centres: Tensor, length: int, value: float = 0.0) -> Tensor:
    """``value`` in a square around each centre, clipped at the border; x (N, C, H, W), centres (N, 2) rows, columns."""

    def inside(size: int, centre: Tensor) -> Tensor:
        along = torch.arange(size, device=x.device)[None, :]
        first = centre[:, None] - length // 2
        return (along >= first) & (along < first + length)  # (N, size)

    hole = inside(x.shape[2], centres[:, 0])[:, None, :, None] & inside(x.shape[3], centres[:, 1])[:, None, None, :]
    return x.masked_fill(hole, value)


def weight_penalty(weights: Sequence[Tensor], power: int) -> Tensor:
    """Σ |w|^power over all weights, for power 1 or 2.

    >>> weight_penalty([torch.tensor([[3.0, -4.0]])], 2), weight_penalty([torch.tensor([[3.0, -4.0]])], 1)
    (tensor(25.), tensor(7.))
    """
    parts = [w.square().sum() if power == 2 else w.abs().sum() for w in weights]
    return torch.stack(parts).sum()


def draw_beta(alpha: float) -> float:
    """One number of Beta(alpha, alpha), from torch's default generator on the CPU."""
    gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64))  # pyright: ignore[reportPrivateImportUsage]
    total = float(gammas.sum())
    return float(gammas[0]) / total if total > 0 else 1.0  # tiny alpha can underflow: then nothing is mixed


def permutation(x: Tensor) -> Tensor:
    """A random order of the batch, drawn where the batch lies."""
    return torch.randperm(len(x), device=x.device)


def draw_centres(x: Tensor) -> Tensor:
    """A random pixel of each picture, (N, 2)."""
    shape = torch.tensor(x.shape[2:], device=x.device)
    return (torch.rand(len(x), 2, device=x.device) * shape).long()


def draw_box(weight: float, height: int, width: int) -> tuple[int, int, int, int]:
    """CutMix's box for λ = weight: sides √(1 − weight) of the picture's, random centre, clipped at the border."""
    row, column = (torch.rand(2) * torch.tensor([height, width])).long().tolist()
    side = math.sqrt(1 - weight)
    h, w = int(height * side) // 2, int(width * side) // 2
    return max(row - h, 0), min(row + h, height), max(column - w, 0), min(column + w, width)
