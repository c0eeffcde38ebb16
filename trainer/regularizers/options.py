"""Regularizers: what acts on the model, the batch, the loss or the end of training to close the gap to the test set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import ConfigError, Problem, check
from trainer.history import History, better_is

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Regularizer:
    """The places where a regularizer may act; each is the identity unless an option says otherwise."""

    def model(self, model: nn.Module) -> nn.Module:
        return model

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x, y

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        return None

    def stop(self, history: History) -> str | None:
        return None

    def needs(self, setup: Any) -> list[str]:
        """What of the set-up (batch_size, validation, shape) makes the option impossible, in words."""
        return []


class Chain(Regularizer):
    """Several regularizers, each acting in the order given; a chain is a regularizer."""

    parts: dict[str, Regularizer]
    batchers: list[Regularizer]
    penalties: list[Regularizer]

    def __init__(self, parts: dict[str, Regularizer]) -> None:
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "batchers", self._overriding("batch"))
        object.__setattr__(self, "penalties", self._overriding("penalty"))

    def _overriding(self, place: str) -> list[Regularizer]:
        return [p for p in self.parts.values() if getattr(type(p), place) is not getattr(Regularizer, place)]

    @property
    def acts_on_batch(self) -> bool:
        return bool(self.batchers)

    @property
    def acts_on_loss(self) -> bool:
        return bool(self.penalties)

    def model(self, model: nn.Module) -> nn.Module:
        for part in self.parts.values():
            model = part.model(model)
        return model

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for part in self.batchers:
            x, y = part.batch(x, y)
        return x, y

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        found = [p for part in self.penalties if (p := part.penalty(model, outputs)) is not None]
        return sum(found[1:], found[0]) if found else None

    def stop(self, history: History) -> str | None:
        return next((words for part in self.parts.values() if (words := part.stop(history))), None)


@dataclass(frozen=True)
class EarlyStopping(Regularizer):
    """Stop after ``patience`` epochs in which ``metric`` did not beat its best by more than ``min_delta``.

    A function of the history alone, so it resumes exactly. The best snapshot is what is kept and reported.
    """

    metric: str = "validation_accuracy"
    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check(
            self, patience=(self.patience >= 1, "must be >= 1 epoch"), min_delta=(self.min_delta >= 0, "must be >= 0")
        )

    def stop(self, history: History) -> str | None:
        if len(history) and self.metric not in history[-1]:
            known = ", ".join(k for k in history[-1] if isinstance(history[-1][k], float))
            problem = Problem("regularizer.early_stopping.metric", self.metric, "is no column of the history", known)
            raise ConfigError(problem)
        sign = 1.0 if better_is(self.metric) == "min" else -1.0
        best, best_row = math.inf, -1
        for i, row in enumerate(history):
            if sign * row[self.metric] < best - self.min_delta:
                best, best_row = sign * row[self.metric], i
        if len(history) - 1 - best_row < self.patience:
            return None
        if best_row < 0:
            return f"early stopping: {self.metric} was never a number"
        value, epoch = history[best_row][self.metric], history[best_row]["epoch"]
        return f"early stopping: {self.metric} was best ({value:.4f}) at epoch {epoch:g}, {self.patience} epochs ago"

    def needs(self, setup: Any) -> list[str]:
        return [] if setup.validation else ["early stopping needs validation pictures: data.validation=0.1"]


@dataclass(frozen=True)
class Dropout(Regularizer):
    """Inverted dropout: in training each value is zero with probability ``p``, the others are divided by 1 − p, so that
    the expectation is that of evaluation, where nothing happens (Srivastava et al. 2014).

    ``where``: before the last layer (``head``), or after every non-linearity (``all``). 0 does nothing. The lecture's
    correction at test time is right at p = 1/2 only.
    """

    p: float = 0.5
    where: Literal["head", "all"] = "head"

    def __post_init__(self) -> None:
        check(self, p=(0 < self.p < 1, "must be in (0, 1); leave dropout out of the list to have none"))

    def model(self, model: nn.Module) -> nn.Module:
        from trainer.regularizers.hooks import insert_dropout

        return insert_dropout(model, self.p, self.where)


@dataclass(frozen=True)
class StochasticDepth(Regularizer):
    """In training the branch of residual block l of L is left out with probability p·l/L, and divided by 1 − p·l/L where
    it stays, so that the expectation is that of evaluation (Huang et al. 2016, arXiv:1603.09382).

    ``mode`` batch drops it for all pictures of a batch at once, as published; row for each picture by itself.
    """

    p: float = 0.5
    mode: Literal["batch", "row"] = "batch"

    def __post_init__(self) -> None:
        check(self, p=(0 < self.p < 1, "must be in (0, 1); leave stochastic_depth out of the list to have none"))

    def model(self, model: nn.Module) -> nn.Module:
        from trainer.regularizers.hooks import drop_branches

        if not drop_branches(model, self.p, self.mode):
            text = "needs a network of residual blocks"
            way = "architecture=resnet20, wide_resnet, resnet18_cifar, or a residual network of torchvision or timm"
            raise ConfigError(Problem("regularizer.stochastic_depth", "on", text, way))
        return model


@dataclass(frozen=True)
class LabelSmoothing(Regularizer):
    """Targets less certain: 1 − eps on the class and eps/(K − 1) on each other (``others``, the lecture's form), or
    (1 − eps)·y + eps/K (``all``, torch's). ``others`` equals torch's with eps·K/(K − 1) (Szegedy et al. 2015).
    """

    eps: float = 0.1
    form: Literal["others", "all"] = "others"

    def __post_init__(self) -> None:
        check(self, eps=(0 < self.eps < 1, "must be in (0, 1)"))

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from trainer.regularizers.functional import smooth_labels

        return x, smooth_labels(y, self.eps, self.form)


@dataclass(frozen=True)
class Mixup(Regularizer):
    """Each picture and its target mixed with another's by one weight λ ~ Beta(alpha, alpha) (Zhang et al. 2017,
    arXiv:1710.09412); any batch size from 2. Small ``alpha`` mixes little, 1 uniformly.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        check(self, alpha=(self.alpha > 0, "must be > 0"))

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from trainer.regularizers.functional import draw_beta, mixup_batch, permutation

        return mixup_batch(x, y, draw_beta(self.alpha), permutation(x))

    def needs(self, setup: Any) -> list[str]:
        return ["one picture a batch leaves nothing to mix: batch_size must be >= 2"] if setup.batch_size == 1 else []


@dataclass(frozen=True)
class Cutmix(Mixup):
    """A rectangle of each picture replaced by another's, targets mixed by area; its area is 1 − λ with
    λ ~ Beta(alpha, alpha), clipped at the border (Yun et al. 2019, arXiv:1905.04899).
    """

    alpha: float = 1.0

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from trainer.regularizers.functional import cutmix_batch, draw_beta, draw_box, permutation

        return cutmix_batch(x, y, draw_box(draw_beta(self.alpha), x.shape[2], x.shape[3]), permutation(x))


@dataclass(frozen=True)
class Cutout(Regularizer):
    """A square of ``length`` pixels around a random centre is set to ``value`` after normalising; it may cross the border
    and is clipped there (DeVries & Taylor 2017, arXiv:1708.04552).
    """

    length: int = 8
    value: float = 0.0

    def __post_init__(self) -> None:
        check(self, length=(self.length >= 1, "must be >= 1 pixel"))

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from trainer.regularizers.functional import cutout_batch, draw_centres

        return cutout_batch(x, draw_centres(x), self.length, self.value), y

    def needs(self, setup: Any) -> list[str]:
        side = min(setup.shape[1:])
        return [f"length {self.length} blanks pictures whose side is {side}"] if self.length >= 2 * side else []


@dataclass(frozen=True)
class L2(Regularizer):
    """strength·Σ w² added to the loss, weights only (no biases, no norms); its gradient is 2·strength·w, so plain SGD
    does the same with ``optimizer.weight_decay`` = 2·strength.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        check(self, strength=(self.strength > 0, "must be > 0"))

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        from trainer.regularizers.functional import weight_penalty

        return self.strength * weight_penalty([p for p in model.parameters() if p.ndim > 1], 2)


@dataclass(frozen=True)
class L1(L2):
    """strength·Σ |w| added to the loss, weights only (no biases, no norms): drives weights to zero."""

    strength: float = 1e-5

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        from trainer.regularizers.functional import weight_penalty

        return self.strength * weight_penalty([p for p in model.parameters() if p.ndim > 1], 1)


@dataclass(frozen=True)
class SoftSharing(Regularizer):
    """strength·Σ (w − w₀)² added to the loss, weights only: the network stays near another one, without being it.

    w₀ are the weights of ``reference`` (a checkpoint file of the same architecture), or, where it is null, those at the
    beginning of the run, which for pretrained weights is L2-SP (Li et al. 2018, arXiv:1802.01483). Layers whose shapes differ
    from the reference's, such as a new head, are left free.
    """

    strength: float = 1e-3
    reference: str | None = None

    def __post_init__(self) -> None:
        check(self, strength=(self.strength > 0, "must be > 0"))

    def model(self, model: nn.Module) -> nn.Module:
        from trainer.regularizers.hooks import hold_reference

        return hold_reference(model, self.reference)

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        from trainer.regularizers.hooks import references

        pairs = references(model)
        return self.strength * sum((w - held).square().sum() for w, held in pairs) if pairs else None  # pyright: ignore
