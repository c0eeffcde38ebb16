"""Rules that torch does not have in the form wanted here, by torch's multi-tensor operations."""

# torch does not export its multi-tensor operations, though its own optimizers are made of them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Tensors = list[Tensor]


class MultiTensor(torch.optim.Optimizer):
    """What the rules share: per group, all parameters with a gradient go through ``update`` at once.

    A group's ``lr`` is a number, or a tensor on the device where a recorded step reads it.
    """

    slots: tuple[str, ...] = ()  # names of the running tensors of each parameter, zero at the beginning

    def update(self, group: dict[str, Any], params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] = {name: torch.zeros_like(p) for name in self.slots}
            grads: Any = [p.grad for p in params]
            if group["weight_decay"] and not group.get("decoupled"):
                grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
            self.update(group, params, list(grads), *([self.state[p][name] for p in params] for name in self.slots))


class Adagrad(MultiTensor):
    """G ← G + g²; w ← w − lr·g/√(G + eps): the lecture's form, with eps inside the root."""

    slots = ("square",)

    def __init__(self, params: Any, lr: float, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: dict[str, Any], params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (square,) = slots
        torch._foreach_addcmul_(square, grads, grads)
        _step_by_root(params, grads, square, group)


class RMSprop(MultiTensor):
    """G ← gamma·G + (1 − gamma)·g²; w ← w − lr·g/√(G + eps): the lecture's form, with eps inside the root."""

    slots = ("square",)

    def __init__(
        self, params: Any, lr: float, gamma: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "gamma": gamma, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: dict[str, Any], params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (square,) = slots
        torch._foreach_mul_(square, group["gamma"])
        torch._foreach_addcmul_(square, grads, grads, 1 - group["gamma"])
        _step_by_root(params, grads, square, group)


class AdamUncorrected(MultiTensor):
    """m ← β₁m + (1 − β₁)g; G ← β₂G + (1 − β₂)g²; w ← w − lr·m/√(G + eps): no bias correction, eps inside the root."""

    slots = ("mean", "square")

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: dict[str, Any], params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        mean, square = slots
        first, second = group["betas"]
        torch._foreach_lerp_(mean, grads, 1 - first)
        torch._foreach_mul_(square, second)
        torch._foreach_addcmul_(square, grads, grads, 1 - second)
        _step_by_root(params, mean, square, group)


def _step_by_root(params: Tensors, direction: Tensors, square: Tensors, group: dict[str, Any]) -> None:
    """w ← w − lr·direction/√(square + eps)."""
    root = torch._foreach_add(square, group["eps"])
    torch._foreach_sqrt_(root)
    if isinstance(group["lr"], Tensor):
        torch._foreach_div_(root, group["lr"])
        torch._foreach_addcdiv_(params, direction, root, -1.0)
    else:
        torch._foreach_addcdiv_(params, direction, root, -group["lr"])


def _descend(params: Tensors, directions: Tensors, rate: float | Tensor) -> None:
    """w ← w − rate·direction."""
    if isinstance(rate, Tensor):
        torch._foreach_sub_(params, torch._foreach_mul(directions, rate))
    else:
        torch._foreach_add_(params, directions, alpha=-rate)


class Muon(MultiTensor):
    """Momentum made orthogonal: v ← momentum·v + (1 − momentum)·g; w ← w − lr·√max(1, rows/columns)·O(v'), with v' the
    look-ahead and O its nearest orthogonal matrix, by ``steps`` Newton-Schulz steps (Jordan 2024). Kernels are matrices of
    one row a filter. Groups whose ``kind`` is not ``matrix`` go by Nesterov's momentum.
    """

    slots = ("velocity",)

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.95, steps: int = 5, weight_decay: float = 0.0
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay, "kind": "matrix"}
        super().__init__(params, defaults | {"decoupled": True})

    def update(self, group: dict[str, Any], params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (velocity,) = slots
        rate, share = group["lr"], group["momentum"]
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - rate * group["weight_decay"])
        if group["kind"] != "matrix":
            torch._foreach_mul_(velocity, share)
            torch._foreach_add_(velocity, grads)
            _descend(params, list(torch._foreach_add(grads, velocity, alpha=share)), rate)
            return
        torch._foreach_lerp_(velocity, grads, 1 - share)
        for p, ahead in zip(params, torch._foreach_lerp(grads, velocity, share), strict=True):
            matrix = ahead.reshape(len(ahead), -1)
            scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
            _descend([p], [orthogonal(matrix, group["steps"]).view_as(p)], rate * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearly the orthogonal factor U·Vᵀ of ``matrix`` = U·S·Vᵀ, singular values between .7 and 1.2, by Newton-Schulz
    iteration with the quintic of Jordan 2024; on a GPU in bf16.

    >>> found = torch.linalg.svdvals(orthogonal(torch.diag(torch.tensor([1.0, 0.1]))))
    >>> bool((found > 0.6).all() and (found < 1.3).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)
