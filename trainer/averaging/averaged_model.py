"""Averaged models: the options decide when to average, torch's ``AveragedModel`` computes the average.

``AveragedModel.update_parameters`` copies the model if its counter ``n_averaged`` is 0.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.averaging.options import EMA, SWA


def build_ema(option: EMA, model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(option.decay), use_buffers=True)


def update_ema(option: EMA, averaged: AveragedModel, model: nn.Module, t: float, end_of_epoch: bool) -> None:
    if t < option.start:
        _restart(averaged)
    averaged.update_parameters(model)


def build_swa(option: SWA, model: nn.Module) -> AveragedModel:
    return AveragedModel(model)


def update_swa(option: SWA, averaged: AveragedModel, model: nn.Module, t: float, end_of_epoch: bool) -> None:
    if not end_of_epoch:
        return
    if t <= option.start:
        _restart(averaged)
    averaged.update_parameters(model)


def _restart(averaged: AveragedModel) -> None:
    """Let the next update copy the model."""
    n_averaged = averaged.n_averaged
    assert isinstance(n_averaged, Tensor)
    n_averaged.zero_()
