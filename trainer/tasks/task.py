"""A task: the outputs of a network, the targets they are compared with, losses and metrics. The loop knows nothing of labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from trainer.data.images import Images
from trainer.formats import JsonObject, Row
from trainer.history import History
from trainer.tasks.classification import ClassPart
from trainer.tasks.history_columns import history_columns, possible_columns
from trainer.tasks.multilabel import LabelsPart
from trainer.tasks.multitask_options import Multitask
from trainer.tasks.part import Part
from trainer.tasks.sharing import Sharing, last_shared_weight
from trainer.tasks.weighting import KINDS

Thresholds = dict[str, dict[str, list[float]]]  # by weights, model or averaged, and by task


class TaskState(TypedDict, total=False):
    """What a checkpoint holds of a task: the state of the weights of several losses, and the thresholds of labels."""

    weighting: dict[str, Tensor]
    thresholds: Thresholds


class Losses(NamedTuple):
    """What the outputs of a batch cost: the objective that is minimized, the loss that is reported, and that of each task."""

    objective: Tensor
    reported: Tensor
    parts: tuple[Tensor, ...]

    def detach(self) -> Losses:
        """Return the values alone, cut from the graph."""
        if self.reported is self.objective:  # a single task
            loss = self.objective.detach()
            return Losses(loss, loss, (loss,))
        return Losses(self.objective.detach(), self.reported.detach(), tuple(loss.detach() for loss in self.parts))


class Task:
    """What is learned from the labels.

    Args:
        parts: The tasks that it consists of; one, without a name, unless several are learned at once.
        option: How several tasks are combined; None for a single one.
        device: Where its tensors are kept.
    """

    def __init__(
        self, parts: Sequence[Part], option: Multitask | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.parts, self.option, self.device = tuple(parts), option, torch.device(device)
        self.weighting = None if option is None else KINDS[option.weighting](option, self.parts, self.device)
        self.sharing = Sharing(option) if option is not None and option.sharing == "soft" else None
        self.thresholds: Thresholds = {}
        # The sums of each task: loss, running metric and, where labels are missing, their number.
        ends = list(accumulate(3 if part.spec.masked else 2 for part in self.parts))
        self.sums = [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    # What it needs of a network

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the network, over all tasks."""
        return sum(part.size for part in self.parts)

    def networks(self) -> dict[str, tuple[Part, ...]]:
        """Return the tasks of each network: all of them in one, or with soft sharing one in each."""
        return {"": self.parts} if self.sharing is None else {part.name: (part,) for part in self.parts}

    @property
    def main(self) -> Part | None:
        """The main one of several tasks; None without one."""
        return next((part for part in self.parts if self.option is not None and part.name == self.option.main), None)

    @property
    def class_part(self) -> Part | None:
        """The main task if it has classes, else the first one that has."""
        parts = self.parts if self.main is None else (self.main, *self.parts)
        return next((part for part in parts if part.has_classes), None)

    @property
    def has_labels(self) -> bool:
        """Whether some of its targets are classes or labels, not numbers."""
        return any(part.spec.kind != "regression" for part in self.parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the first task that has classes; without one, of the first task's labels or numbers."""
        return (self.class_part or self.parts[0]).classes

    def chance_loss(self) -> float:
        """Return the loss of a network that does not look at the image, and takes all classes for equally likely."""
        return sum(part.spec.weight * part.chance_loss() for part in self.parts)

    # Targets

    def encode(self, images: Images, train: bool) -> tuple[Tensor, Tensor]:
        """Return a table of targets (R, D) and the row of each image in it (N,), on the device.

        Args:
            images: One split.
            train: Whether class weights are included.
        """
        part = self.parts[0]
        if len(self.parts) == 1 and isinstance(part, ClassPart) and not part.spec.masked:
            table, rows = part.rows(train)[: part.size], torch.as_tensor(images.target(part.spec.target))
        else:
            table = torch.cat([part.encode_columns(images, train) for part in self.parts], 1)
            rows = torch.arange(len(images))
        return table.to(self.device), rows.to(self.device)

    def smooth(self, y: Tensor, eps: float, form: str) -> Tensor:
        """Return targets (N, D) of which those of classes are smoothed, see ``trainer.regularizers.LabelSmoothing``."""
        if len(self.parts) == 1 and y.shape[1] == self.parts[0].size:
            return self.parts[0].smooth(y, eps, form)
        columns = ((part.smooth(y[:, part.values], eps, form), y[:, part.mask]) for part in self.parts)
        return torch.cat([column for pair in columns for column in pair], 1)

    # Loss

    def loss(self, outputs: Tensor, y: Tensor) -> Losses:
        """Return the losses of outputs (N, O) and targets (N, D)."""
        if self.weighting is None:
            loss = self.parts[0].loss(outputs, y)
            return Losses(loss, loss, (loss,))
        parts = tuple(part.loss(outputs, y) for part in self.parts)
        stacked = torch.stack(parts)
        return Losses(self.weighting.objective(stacked), self.weighting.reported(stacked), parts)

    @property
    def learns_weights(self) -> bool:
        """Whether the weights of the losses change during training."""
        return self.weighting is not None and self.weighting.learned

    def measure(self, losses: Losses, model: nn.Module) -> None:
        """Let the weighting see the losses of a (micro-)batch, before its backward pass."""
        if self.weighting is not None and self.learns_weights:
            shared = last_shared_weight(model) if self.weighting.needs_gradients else None
            self.weighting.measure(torch.stack(losses.parts), shared)

    def step(self) -> None:
        """Update the weights of the losses after an update of the network."""
        if self.weighting is not None:
            self.weighting.step()

    def end_epoch(self, row: Row) -> None:
        """Update the weights of the losses after an epoch, whose row of the history is given."""
        if self.weighting is not None:
            history = History([row])
            self.weighting.end_epoch([history.column(f"train_{part.column('loss')}")[0] for part in self.parts])

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what soft sharing adds to the objective; None = nothing."""
        return None if self.sharing is None else self.sharing.penalty(model)

    # Metrics, as sums on the device

    def add(self, totals: Sequence[Tensor], losses: Losses, outputs: Tensor, y: Tensor) -> None:
        """Add a batch to the sums, each a tensor of its own: its losses, outputs (N, O) and targets (N, D)."""
        count = y.shape[0]
        for part, sums, loss in zip(self.parts, self.sums, losses.parts, strict=True):
            own, targets, mask = part.select(outputs, y)
            if mask is None:
                totals[sums.start].add_(loss, alpha=count)
            else:
                totals[sums.start].add_(loss, alpha=count * part.spec.labelled)
                totals[sums.start + 2].add_(mask.float().mean(1).sum())
            totals[sums.start + 1].add_(part.running_sum(own, targets, mask))

    def means(self, totals: list[float], count: int) -> dict[str, float]:
        """Return the mean ``loss`` and running metric over ``count`` images; of several tasks, the ``loss`` and those of each.

        They are NaN for a task of which no image has a label; ``loss`` is the sum over the others.
        """
        values: dict[str, float] = {}
        weighted: list[float] = []
        for part, sums in zip(self.parts, self.sums, strict=True):
            loss, metric, *labels = totals[sums]
            n = labels[0] if labels else max(count, 1)
            loss, metric = (loss / n, metric / n) if n else (math.nan, math.nan)
            values |= {part.column("loss"): loss, part.column(part.option.running_metric): metric}
            weighted += [part.spec.weight * loss] if n else []
        if self.option is None:
            return values
        return {"loss": sum(weighted) if weighted else math.nan, **values}

    def is_memorized(self, metrics: Mapping[str, float]) -> bool:
        """Return whether metrics of the training images say that all their labels are predicted."""
        return all(part.is_memorized(metrics[part.column(part.option.running_metric)]) for part in self.parts)

    @property
    def main_metric(self) -> str:
        """The column of the history that selects the best epoch with ``metric=auto``."""
        part = self.parts[0] if self.option is None else self.main
        return "validation_loss" if part is None else f"validation_{part.column(part.option.main_metric)}"

    def history_columns(self, averaged: bool) -> tuple[str, ...]:
        """Return the columns of the history that hold metrics, see ``SingleTask.columns``."""
        running = tuple(self.means([0.0] * self.sums[-1].stop, 1))
        return history_columns(running, [p.column(name) for p in self.parts for name in p.further_columns()], averaged)

    def possible_columns(self) -> tuple[str, ...]:
        """Return the columns that the history has if the config names them."""
        return tuple(column for p in self.parts for column in possible_columns(p.spec.kind, p.name))

    @property
    def further_metrics(self) -> bool:
        """Whether there are metrics that need the outputs of all images of a split."""
        return any(part.further_columns() for part in self.parts)

    def evaluate(self, outputs: Tensor, y: Tensor) -> dict[str, float]:
        """Return the further metrics of all images of a split: outputs (N, O), targets (N, D)."""
        values: dict[str, float] = {}
        for part in self.parts:
            if part.further_columns():
                scores = part.evaluate(*part.select(outputs, y))
                values |= {part.column(name): value for name, value in scores.items()}
        return values

    def fit_thresholds(self, weights: str, outputs: Tensor, y: Tensor) -> None:
        """Choose the thresholds of labels on the outputs of all validation images.

        Args:
            weights: Whose outputs these are, ``model`` or ``averaged``: each has thresholds of its own.
            outputs: (N, O).
            y: Targets (N, D).
        """
        parts = [part for part in self.parts if isinstance(part, LabelsPart) and part.option.thresholds == "validation"]
        if parts:
            self.thresholds[weights] = {p.name: p.fitted_thresholds(*p.select(outputs, y)) for p in parts}
            self.use_thresholds(weights)

    def use_thresholds(self, weights: str) -> None:
        """Predict labels with the thresholds of the ``model`` or the ``averaged`` weights from now on."""
        for part in self.parts:
            part.spec.thresholds = self.thresholds.get(weights, {}).get(part.name, part.spec.thresholds)

    def columns(self) -> dict[str, float]:
        """Return what is of interest in an epoch's row besides metrics: the weights of the losses, where they are learned."""
        if self.weighting is None or not self.learns_weights:
            return {}
        return {f"weight_{p.name}": float(w) for p, w in zip(self.parts, self.weighting.weights, strict=True)}

    # The state that a checkpoint holds

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a step may change: those of the weighting."""
        return [] if self.weighting is None else [v for v in vars(self.weighting).values() if isinstance(v, Tensor)]

    def state_dict(self) -> TaskState:
        """Return the state of the weighting, and the thresholds of labels."""
        state = TaskState()
        if self.weighting is not None:
            state["weighting"] = self.weighting.state_dict()
        if self.thresholds:
            state["thresholds"] = copy.deepcopy(self.thresholds)
        return state

    def load_state_dict(self, state: TaskState) -> None:
        """Restore the state."""
        self.thresholds = copy.deepcopy(state.get("thresholds", {}))
        if self.weighting is not None:
            self.weighting.load_state_dict(state.get("weighting", {}))

    def as_tuple(self) -> tuple[JsonObject, ...]:
        """Return what is known of the targets as plain values, for a checkpoint."""
        return tuple(part.spec.as_dict() for part in self.parts)
