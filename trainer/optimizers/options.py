"""Optimizers: options with the peak rate and what belongs to it; the arithmetic is torch's, fused where it can be."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainer.errors import ConfigError, Problem, check

if TYPE_CHECKING:
    import torch

    from trainer.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What all optimizers have: the peak rate ``lr`` (the schedule multiplies it), decay of the weights (not of biases
    and norms, unless ``decay_all``), clipping of the gradient's norm (0 = off), and ``layer_decay``, the ratio of a
    layer's rate to that of the layer above it (1 = all alike). ``bias_lr_mult`` is the rate of biases, those of norms included,
    over that of weights (1 = all alike).
    """

    lr: float = 0.1
    weight_decay: float = 0.0
    decay_all: bool = False
    clip_norm: float = 0.0
    layer_decay: float = 1.0
    bias_lr_mult: float = 1.0
    momentum_key: ClassVar[Literal["momentum", "betas"] | None] = None

    def __post_init__(self) -> None:
        check(
            self,
            lr=(self.lr > 0, "must be > 0"),
            weight_decay=(self.weight_decay >= 0, "must be >= 0"),
            clip_norm=(self.clip_norm >= 0, "must be >= 0; 0 = off"),
            layer_decay=(0 < self.layer_decay <= 1, "must be in (0, 1]"),
            bias_lr_mult=(self.bias_lr_mult > 0, "must be > 0; 1 = as all others"),
        )

    def kind(self, dimensions: int, is_head: bool) -> tuple[str, float]:
        """A name for how a parameter is treated, and the ratio of its rate to that of its layer."""
        return "", 1.0

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """w ← w − lr·g."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(groups, lr=self.lr, fused=True)


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """v ← momentum·v + g; w ← w − lr·v (Polyak 1964). ``momentum`` 0 is plain SGD."""

    lr: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: ClassVar[bool] = False
    momentum_key = "momentum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, momentum=(0 < self.momentum < 1, "must be in (0, 1); optimizer=sgd has none"))

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=True)


@dataclass(frozen=True, kw_only=True)
class Nesterov(Momentum):
    """Momentum with the gradient taken ahead, at w − lr·momentum·v (Nesterov 1983), in torch's form, which keeps the point
    ahead as the weights. The lecture's slide prints w + momentum·v beside this sign of v, which diverges.
    """

    nesterov: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g; G ← β₂G + (1−β₂)g²; w ← w − lr·m̂/(√Ĝ + eps), bias-corrected (Kingma & Ba 2014)."""

    lr: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum_key = "betas"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            betas=(all(0 <= b < 1 for b in self.betas), "must both be in [0, 1)"),
            eps=(self.eps > 0, "must be > 0"),
        )

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam whose weight decay does not pass through the moments: w ← w − lr·weight_decay·w besides (Loshchilov 2017)."""

    weight_decay: float = 0.01

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


@dataclass(frozen=True, kw_only=True)
class Rule(Optimizer):
    """A class of ``torch.optim`` with its own arguments, for rules that torch has and that need nothing from us."""

    def arguments(self) -> dict[str, Any]:
        return {}

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return getattr(torch.optim, type(self).__name__)(groups, lr=self.lr, **self.arguments())


@dataclass(frozen=True, kw_only=True)
class Adadelta(Rule):
    """G ← rho·G + (1−rho)g²; Δ = g·√(D + eps)/√(G + eps); D ← rho·D + (1−rho)Δ²; w ← w − lr·Δ (Zeiler 2012)."""

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, rho=(0 <= self.rho < 1, "must be in [0, 1)"), eps=(self.eps > 0, "must be > 0"))

    def arguments(self) -> dict[str, Any]:
        return {"rho": self.rho, "eps": self.eps}


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """G ← G + g²; w ← w − lr·g/√(G + eps) (Duchi 2011), eps inside the root as in the lecture;
    ``epsilon_inside_root`` false is torch's w − lr·g/(√G + eps).
    """

    lr: float = 0.01
    eps: float = 1e-8
    epsilon_inside_root: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, eps=(self.eps > 0, "must be > 0"))

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        from trainer.optimizers import rules

        if self.epsilon_inside_root:
            return rules.Adagrad(groups, lr=self.lr, eps=self.eps)
        return torch.optim.Adagrad(groups, lr=self.lr, eps=self.eps, foreach=True)


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """G ← gamma·G + (1 − gamma)·g²; w ← w − lr·g/√(G + eps) (Hinton 2012), eps inside the root as in the lecture;
    ``epsilon_inside_root`` false is torch's w − lr·g/(√G + eps).
    """

    lr: float = 0.001
    gamma: float = 0.9
    eps: float = 1e-8
    epsilon_inside_root: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, gamma=(0 <= self.gamma < 1, "must be in [0, 1)"), eps=(self.eps > 0, "must be > 0"))

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        from trainer.optimizers import rules

        if self.epsilon_inside_root:
            return rules.RMSprop(groups, lr=self.lr, gamma=self.gamma, eps=self.eps)
        return torch.optim.RMSprop(groups, lr=self.lr, alpha=self.gamma, eps=self.eps, foreach=True)


@dataclass(frozen=True, kw_only=True)
class AdamUncorrected(Adam):
    """m ← β₁m + (1−β₁)g; G ← β₂G + (1−β₂)g²; w ← w − lr·m/√(G + eps): the lecture's "almost Adam", without bias
    correction, so that the first steps are (1−β₁)/√(1−β₂) times Adam's: about 3.2 with the usual betas.
    """

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from trainer.optimizers import rules

        return rules.AdamUncorrected(groups, lr=self.lr, betas=self.betas, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Momentum whose matrix is made orthogonal, for all weights but the last layer's; biases, norms and the last layer go
    by Nesterov's momentum with the rate lr·``rest`` (Jordan 2024). ``steps`` of Newton-Schulz iteration.
    """

    lr: float = 0.02
    momentum: float = 0.95
    steps: int = 5
    rest: float = 1.0
    momentum_key = "momentum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            momentum=(0 < self.momentum < 1, "must be in (0, 1)"),
            steps=(self.steps >= 1, "must be >= 1"),
            rest=(self.rest > 0, "must be > 0, a share of lr"),
        )

    def kind(self, dimensions: int, is_head: bool) -> tuple[str, float]:
        return ("rest", self.rest) if is_head or dimensions < 2 else ("matrix", 1.0)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from trainer.optimizers import rules

        return rules.Muon(groups, lr=self.lr, momentum=self.momentum, steps=self.steps)


