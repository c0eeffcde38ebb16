"""Update rules that torch does not have in this form, implemented with torch's multi-tensor operations."""

# torch does not export its multi-tensor operations, although its own optimizers consist of them.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from trainer.optimizers.options import ParamGroup

Tensors = list[Tensor]


class MultiTensor(torch.optim.Optimizer):
    """Base class of the rules: ``update`` processes all parameters of a group that have a gradient at once.

    The ``lr`` of a group is a number, or a tensor on the device if the step is captured in a CUDA graph.
    """

    slots: tuple[str, ...] = ()  # names of the state tensors of each parameter, initially zero

    def update(self, group: ParamGroup, params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        """Update the parameters of a group and their state tensors in place."""
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
            grads = [p.grad for p in params if p.grad is not None]
            if group["weight_decay"] and not group.get("decoupled"):
                grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
            self.update(group, params, list(grads), *([self.state[p][name] for p in params] for name in self.slots))


class Adagrad(MultiTensor):
    """Adagrad with eps inside the root: G ← G + g²; w ← w − lr·g/√(G + eps)."""

    slots = ("square",)

    def __init__(self, params: ParamsT, lr: float, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: ParamGroup, params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (square,) = slots
        torch._foreach_addcmul_(square, grads, grads)
        _scaled_step(params, grads, square, group)


class RMSprop(MultiTensor):
    """RMSprop with eps inside the root: G ← gamma·G + (1 − gamma)·g²; w ← w − lr·g/√(G + eps)."""

    slots = ("square",)

    def __init__(
        self, params: ParamsT, lr: float, gamma: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "gamma": gamma, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: ParamGroup, params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (square,) = slots
        torch._foreach_mul_(square, group["gamma"])
        torch._foreach_addcmul_(square, grads, grads, 1 - group["gamma"])
        _scaled_step(params, grads, square, group)


class AdamUncorrected(MultiTensor):
    """Adam without bias correction: m ← β₁·m + (1 − β₁)·g; G ← β₂·G + (1 − β₂)·g²; w ← w − lr·m/√(G + eps)."""

    slots = ("mean", "square")

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, group: ParamGroup, params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        mean, square = slots
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(mean, grads, 1 - beta1)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, grads, grads, 1 - beta2)
        _scaled_step(params, mean, square, group)


def _scaled_step(params: Tensors, direction: Tensors, square: Tensors, group: ParamGroup) -> None:
    """Update in place: w ← w − lr·direction/√(square + eps)."""
    root = torch._foreach_add(square, group["eps"])
    torch._foreach_sqrt_(root)
    if isinstance(group["lr"], Tensor):
        torch._foreach_div_(root, group["lr"])
        torch._foreach_addcdiv_(params, direction, root, -1.0)
    else:
        torch._foreach_addcdiv_(params, direction, root, -group["lr"])


def _step(params: Tensors, directions: Tensors, lr: float | Tensor) -> None:
    """Update in place: w ← w − lr·direction."""
    if isinstance(lr, Tensor):
        torch._foreach_sub_(params, torch._foreach_mul(directions, lr))
    else:
        torch._foreach_add_(params, directions, alpha=-lr)


class Muon(MultiTensor):
    """Muon (Jordan 2024): orthogonalized Nesterov momentum.

    v ← momentum·v + (1 − momentum)·g; w ← w − lr·√max(1, rows/columns)·O(u), where u = (1 − momentum)·g + momentum·v is the
    look-ahead and O(u) is approximately the nearest orthogonal matrix, computed by ``steps`` Newton-Schulz iterations. A
    convolution kernel is a matrix with one row per filter. Weight decay is decoupled. Groups whose ``kind`` is not ``matrix`` are
    updated by plain Nesterov momentum.
    """

    slots = ("velocity",)

    def __init__(
        self, params: ParamsT, lr: float, momentum: float = 0.95, steps: int = 5, weight_decay: float = 0.0
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay, "kind": "matrix"}
        super().__init__(params, defaults | {"decoupled": True})

    def update(self, group: ParamGroup, params: Tensors, grads: Tensors, *slots: Tensors) -> None:
        (velocity,) = slots
        lr, momentum = group["lr"], group["momentum"]
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        if group["kind"] != "matrix":
            torch._foreach_mul_(velocity, momentum)
            torch._foreach_add_(velocity, grads)
            _step(params, list(torch._foreach_add(grads, velocity, alpha=momentum)), lr)
            return
        torch._foreach_lerp_(velocity, grads, 1 - momentum)
        for p, look_ahead in zip(params, torch._foreach_lerp(grads, velocity, momentum), strict=True):
            matrix = look_ahead.reshape(len(look_ahead), -1)
            scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
            _step([p], [orthogonalize(matrix, group["steps"]).view_as(p)], lr * scale)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return approximately the orthogonal factor U·Vᵀ of ``matrix`` = U·S·Vᵀ (singular value decomposition).

    The singular values of the result are between about 0.7 and 1.2. Computed by Newton-Schulz iteration with the quintic
    polynomial of Jordan 2024, on a GPU in bf16.

    >>> singular_values = torch.linalg.svdvals(orthogonalize(torch.diag(torch.tensor([1.0, 0.1]))))
    >>> bool((singular_values > 0.6).all() and (singular_values < 1.3).all())
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
