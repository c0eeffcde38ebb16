"""Losses as pure functions: one value per image, in float32, linear in the targets.

A target is a row of weights of the classes, which need not sum to 1: a class weight multiplies the one-hot row of its class, and
mixing and smoothing are linear. Since each loss is linear in this row, class weights, mixup, CutMix, label smoothing and
class probabilities act on every loss in the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Return −Σₖ y·log softmax(outputs) of each image, in nats; outputs (N, K), y (N, K).

    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    tensor([1.3863])
    """
    return F.cross_entropy(outputs.float(), y, reduction="none")


def binary_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the mean over K of −y·log σ(outputs) − (S − y)·log(1 − σ(outputs)); outputs (N, K), y (N, K).

    S is the sum of the row y, so that an image whose row is multiplied by a class weight counts that many times.

    >>> binary_cross_entropy(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    tensor([0.6931])
    """
    z = outputs.float()
    return (y.sum(1, keepdim=True) * F.softplus(z) - y * z).mean(1)


def focal(outputs: Tensor, y: Tensor, gamma: float) -> Tensor:
    """Return −Σₖ y·(1 − p)^gamma·log p with p = softmax(outputs); gamma = 0 is the cross-entropy (Lin et al. 2017).

    >>> focal(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), 2.0)  # (1 - 1/2)² · ln 2
    tensor([0.1733])
    """
    log_p = outputs.float().log_softmax(1)
    return -(y * (-torch.expm1(log_p)).clamp_min(0).pow(gamma) * log_p).sum(1)


def poly1(outputs: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Return cross-entropy + epsilon·Σₖ y·(1 − p) with p = softmax(outputs); epsilon = 0 is the cross-entropy (Leng et al. 2022).

    >>> poly1(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), 2.0)  # ln 2 + 2 · 1/2
    tensor([1.6931])
    """
    return cross_entropy(outputs, y) + epsilon * (y * (1 - outputs.float().softmax(1))).sum(1)


def multilabel_bce(outputs: Tensor, y: Tensor, positive: Tensor | float = 1.0) -> Tensor:
    """Return −positive·y·log σ(outputs) − (1 − y)·log(1 − σ(outputs)) of each label: (N, K).

    Args:
        outputs: Logits (N, K).
        y: Targets (N, K) in [0, 1].
        positive: Weight of the positives, a number or (K,).

    >>> multilabel_bce(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), 2.0)
    tensor([[0.6931, 1.3863]])
    """
    z = outputs.float()
    return positive * y * F.softplus(-z) + (1 - y) * F.softplus(z)


def asymmetric(
    outputs: Tensor,
    y: Tensor,
    gamma_positive: float,
    gamma_negative: float,
    clip: float,
    positive: Tensor | float = 1.0,
) -> Tensor:
    """Return the asymmetric loss of each label: (N, K) (Ridnik et al. 2021).

    −positive·y·(1 − p)^gamma_positive·log p − (1 − y)·q^gamma_negative·log(1 − q) with p = σ(outputs), q = max(p − clip, 0).
    With both exponents and ``clip`` 0 it is the binary cross-entropy. Negatives of a probability below ``clip`` count
    nothing.

    >>> asymmetric(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), 0.0, 0.0, 0.0)
    tensor([[0.6931, 0.6931]])
    """
    z = outputs.float()
    p = z.sigmoid()
    shifted = (p - clip).clamp_min(0)
    log_not = torch.log1p(-shifted) if clip else -F.softplus(z)
    positives = positive * y * (1 - p).pow(gamma_positive) * F.softplus(-z)
    return positives - (1 - y) * shifted.pow(gamma_negative) * log_not


def squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Return (outputs − y)² of each number: (N, T)."""
    return (outputs.float() - y).square()


def absolute_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Return |outputs − y| of each number: (N, T)."""
    return (outputs.float() - y).abs()


def huber(outputs: Tensor, y: Tensor, delta: float) -> Tensor:
    """Return ½e² where |e| = |outputs − y| <= delta, else delta·(|e| − ½·delta), of each number: (N, T) (Huber 1964).

    >>> huber(torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2), 1.0)
    tensor([[0.1250, 2.5000]])
    """
    return F.huber_loss(outputs.float(), y, reduction="none", delta=delta)