class ExternalOptimizer(Optimizer):
    """Any optimizer class with torch's interface, named by ``_target_`` in a user's option file."""

    @staticmethod
    def wrap(target: Any, arguments: dict[str, Any]) -> Optimizer:
        """The class as an option: ``lr`` and ``weight_decay`` are read from its arguments."""
        parameters = inspect.signature(target).parameters
        if "lr" not in arguments:
            raise ConfigError(
                Problem("optimizer.lr", None, "must be given: it is the peak rate that schedules multiply")
            )
        option = ExternalOptimizer(lr=float(arguments["lr"]), weight_decay=float(arguments.get("weight_decay", 0.0)))
        object.__setattr__(option, "build", lambda groups: target(groups, **arguments))
        key = next((k for k in ("momentum", "betas") if k in parameters), None)
        object.__setattr__(option, "momentum_key", key)
        return option


def schedule_fits(schedule: Schedule, option: Optimizer) -> str | None:
    """Why a schedule cannot go with an optimizer, in words; None where it can.

    >>> from trainer.schedules import Constant, OneCycle
    >>> schedule_fits(Constant(), SGD()), schedule_fits(OneCycle(total=1), Momentum())
    (None, None)
    >>> schedule_fits(OneCycle(total=1), SGD())
    'one_cycle moves the momentum, and this optimizer has none: optimizer=momentum, or schedule=cosine'
    """
    if schedule.momentum_at(0.0) is None or option.momentum_key is not None:
        return None
    return "one_cycle moves the momentum, and this optimizer has none: optimizer=momentum, or schedule=cosine"
