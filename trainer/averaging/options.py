"""Averaging of the weights along training: the option decides when, torch's ``AveragedModel`` does the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import check

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Averaging:
    """No averaging: the model as trained."""

    renew: ClassVar[bool] = False  # whether batch-norm statistics are estimated anew before evaluation

    def build(self, model: nn.Module) -> Any:
        return None

    def update(self, averaged: Any, model: nn.Module, t: float, end_of_epoch: bool) -> None:
        pass


@dataclass(frozen=True)
class EMA(Averaging):
    """w̄ ← decay·w̄ + (1 − decay)·w after every step from epoch ``start`` on; before it w̄ is w. Batch-norm statistics
    are averaged likewise. 1/(1 − decay) is the memory in steps.
    """

    decay: float = 0.99
    start: float = 0.0

    def __post_init__(self) -> None:
        check(
            self,
            decay=(0 < self.decay < 1, "must be in (0, 1); averaging=none has none"),
            start=(self.start >= 0, "must be >= 0 epochs"),
        )

    def build(self, model: nn.Module) -> Any:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)

    def update(self, averaged: Any, model: nn.Module, t: float, end_of_epoch: bool) -> None:
        if t < self.start:
            averaged.n_averaged.zero_()  # the next update copies
        averaged.update_parameters(model)


@dataclass(frozen=True)
class SWA(Averaging):
    """The mean of the weights at the ends of the epochs from ``start`` on (Izmailov et al. 2018, arXiv:1803.05407).
    Before ``start`` the average is the model. Batch-norm statistics are estimated anew before evaluation.
    """

    start: float = 10.0
    renew: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self, start=(self.start >= 0, "must be >= 0 epochs"))

    def build(self, model: nn.Module) -> Any:
        from torch.optim.swa_utils import AveragedModel

        return AveragedModel(model)

    def update(self, averaged: Any, model: nn.Module, t: float, end_of_epoch: bool) -> None:
        if not end_of_epoch:
            return
        if t <= self.start:
            averaged.n_averaged.zero_()
        averaged.update_parameters(model)
