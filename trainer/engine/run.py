"""All that a run is, with its state: what the loop works on, what observers look at, what a checkpoint holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from trainer.engine import distributed
from trainer.history import History
from trainer.metrics import Sums

if TYPE_CHECKING:
    from collections.abc import Generator

    from trainer.averaging import Averaging
    from trainer.optimizers import Optimizer
    from trainer.regularizers import Chain
    from trainer.schedules import Schedule


class Batches(Protocol):
    """Pictures on their way to the model: ``x (N, C, H, W)`` normalised, ``y (N, K)`` class probabilities."""

    num_pictures: int
    batch_size: int
    seed: int
    pipeline: Any

    def __len__(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]: ...
    def close(self) -> None: ...
    def size_of(self, batch: int) -> int: ...
    def weight(self, batch: int) -> float: ...


class Observer(Protocol):
    """What watches a run. It reads; with all observers removed not one bit of the result changes."""

    def on_fit_start(self, run: Run) -> None: ...
    def on_step_end(self, run: Run) -> None: ...
    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None: ...
    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Phase:
    """One stretch of a run: how long, by which schedule, and what is trainable."""

    name: str
    epochs: float
    schedule: Schedule
    trainable: str = "all"  # all | head


@dataclass
class Clock:
    """Time: the phase, the epoch in it, the batches done of that epoch; ``step`` counts over all phases."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Info:
    """What is known of a run's data and config, so that a checkpoint can be used alone."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: dict[str, Any]


@dataclass
class Precision:
    """Where the arithmetic happens, and in which type: float32 weights, and bf16 products where ``dtype`` is bf16."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16)

    @property
    def name(self) -> str:
        return "bf16" if self.dtype is torch.bfloat16 else "float32"


@dataclass
class Run:
    """A run: its parts, its place in time, its history. ``state`` and ``load`` are exact inverses."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    optimizer_option: Optimizer
    phases: list[Phase]
    train: Batches
    validation: Batches | None
    test: Batches | None
    regularizer: Chain
    averaging: Averaging
    precision: Precision
    info: Info
    metric: str = "validation_accuracy"
    micro_batch: int | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)  # what was chosen for the user, and why
    clock: Clock = field(default_factory=Clock)
    history: History = field(default_factory=History)
    best: dict[str, Any] | None = None  # {"row": int, "model": state, "averaged": state | None}
    interrupted: bool = False
    loss: Tensor | None = None  # of the last step, on the device: reading it synchronises
    outputs: Tensor | None = None
    batch: tuple[Tensor, Tensor] | None = None  # of the last step, as it went into the network
    grad_norm: Tensor | None = None  # of the last step before it was clipped; None where nothing clips
    forward: Any = None  # what a training step calls: the model, or what wraps it; never saved
    capture: Any = None  # records forward and backward where steps can be replayed
    looks: list[dict[str, Any]] = field(default_factory=list)  # what an observer saw in the layers; never saved
    facts: dict[str, Any] = field(default_factory=dict)  # what an observer found out about the data, for the diagnosis
    news: list[str] = field(default_factory=list)  # what cannot wait until the end: the console says it at once
    observers: list[Any] = field(default_factory=list)  # those that have begun, and so have something to end
    writers: dict[str, Any] = field(default_factory=dict)  # TensorBoard's, one a sub-run, shared by the observers

    def __post_init__(self) -> None:
        self.forward = self.forward or self.model
        self.sums = Sums(self.precision.device)
        self.averaged = self.averaging.build(self.model)

    @property
    def phase(self) -> Phase:
        return self.phases[self.clock.phase]

    @property
    def total_steps(self) -> int:
        return sum(self.steps_in(phase) for phase in self.phases)

    def steps_in(self, phase: Phase) -> int:
        """Steps of a phase: the nearest whole number to its epochs, at least one."""
        return max(1, round(phase.epochs * len(self.train)))

    @property
    def steps_of_epoch(self) -> int:
        """Batches of the present epoch: fewer than a whole one where the phase ends inside it."""
        left = self.steps_in(self.phase) - self.clock.epoch * len(self.train)
        return min(left, len(self.train))

    @property
    def time(self) -> float:
        """Epochs since the phase began."""
        return self.clock.epoch + self.clock.batch / len(self.train)

    @property
    def passes(self) -> int:
        """Passes over the data begun before this epoch, over all phases: the data's random numbers go by it."""
        before = self.phases[: self.clock.phase]
        return sum(-(-self.steps_in(p) // len(self.train)) for p in before) + self.clock.epoch

    @property
    def phase_over(self) -> bool:
        return self.clock.epoch * len(self.train) + self.clock.batch >= self.steps_in(self.phase)

    @property
    def finished(self) -> bool:
        return self.phase_over and self.phase is self.phases[-1]

    def advance(self) -> None:
        """Go from the end of an epoch to the beginning of the next, in the next phase where this one is over.

        An epoch that the last phase cuts short stays where it is, so that a longer run can go on from there.
        """
        if self.clock.batch == len(self.train):
            self.clock.epoch, self.clock.batch = self.clock.epoch + 1, 0
        if self.phase_over and self.phase is not self.phases[-1]:
            self.clock.phase, self.clock.epoch, self.clock.batch = self.clock.phase + 1, 0, 0

    def keep_best(self) -> bool:
        """Copy the weights where the last row of the history is the best so far; the last row where none can tell."""
        index = len(self.history) - 1
        chosen = self.history.best(self.metric)
        if chosen is not None and chosen != index:
            return False
        self.best = {"row": index, "model": snapshot(self.model), "averaged": snapshot(self.averaged)}
        return True

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as plain values and tensors (loads with weights_only)."""
        cuda = self.precision.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "clock": asdict(self.clock),
            "history": self.history.rows,
            "sums": distributed.whole(self.sums),
            "best": self.best,
            "processes": distributed.world(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state, generators included."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.clock = Clock(**state["clock"])
        self.history = History(state["history"])
        if distributed.rank() == 0:  # what all had summed counts once
            self.sums.load_state_dict(state["sums"])
        self.best = state["best"]
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if self.precision.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu())


def snapshot(model: nn.Module | None) -> dict[str, Tensor] | None:
    """A copy of a model's weights and buffers that training does not touch."""
    return None if model is None else {k: copy.deepcopy(v.detach()) for k, v in model.state_dict().items()}


Observers = Sequence[Observer]
