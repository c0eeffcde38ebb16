"""The interface of regularizers, and several of them as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trainer.history import History

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Setup:
    """What the requirements of a regularizer depend on.

    Attributes:
        batch_size: Images per step, of one process.
        validation: Whether there is a validation split.
        shape: Of an image, (C, H, W).
    """

    batch_size: int
    validation: bool
    shape: tuple[int, int, int]


class TaskInfo(Protocol):
    """What a regularizer may ask of the task."""

    @property
    def main_metric(self) -> str:
        """The column of the history that selects the best epoch with ``metric=auto``."""
        ...

    @property
    def has_labels(self) -> bool:
        """Whether some of its targets are classes or labels."""
        ...

    def smooth(self, y: Tensor, eps: float, form: str) -> Tensor:
        """Return targets (N, D) of which those of classes are smoothed."""
        ...


class Regularizer:
    """The four places in which a regularizer may act; a place that it does not override does nothing."""

    @property
    def watched_metric(self) -> str | None:
        """The column of the history that the regularizer depends on; ``auto`` = of the task."""
        return None

    def model(self, model: nn.Module) -> nn.Module:
        """Return the model to be trained, before training."""
        return model

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W) and targets (N, D) to be trained on, for each batch."""
        return x, y

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        """Return a term that is added to the loss, for each batch; None = 0."""
        return None

    def stop(self, history: History) -> str | None:
        """Return why training should stop, after each epoch; None = continue."""
        return None

    def needs(self, setup: Setup) -> list[str]:
        """Return the requirements that are not met, in words."""
        return []

    def for_task(self, task: TaskInfo) -> Regularizer:
        """Return what acts in the same way on the targets and metrics of a task."""
        return self

    def for_inference(self) -> Regularizer:
        """Return what changes the model in the same way, but needs nothing else that only training has."""
        return self


class Chain(Regularizer):
    """Several regularizers as one, by name; they act in the given order.

    Attributes:
        on_batch: The regularizers that act on a batch.
        on_loss: Those that add a penalty to the loss.
    """

    def __init__(self, regularizers: dict[str, Regularizer]) -> None:
        self.regularizers = list(regularizers.values())
        self.on_batch = [r for r in self.regularizers if type(r).batch is not Regularizer.batch]
        self.on_loss = [r for r in self.regularizers if type(r).penalty is not Regularizer.penalty]

    @property
    def acts_on_batch(self) -> bool:
        return bool(self.on_batch)

    @property
    def acts_on_loss(self) -> bool:
        return bool(self.on_loss)

    def model(self, model: nn.Module) -> nn.Module:
        for regularizer in self.regularizers:
            model = regularizer.model(model)
        return model

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        for regularizer in self.on_batch:
            x, y = regularizer.batch(x, y)
        return x, y

    def penalty(self, model: nn.Module, outputs: Tensor) -> Tensor | None:
        penalties = [p for regularizer in self.on_loss if (p := regularizer.penalty(model, outputs)) is not None]
        return sum(penalties[1:], penalties[0]) if penalties else None

    def stop(self, history: History) -> str | None:
        return next((reason for regularizer in self.regularizers if (reason := regularizer.stop(history))), None)
