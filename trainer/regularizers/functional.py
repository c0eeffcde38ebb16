"""The mathematics of the regularizers as pure functions that receive their random numbers, and the functions that draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def smooth_labels(y: Tensor, eps: float, form: str = "others", total: Tensor | float = 1.0) -> Tensor:
    """Return targets (N, K) with probability ``eps`` distributed over the other classes (``others``) or over all (``all``).

    ``total`` is the sum of each row (N, 1), which is not 1 where classes have weights.

    >>> smooth_labels(torch.tensor([[1.0, 0.0, 0.0]]), 0.2)
    tensor([[0.8000, 0.1000, 0.1000]])
    """
    k = y.shape[1]
    uniform = eps * k / (k - 1) if form == "others" else eps  # weight of the uniform distribution
    return y * (1 - uniform) + total * (uniform / k)


def mixup_batch(x: Tensor, y: Tensor, weight: Tensor | float, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight·x + (1 − weight)·x[permutation], and the same for y; x (N, C, H, W), y (N, K).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> mixup_batch(x, y, 0.75, torch.tensor([1, 0]))[0].flatten().tolist()
    [0.25, 0.75]
    """
    return x * weight + x[permutation] * (1 - weight), y * weight + y[permutation] * (1 - weight)


def cutmix_batch(x: Tensor, y: Tensor, box: tuple[int, int, int, int], permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Return images whose rows top:bottom and columns left:right are those of another image, and targets mixed by area.

    Shapes: x (N, C, H, W), y (N, K).
    """
    top, bottom, left, right = box
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[permutation, :, top:bottom, left:right]
    area = (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])  # of the box, as a fraction of the image
    return mixed, y * (1 - area) + y[permutation] * area


def cutout_batch(x: Tensor, centers: Tensor, length: int, value: float = 0.0) -> Tensor:
    """Return images with a square of ``value`` around each center, clipped at the border.

    Shapes: x (N, C, H, W), centers (N, 2) as (row, column). ``length`` is the side of the square in pixels.
    """

    def inside(size: int, center: Tensor) -> Tensor:
        index = torch.arange(size, device=x.device)[None, :]
        first = center[:, None] - length // 2
        return (index >= first) & (index < first + length)  # (N, size)

    hole = inside(x.shape[2], centers[:, 0])[:, None, :, None] & inside(x.shape[3], centers[:, 1])[:, None, None, :]
    return x.masked_fill(hole, value)


def weight_penalty(weights: Sequence[Tensor], power: int) -> Tensor:
    """Return Σ |w|^power over all weights, for power 1 or 2.

    >>> weight_penalty([torch.tensor([[3.0, -4.0]])], 2), weight_penalty([torch.tensor([[3.0, -4.0]])], 1)
    (tensor(25.), tensor(7.))
    """
    sums = [w.square().sum() if power == 2 else w.abs().sum() for w in weights]
    return torch.stack(sums).sum()


def draw_beta(alpha: float) -> float:
    """Draw a number from Beta(alpha, alpha) with torch's default CPU generator."""
    gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64))  # pyright: ignore[reportPrivateImportUsage]
    total = float(gammas.sum())
    return float(gammas[0]) / total if total > 0 else 1.0  # both underflow if alpha is tiny: then nothing is mixed


def draw_uniform() -> float:
    """Draw a number from [0, 1) with torch's default CPU generator."""
    return float(torch.rand(()))


def draw_permutation(x: Tensor) -> Tensor:
    """Draw a random order of the batch, on its device."""
    return torch.randperm(len(x), device=x.device)


def draw_centers(x: Tensor) -> Tensor:
    """Draw a pixel of each image uniformly: (N, 2) as (row, column)."""
    shape = torch.tensor(x.shape[2:], device=x.device)
    return (torch.rand(len(x), 2, device=x.device) * shape).long()


def draw_box(weight: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Draw the box of CutMix for λ = weight: sides √(1 − weight) times the image's, random center, clipped at the border.

    The result is (top, bottom, left, right) in pixels.
    """
    row, column = (torch.rand(2) * torch.tensor([height, width])).long().tolist()
    side = math.sqrt(1 - weight)
    h, w = int(height * side) // 2, int(width * side) // 2
    return max(row - h, 0), min(row + h, height), max(column - w, 0), min(column + w, width)
