"""How the losses of several tasks are weighted: fixed, or found during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.tasks.multitask_options import Multitask
from trainer.tasks.part import Part

LIMIT = 4.0  # of |log σ²|: weights stay between e⁻⁴ and e⁴, since that of a loss near 0 would grow without bound
MIN_WEIGHT = 0.01  # of GradNorm, whose weights may become negative


class Weighting:
    """Fixed weights.

    Args:
        parts: The tasks.
        device: Where the weights are kept; they change in place, so that a recorded step reads the present ones.
    """

    learned = False
    needs_gradients = False

    def __init__(self, option: Multitask, parts: Sequence[Part], device: torch.device) -> None:
        self.option, self.device = option, device
        self.fixed = torch.tensor([part.spec.weight for part in parts], device=device)
        self.weights = torch.ones(len(parts), device=device)  # on top of the fixed ones

    def objective(self, losses: Tensor) -> Tensor:
        """Return what is minimized, of the losses (T,)."""
        return (self.fixed * self.weights * losses).sum()

    def reported(self, losses: Tensor) -> Tensor:
        """Return the loss that is reported, of the losses (T,): with the weights of the config alone."""
        return (self.fixed * losses).sum()

    def measure(self, losses: Tensor, shared: nn.Parameter | None) -> None:
        """Take note of a (micro-)batch's losses (T,), before its backward pass."""

    def step(self) -> None:
        """Update the weights after a step."""

    def end_epoch(self, losses: Sequence[float]) -> None:
        """Update the weights after an epoch with these mean training losses."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"weights": self.weights.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, value in state.items():
            getattr(self, name).copy_(value)


class Uncertainty(Weighting):
    """Weights c·e⁻ˢ with the log variance s of each task, which follows the gradient of c·L·e⁻ˢ + ½s (Kendall et al. 2018).

    c is ½ for numbers, whose loss is a squared error, and 1 for classes. A constant loss L has the optimum eˢ = 2·c·L.
    """

    learned = True

    def __init__(self, option: Multitask, parts: Sequence[Part], device: torch.device) -> None:
        super().__init__(option, parts, device)
        self.lr = option.weighting_lr or 0.025
        factors = [0.5 if part.spec.kind == "regression" else 1.0 for part in parts]
        self.factors = torch.tensor(factors, device=device)
        self.log_variance = torch.zeros(len(parts), device=device)
        self.sums, self.count = torch.zeros(len(parts), device=device), torch.zeros((), device=device)
        self.weights.copy_(self.factors)

    def measure(self, losses: Tensor, shared: nn.Parameter | None) -> None:
        self.sums += losses.detach()
        self.count += 1

    def step(self) -> None:
        losses = mean_over_ranks(self.sums / self.count)
        gradient = 0.5 - self.weights * losses
        # A batch without labels has no loss, and says nothing.
        self.log_variance -= self.lr * torch.where(losses > 0, gradient, 0.0)
        self.log_variance.clamp_(-LIMIT, LIMIT)
        self.weights.copy_(self.factors * (-self.log_variance).exp())
        self.sums.zero_()
        self.count.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"log_variance": self.log_variance.clone()}


class DynamicAverage(Weighting):
    """Weights T·softmax(r/temperature), r the ratio of the last two epochs' losses; 1 in the first two (Liu et al. 2019)."""

    learned = True

    def __init__(self, option: Multitask, parts: Sequence[Part], device: torch.device) -> None:
        super().__init__(option, parts, device)
        self.temperature = option.temperature or 2.0
        self.last = torch.full((len(parts),), torch.nan, device=device)

    def end_epoch(self, losses: Sequence[float]) -> None:
        new = torch.tensor(losses, device=self.device, dtype=torch.float32)
        ratio = new / self.last.clamp_min(1e-8)
        if bool(ratio.isfinite().all()):
            self.weights.copy_(len(losses) * (ratio / self.temperature).softmax(0))
        self.last.copy_(new)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"last": self.last.clone()}


class GradNorm(Weighting):
    """Weights that make the gradients of the last shared layer train all tasks at equal rates (Chen et al. 2018).

    With G = ‖∇(w·L)‖, its mean Ḡ over tasks, and the inverse training rate r = (L/L₀)/mean(L/L₀), the weights follow the
    gradient of Σ |G − Ḡ·r^alpha| with Ḡ·r^alpha held constant, and sum to the number of tasks. L₀ is the loss of guessing.
    """

    learned = True
    needs_gradients = True

    def __init__(self, option: Multitask, parts: Sequence[Part], device: torch.device) -> None:
        super().__init__(option, parts, device)
        self.alpha = 1.5 if option.alpha is None else option.alpha
        self.lr = option.weighting_lr or 0.025
        self.initial = torch.tensor([part.guessing_loss() for part in parts], device=device)
        self.sums = torch.zeros(len(parts), device=device)
        self.norms = torch.zeros(len(parts), device=device)
        self.count = torch.zeros((), device=device)

    def measure(self, losses: Tensor, shared: nn.Parameter | None) -> None:
        if shared is None or not shared.requires_grad:  # the shared layers are frozen: the weights stay as they are
            return
        gradients = [torch.autograd.grad(loss, shared, retain_graph=True)[0] for loss in self.fixed * losses]
        norms: list[Tensor] = [
            mean_over_ranks(gradient.detach().float()).norm()  # pyright: ignore[reportUnknownMemberType]
            for gradient in gradients
        ]
        self.norms += torch.stack(norms)
        self.sums += losses.detach()
        self.count += 1

    def step(self) -> None:
        n = self.count.clamp_min(1)
        norms, losses = self.norms / n, mean_over_ranks(self.sums / n)
        new = gradnorm_step(self.weights, norms, losses / self.initial, self.alpha, self.lr)
        self.weights.copy_(torch.where(self.count > 0, new, self.weights))
        for tensor in (self.norms, self.sums, self.count):
            tensor.zero_()


def gradnorm_step(weights: Tensor, norms: Tensor, progress: Tensor, alpha: float, lr: float) -> Tensor:
    """Return the weights (T,) after a step on the GradNorm loss, which sum to T.

    Args:
        weights: Before the step.
        norms: Norm of the gradient of each unweighted loss.
        progress: L/L₀ of each task.
        alpha: Exponent of the training rate.
        lr: Learning rate.

    >>> gradnorm_step(torch.ones(2), torch.tensor([3.0, 1.0]), torch.ones(2), 1.5, 0.1)
    tensor([0.7778, 1.2222])
    """
    weighted = weights * norms
    goal = weighted.mean() * (progress / progress.mean().clamp_min(1e-8)).clamp_min(0).pow(alpha)
    new = (weights - lr * (weighted - goal).sign() * norms).clamp_min(MIN_WEIGHT)
    return new * len(weights) / new.sum()


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean over all processes that train together."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


KINDS = {"fixed": Weighting, "uncertainty": Uncertainty, "dwa": DynamicAverage, "gradnorm": GradNorm}
