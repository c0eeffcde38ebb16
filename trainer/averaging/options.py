"""Options of weight averaging: which weights are averaged, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from trainer.parameters import NonNegativeFloat, implemented_by, option

if TYPE_CHECKING:
    from torch import nn
    from torch.optim.swa_utils import AveragedModel

Start = Annotated[
    NonNegativeFloat,
    Field(description="time at which averaging starts, in epochs; before, the average equals the model"),
]


@option
class Averaging:
    """No averaging; base class of the other options."""

    enabled: ClassVar[bool] = False  # whether there is an averaged model
    updates_batch_norm: ClassVar[bool] = False  # whether batch-norm statistics are re-estimated before evaluation

    def build(self, model: nn.Module) -> AveragedModel | None:
        """Return the averaged model, which is a copy of ``model`` at first; None without averaging."""
        return None

    def update(self, averaged: AveragedModel, model: nn.Module, t: float, end_of_epoch: bool) -> None:
        """Update the averaged model after a training step that ended at time ``t`` (epochs since the start of the phase)."""


@option
class EMA(Averaging):
    """Exponential moving average: w̄ ← decay·w̄ + (1 − decay)·w after every step from ``start`` on; before, w̄ = w.

    It averages about 1/(1 − decay) steps. Batch normalization statistics are averaged in the same way.
    """

    decay: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="fraction of the average kept at each step; it averages about 1/(1 - decay) steps",
        ),
    ] = 0.99
    start: Start = 0.0
    enabled: ClassVar[bool] = True

    build = implemented_by("trainer.averaging.averaged_model:build_ema")
    update = implemented_by("trainer.averaging.averaged_model:update_ema")


@option
class SWA(Averaging):
    """Stochastic weight averaging: the mean of the weights at the ends of the epochs from ``start`` on; before, w̄ = w.

    Batch-norm statistics are re-estimated from the training images before evaluation. Source: Izmailov et al. 2018,
    arXiv:1803.05407.
    """

    start: Start = 10.0
    enabled: ClassVar[bool] = True
    updates_batch_norm: ClassVar[bool] = True

    build = implemented_by("trainer.averaging.averaged_model:build_swa")
    update = implemented_by("trainer.averaging.averaged_model:update_swa")
