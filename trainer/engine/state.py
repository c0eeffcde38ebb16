"""The state of a run, as ``Run.state`` returns it and a checkpoint holds it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict, overload

from torch import Tensor, nn

from trainer.engine.metrics import Sums
from trainer.formats import Row
from trainer.tasks.task import TaskState, Thresholds

if TYPE_CHECKING:
    from torch.optim.optimizer import StateDict as OptimizerState

StateDict: TypeAlias = dict[str, Tensor]  # parameters and buffers of a model by name


class Weights(TypedDict):
    """The weights of the model, and of the averaged model if there is one."""

    model: StateDict
    averaged: StateDict | None


class Best(Weights):
    """The weights of the best epoch, and the index of its row in the history."""

    row: int
    thresholds: NotRequired[Thresholds]


class RandomState(TypedDict):
    """The states of torch's random number generators."""

    cpu: Tensor
    cuda: Tensor | None
    mps: NotRequired[Tensor | None]


class State(Weights):
    """What ``Run.state`` returns: everything that the rest of the run depends on. Old checkpoints lack some keys."""

    optimizer: OptimizerState
    clock: dict[str, int]
    history: list[Row]
    sums: Sums
    best: Best | None
    rates: NotRequired[dict[str, float]]
    lr: NotRequired[float]
    mean_lr: NotRequired[float]
    processes: NotRequired[int]
    task: NotRequired[TaskState]
    skipped: NotRequired[int]  # steps of the epoch, see StepGuard
    rewinds: NotRequired[int]
    sane: NotRequired[State | None]  # at the beginning of the epoch
    loss_scale: NotRequired[dict[str, float]]  # of fp16
    spent: NotRequired[float]  # seconds of the time budget
    micro_batch: NotRequired[int]  # if it is smaller than configured, for lack of memory
    random: RandomState


@overload
def snapshot(model: nn.Module) -> StateDict: ...
@overload
def snapshot(model: nn.Module | None) -> StateDict | None: ...
def snapshot(model: nn.Module | None) -> StateDict | None:
    """A copy of a model's weights and buffers that training does not change."""
    return None if model is None else {k: copy.deepcopy(v.detach()) for k, v in model.state_dict().items()}
