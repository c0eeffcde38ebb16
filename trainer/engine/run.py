"""A run: everything the loop works on, and everything a checkpoint holds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn

from trainer.architectures.layers import trainable_names, weight_layers
from trainer.duration import OUT_OF_TIME, show_seconds
from trainer.engine import distributed
from trainer.engine.alerts import Alerts
from trainer.engine.freezing import frozen_norms
from trainer.engine.guard import StepGuard, StepStart
from trainer.engine.info import Info
from trainer.engine.loader import Loader
from trainer.engine.loss_scale import LossScale
from trainer.engine.metrics import RunningMetrics
from trainer.engine.phases import Phase
from trainer.engine.random_state import device_state, set_device_state
from trainer.engine.state import Best, State, snapshot
from trainer.engine.time_budget import TimeBudget
from trainer.hardware import Precision
from trainer.history import History, has_finite_losses
from trainer.optimizers.param_groups import parameter_groups, portable

if TYPE_CHECKING:
    from trainer.averaging import Averaging
    from trainer.optimizers import Optimizer
    from trainer.regularizers import Chain
    from trainer.tasks.task import Task


class RecordedStep(Protocol):
    """A training step that is captured once and replayed, such as a CUDA graph."""

    def __call__(self, run: Run, x: Tensor, y: Tensor) -> None: ...
    def reset(self) -> None: ...


@dataclass
class Clock:
    """Time: the phase, the epoch within it, the steps done of that epoch; ``step`` counts over all phases."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0


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
    task: Task
    info: Info
    metric: str = "validation_accuracy"
    hyperparameters: Callable[[], Mapping[str, object]] = (
        dict  # what tells the run apart from others, for tables of runs
    )
    micro_batch: int | None = None
    folder: Path | None = None
    id: str = ""  # of the run in its directory; empty if it writes no files
    notes: list[str] = field(default_factory=list)  # what was chosen for the user, and why
    alert: Alerts = field(default_factory=Alerts)  # prints what cannot wait
    clock: Clock = field(default_factory=Clock)
    history: History = field(default_factory=History)
    best: Best | None = None
    interrupted: bool = False
    loss: Tensor | None = None  # of the last step, on the device: reading its value waits for the device
    outputs: Tensor | None = None
    batch: tuple[Tensor, Tensor] | None = None  # of the last step, as it went into the model
    grad_norm: Tensor | None = None  # of the last step before clipping; None without clipping
    wrapped: nn.Module | None = None  # the model with gradients that are averaged over all ranks
    capture: RecordedStep | None = None  # records and replays steps where this is possible
    lr: float = math.nan  # learning rate of the last step, before a group's ratio
    mean_lr: float = math.nan  # over the steps of the epoch so far
    suggested_lrs: dict[str, float] = field(default_factory=dict)  # by phase: what its LR range test suggested
    on_nan: Literal["stop", "skip", "rewind"] = "stop"
    diverged: str | None = None  # what has become NaN or Inf
    rewinds: int = 0  # how often the run has returned to the beginning of an epoch; each time halves the learning rate
    initial: dict[str, Tensor] | None = None  # weights before the first step, of a resumed run
    sane: State | None = None  # at the beginning of the epoch, to which the run can return
    step_start: StepStart | None = None  # where a step that does not fit into memory is repeated from
    budget: TimeBudget | None = None
    never_trained_norms: frozenset[str] = (
        frozenset()
    )  # names of the batch norms that the recipe freezes for the whole run
    shrunk: bool = False  # whether micro_batch is smaller than configured, for lack of memory

    def __post_init__(self) -> None:
        self.guard = StepGuard(self.precision.device) if self.on_nan == "skip" else None
        self.loss_scale = LossScale(self.precision.device) if self.precision.dtype is torch.float16 else None
        self.sums = RunningMetrics(self.task)
        self.averaged = self.averaging.build(self.model)
        self.never_trained = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        # Batch norms that keep their running statistics.
        self.frozen_norms = [m for name, m in self.model.named_modules() if name in self.never_trained_norms]
        if len(self.phases) > 1 or self.phase.trainable != "all" or self.phase.lr_ratio != 1:
            self.begin_phase()

    def begin_phase(self) -> None:
        """Make the parameters of the current phase trainable, with a new optimizer, and freeze the others."""
        phase = self.phase
        names = trainable_names(self.model, phase.trainable) - self.never_trained
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)
        self.frozen_norms = frozen_norms(self.model, phase, names, self.never_trained_norms)
        self.optimizer = self.optimizer_option.build(
            parameter_groups(weight_layers(self.model), self.optimizer_option, phase.lr_ratio)
        )
        if self.capture is not None:
            self.capture.reset()
        if self.wrapped is not None:
            self.wrapped = distributed.wrap(self.model, self.precision.device)

    @property
    def forward(self) -> nn.Module:
        """What a training step calls: the model or its distributed wrapper."""
        return self.model if self.wrapped is None else self.wrapped

    def train_mode(self) -> None:
        """Put the model into training mode, except for batch norms whose parameters are frozen."""
        self.model.train()
        for module in self.frozen_norms:
            module.eval()

    def peak_lr(self, phase: Phase) -> float:
        """The peak learning rate of a phase; the optimizer's if its LR range test is still to come."""
        own = self.suggested_lrs.get(phase.name) if phase.lr == "auto" else phase.lr
        return self.optimizer_option.lr if own is None else float(own)

    @property
    def momentum(self) -> float | None:
        """Momentum or beta_1 that the optimizer uses now; None if it has none."""
        group = self.optimizer.param_groups[0]
        return group.get("momentum", group.get("betas", (None,))[0])

    def stop_reason(self) -> str | None:
        """Why training ends before its epochs are over, if it does: for lack of time, or by a regularizer.

        For a regularizer only the rows of the last phase count: the others prepare it.
        """
        if self.budget is not None and self.budget.over and self.has_row:
            return f"{OUT_OF_TIME}{show_seconds(self.budget.limit)} is used up"
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
        """Steps of a phase: its epochs, rounded to whole steps, at least one."""
        return max(1, round(phase.epochs * len(self.train)))

    @property
    def steps_in_epoch(self) -> int:
        """Steps of the current epoch, fewer than a whole one if the phase ends within it."""
        return min(len(self.train), self.steps_in(self.phase) - self.clock.epoch * len(self.train))

    @property
    def time(self) -> float:
        """Epochs since the current phase began."""
        return self.clock.epoch + self.clock.batch / len(self.train)

    @property
    def data_epoch(self) -> int:
        """Passes over the data begun before this epoch, over all phases: it seeds the order and the augmentation."""
        before = self.phases[: self.clock.phase]
        return sum(-(-self.steps_in(p) // len(self.train)) for p in before) + self.clock.epoch

    @property
    def phase_over(self) -> bool:
        return self.clock.epoch * len(self.train) + self.clock.batch >= self.steps_in(self.phase)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is over and has its row: a run that stopped between the two still has to make the row."""
        return self.has_row and self.phase_over and self.phase is self.phases[-1]

    @property
    def has_row(self) -> bool:
        """Whether the last step is in the history."""
        return len(self.history) > 0 and self.history[-1]["step"] == self.clock.step

    def advance(self) -> None:
        """Move the clock from the end of an epoch to the beginning of the next one, in the next phase if this one is over.

        An incomplete epoch at the end of the last phase stays current, so that a longer run can continue it.
        """
        if self.clock.batch == len(self.train):
            self.clock.epoch, self.clock.batch = self.clock.epoch + 1, 0
        if self.phase_over and self.phase is not self.phases[-1]:
            self.clock.phase, self.clock.epoch, self.clock.batch = self.clock.phase + 1, 0, 0
            self.begin_phase()

    def keep_best(self) -> bool:
        """Copy the weights if the last row of the history is the best so far, or if no row has a value of the metric."""
        index = len(self.history) - 1
        best_row = self.history.best(self.metric)
        if self.diverged or not has_finite_losses(self.history[index]) or best_row not in (None, index):
            return False
        self.best = {"row": index, "model": snapshot(self.model), "averaged": snapshot(self.averaged)}
        if self.task.thresholds:
            self.best["thresholds"] = copy.deepcopy(self.task.thresholds)
        return True

    def state(self) -> State:
        """Everything that the rest of the run depends on, as plain values and tensors (loads with weights_only)."""
        device = self.precision.device
        state: State = {
            "model": self.model.state_dict(),
            "optimizer": portable(self.optimizer.state_dict()),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "clock": asdict(self.clock),
            "history": [row.copy() for row in self.history],
            "sums": distributed.all_reduced(self.sums),
            "task": self.task.state_dict(),
            "best": self.best,
            "rates": self.suggested_lrs,
            "lr": self.lr,
            "mean_lr": self.mean_lr,
            "processes": distributed.world_size(),
            "random": {"cpu": torch.get_rng_state(), "cuda": device_state(device) if device.type == "cuda" else None},
        }
        if device.type == "mps":
            state["random"]["mps"] = device_state(device)
        if self.loss_scale is not None:
            state["loss_scale"] = self.loss_scale.state_dict()
        if self.guard is not None:
            state["skipped"] = int(self.guard.skipped)
        if self.shrunk and self.micro_batch:
            state["micro_batch"] = self.micro_batch
        if self.budget is not None:
            state["spent"] = self.budget.spent
        if self.on_nan == "rewind":
            state["rewinds"], state["sane"] = self.rewinds, self.sane if self.clock.batch else None
        return state

    def load(self, state: State) -> None:
        """Restore a state, random number generators included."""
        phase_before, self.clock = self.clock.phase, Clock(**state["clock"])
        if self.clock.phase != phase_before:
            self.begin_phase()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.capture is not None:
            self.capture.reset()  # the optimizer's state is in other memory now
        self.suggested_lrs = dict(state.get("rates", {}))
        self.lr = state.get("lr", math.nan)  # needed for the row of an epoch that was interrupted after its last step
        self.mean_lr = state.get("mean_lr", math.nan)  # not known within an epoch begun by an earlier release
        if self.averaged is not None and state["averaged"] is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.history = History(state["history"])
        if distributed.rank() == 0:  # the sums of all ranks count once
            self.sums.load_state_dict(state["sums"])
        self.task.load_state_dict(state.get("task", {}))
        self.best, self.rewinds, self.sane = state["best"], state.get("rewinds", 0), state.get("sane")
        if "micro_batch" in state:
            self.micro_batch, self.shrunk, self.capture = max(1, int(state["micro_batch"])), True, None
        if self.loss_scale is not None and "loss_scale" in state:
            self.loss_scale.load_state_dict(state["loss_scale"])
        if self.budget is not None:
            self.budget.resume(state.get("spent", sum(self.history.column("seconds"))))
        if self.guard is not None:
            self.guard.skipped.fill_(state.get("skipped", 0))
        torch.set_rng_state(state["random"]["cpu"].cpu())
        device = self.precision.device
        set_device_state(device, state["random"].get("mps" if device.type == "mps" else "cuda"))
