"""All that a run is, with its state: what the loop works on, what observers look at, what a checkpoint holds."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from trainer.architectures.layers import trained, weight_layers
from trainer.engine import distributed
from trainer.engine.metrics import RunningMetrics
from trainer.hardware import Precision
from trainer.history import History
from trainer.optimizers.param_groups import parameter_groups, portable

if TYPE_CHECKING:
    from collections.abc import Generator

    from trainer.averaging import Averaging
    from trainer.optimizers import Optimizer
    from trainer.regularizers import Chain
    from trainer.schedules import Schedule


class Loader(Protocol):
    """Pictures on their way to the model: ``x (N, C, H, W)`` normalised, ``y (N, K)`` class probabilities."""

    num_images: int
    batch_size: int
    seed: int
    pipeline: Any

    def __len__(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]: ...
    def close(self) -> None: ...
    def images_in(self, batch: int) -> int: ...
    def weight(self, batch: int) -> float: ...


class Observer(Protocol):
    """What watches a run. It reads; with all observers removed not one bit of the result changes."""

    def on_fit_start(self, run: Run) -> None: ...
    def on_step_end(self, run: Run) -> None: ...
    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None: ...
    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Phase:
    """One stretch of a run: how long, by which schedule, what is trainable, and at which rates.

    ``trainable`` is ``all``, ``head`` or the share of the layers next to the head. ``lr`` is the head's peak rate: None takes
    the optimizer's, ``auto`` a range test's as the phase begins. ``span`` is the head's rate over the stem's: the layers
    between rise by equal factors.
    """

    name: str
    epochs: float
    schedule: Schedule
    trainable: Literal["all", "head"] | float = "all"
    lr: float | Literal["auto"] | None = None
    span: float = 1.0


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
class Run:
    """A run: its parts, its place in time, its history. ``state`` and ``load`` are exact inverses."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    optimizer_option: Optimizer
    phases: list[Phase]
    train: Loader
    validation: Loader | None
    test: Loader | None
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
    capture: Any = None  # records steps where they can be replayed
    lr: float = math.nan  # the rate of the last step, before a group's ratio
    snapshots: list[dict[str, Any]] = field(default_factory=list)  # what an observer saw in the layers; never saved
    facts: dict[str, Any] = field(default_factory=dict)  # what an observer found out about the data, for the diagnosis
    news: list[str] = field(default_factory=list)  # what cannot wait until the end: the console says it at once
    rates: dict[str, float] = field(default_factory=dict)  # by phase: what a range test at its beginning chose
    observers: list[Any] = field(default_factory=list)  # those that have begun, and so have something to end
    writers: dict[str, Any] = field(default_factory=dict)  # TensorBoard's, one a sub-run, shared by the observers

    def __post_init__(self) -> None:
        self.forward = self.forward or self.model
        self.sums = RunningMetrics(self.precision.device)
        self.averaged = self.averaging.build(self.model)
        self.fixed = {name for name, p in self.model.named_parameters() if not p.requires_grad}  # whatever the phase
        self.frozen: list[nn.Module] = []  # normalisations whose statistics stay
        if len(self.phases) > 1 or self.phase.trainable != "all" or self.phase.span != 1:
            self.enter()

    def enter(self) -> None:
        """Begin the present phase: its parameters become trainable, with an optimizer of their own, the others are frozen."""
        phase = self.phase
        names = trained(self.model, phase.trainable) - self.fixed
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)
        norms = [(name, m) for name, m in self.model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.frozen = [m for name, m in norms if phase.trainable != "all" and f"{name}.weight" not in names]
        self.optimizer = self.optimizer_option.build(
            parameter_groups(weight_layers(self.model), self.optimizer_option, phase.span)
        )
        if self.capture is not None:
            self.capture.forget()
        if self.forward is not self.model:
            self.forward = distributed.wrap(self.model, self.precision.device)

    def train_mode(self) -> None:
        """Training mode, but for batch norms whose parameters are frozen: these keep their statistics."""
        self.model.train()
        for module in self.frozen:
            module.eval()

    def rate_of(self, phase: Phase) -> float:
        """The peak rate of a phase; of one whose range test is still to come, the optimizer's."""
        own = self.rates.get(phase.name) if phase.lr == "auto" else phase.lr
        return self.optimizer_option.lr if own is None else float(own)

    @property
    def rate(self) -> float:
        """The peak rate of the present phase."""
        return self.rate_of(self.phase)

    def stop_reason(self) -> str | None:
        """Why a regularizer ends training: it looks at the last phase alone, because those before it prepare it."""
        if self.phase is not self.phases[-1]:
            return None
        return self.regularizer.stop(History([row for row in self.history.rows if row["phase"] == self.phase.name]))

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
        """Whether the last epoch is over with its row: a run stopped between the two has the row to make."""
        described = bool(self.history.rows) and self.history[-1]["step"] == self.clock.step
        return described and self.phase_over and self.phase is self.phases[-1]

    def advance(self) -> None:
        """Go from the end of an epoch to the beginning of the next, in the next phase where this one is over.

        An epoch that the last phase cuts short stays where it is, so that a longer run can go on from there.
        """
        if self.clock.batch == len(self.train):
            self.clock.epoch, self.clock.batch = self.clock.epoch + 1, 0
        if self.phase_over and self.phase is not self.phases[-1]:
            self.clock.phase, self.clock.epoch, self.clock.batch = self.clock.phase + 1, 0, 0
            self.enter()

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
            "optimizer": portable(self.optimizer.state_dict()),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "clock": asdict(self.clock),
            "history": self.history.rows,
            "sums": distributed.all_reduced(self.sums),
            "best": self.best,
            "rates": self.rates,
            "lr": self.lr,
            "processes": distributed.world_size(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state, generators included."""
        before, self.clock = self.clock.phase, Clock(**state["clock"])
        if self.clock.phase != before:
            self.enter()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.capture is not None:
            self.capture.forget()  # the optimizer's state lies elsewhere now
        self.rates = dict(state.get("rates", {}))
        self.lr = state.get("lr", math.nan)  # the row of an epoch that was interrupted behind its last step says it
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
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
