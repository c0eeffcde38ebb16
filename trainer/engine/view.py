"""What observers get to see of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast

from torch import Tensor, nn

from trainer.engine.divergence import nonfinite
from trainer.engine.evaluation import best_weights
from trainer.engine.info import Info
from trainer.engine.loader import Loader
from trainer.engine.phases import Phase
from trainer.engine.run import Run
from trainer.engine.state import Best, State
from trainer.hardware import Precision
from trainer.history import History
from trainer.tasks.task import Task

M = TypeVar("M", bound=Mapping[str, object])


def read_only(mapping: M) -> M:
    """Return a read-only view of a mapping; setting an item raises TypeError.

    >>> read_only({"epoch": 1.0})["epoch"]
    1.0
    """
    return cast(M, MappingProxyType(mapping))


class RunView:
    """Read-only view of a run. Setting an attribute raises AttributeError.

    Models and tensors are the run's own, not copies: an observer that changes one in place breaks its contract.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        object.__setattr__(self, "_run", run)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an observer cannot change a run: RunView.{name} is read-only")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an observer cannot change a run: RunView.{name} is read-only")

    # What the run consists of

    @property
    def folder(self) -> Path | None:
        """The run directory; None if the run writes no files."""
        return self._run.folder

    @property
    def id(self) -> str:
        """What identifies the run, in its directory and its checkpoints; empty if the run writes no files."""
        return self._run.id

    @property
    def info(self) -> Info:
        """Classes, image shape, normalization, and config."""
        return self._run.info

    @property
    def hyperparameters(self) -> Mapping[str, object]:
        """The settings by which the run is told apart from others, by dotted key: first those that its command sets."""
        return self._run.hyperparameters()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen for the user when the run was built, and why."""
        return tuple(self._run.notes)

    @property
    def metric(self) -> str:
        """The column of the history that decides which epoch is the best."""
        return self._run.metric

    @property
    def task(self) -> Task:
        """What is learned: the layout of outputs and targets, losses and metrics."""
        return self._run.task

    @property
    def model(self) -> nn.Module:
        """The trained model."""
        return self._run.model

    @property
    def averaged(self) -> nn.Module | None:
        """The model with averaged weights; None without averaging."""
        return self._run.averaged

    @property
    def train(self) -> Loader:
        """The training images."""
        return self._run.train

    @property
    def validation(self) -> Loader | None:
        """The validation images; None if there are none."""
        return self._run.validation

    @property
    def test(self) -> Loader | None:
        """The test images; None if there are none."""
        return self._run.test

    @property
    def loaders(self) -> dict[str, Loader]:
        """The splits that exist, by name: ``train``, ``validation``, ``test``."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: loader for name, loader in splits.items() if loader is not None}

    @property
    def precision(self) -> Precision:
        """Device, dtype, and memory format."""
        return self._run.precision

    @property
    def lr_option(self) -> float:
        """``optimizer.lr``, the peak learning rate of phases without one of their own."""
        return self._run.optimizer_option.lr

    # Time

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All phases of the run."""
        return tuple(self._run.phases)

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._run.phase

    @property
    def step(self) -> int:
        """Optimizer steps so far, over all phases."""
        return self._run.clock.step

    @property
    def batch_index(self) -> int:
        """Steps so far in the current epoch."""
        return self._run.clock.batch

    @property
    def time(self) -> float:
        """Epochs since the current phase began."""
        return self._run.time

    @property
    def data_epoch(self) -> int:
        """Passes over the training images begun before the current one, over all phases."""
        return self._run.data_epoch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._run.total_steps

    @property
    def steps_in_epoch(self) -> int:
        """Steps of the current epoch, fewer than a whole one if the phase ends within it."""
        return self._run.steps_in_epoch

    def steps_in(self, phase: Phase) -> int:
        """Steps of a phase."""
        return self._run.steps_in(phase)

    def peak_lr(self, phase: Phase) -> float:
        """The peak learning rate of a phase; the optimizer's if its LR range test is still to come."""
        return self._run.peak_lr(phase)

    @property
    def interrupted(self) -> bool:
        """Whether a stop was requested: training ends after the current step."""
        return self._run.interrupted

    @property
    def diverged(self) -> str | None:
        """What became NaN or Inf and ended training, e.g. "the validation loss is NaN or Inf"; None if nothing has so far."""
        return self._run.diverged

    def is_finite(self) -> bool:
        """Return whether the training loss and the weights are finite. Synchronizes with the device; all ranks must call it."""
        return self._run.diverged is None and nonfinite(self._run) is None

    @property
    def over(self) -> bool:
        """Whether training ends after the current epoch: the phases are over, a regularizer stops it, or it has diverged."""
        return self._run.finished or self._run.diverged is not None or self._run.stop_reason() is not None

    # What the last step computed

    @property
    def batch(self) -> tuple[Tensor, Tensor] | None:
        """Images (N, C, H, W) and targets (N, D) of the last step, as they went into the model; None before the first."""
        return self._run.batch

    @property
    def loss(self) -> Tensor | None:
        """Loss of the last step, on the device: reading its value waits for the device."""
        return self._run.loss

    @property
    def outputs(self) -> Tensor | None:
        """Outputs (N, O) of the last step."""
        return self._run.outputs

    @property
    def grad_norm(self) -> Tensor | None:
        """Norm of the gradient of the last step before clipping; None without clipping."""
        return self._run.grad_norm

    @property
    def lr(self) -> float:
        """Learning rate of the last step, of a parameter group with ratio 1."""
        return self._run.lr

    @property
    def momentum(self) -> float | None:
        """Momentum or beta_1 of the last step; None if the optimizer has none."""
        return self._run.momentum

    def running_metrics(self) -> dict[str, float]:
        """Mean ``loss`` and running metrics of the current epoch so far; waits for the device."""
        return self._run.sums.means()

    # Results

    @property
    def history(self) -> History:
        """A copy of the history: one row per finished epoch."""
        return History(self._run.history.rows)

    @property
    def epochs_done(self) -> int:
        """Number of rows in the history."""
        return len(self._run.history)

    @property
    def best(self) -> Best | None:
        """The best epoch so far: ``row`` (index in the history) and the weights ``model`` and ``averaged``."""
        return None if self._run.best is None else read_only(self._run.best)

    def best_weights(self) -> AbstractContextManager[None]:
        """Context manager that puts the best weights into ``model`` and ``averaged``, and the last ones back at its end."""
        return best_weights(self._run)

    def state(self) -> State:
        """Everything that the rest of the run depends on, for a checkpoint. All ranks must call it together."""
        return self._run.state()
