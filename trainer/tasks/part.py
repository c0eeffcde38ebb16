"""One task on the device: the form of its targets, its loss, its running metric, and what it predicts."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from trainer.construct import locate
from trainer.data.images import Images
from trainer.data.targets import Target, is_missing
from trainer.errors import ConfigError, Problem, first_line
from trainer.formats import Link
from trainer.plain import constructing
from trainer.tasks.metrics import check, columns, compute
from trainer.tasks.options import LossTable, SingleTask
from trainer.tasks.own_metrics import OwnMetric, examples
from trainer.tasks.predictions import Predictions
from trainer.tasks.spec import PartSpec
from trainer.trust import NotTrusted

COUNTED = 1 - 1e-5  # value of a mask from which on a label counts: mixed with a missing label it is less than 1


class Part(ABC):
    """One task: where its outputs and its targets are, and what is computed of them.

    The outputs of all tasks are columns of one tensor (N, O), their targets columns of another one (N, D): the values and, where
    labels may be missing, a mask that is 1 where there is a label. Mixing images mixes all these columns; an image
    counts only if all images that it is mixed from have a label.

    Args:
        option: The option of the config.
        spec: What is known of the target.
        begin: First column of its outputs.
        values_begin: First column of its targets.
        device: Where tensors are kept.
    """

    has_classes: ClassVar[bool] = False
    mask_per_value: ClassVar[bool] = False
    output_scale: ClassVar[float] = 1.0  # factor of the network's outputs
    link: Link = "softmax"  # how outputs become probabilities, or numbers

    def __init__(
        self, option: SingleTask, spec: PartSpec, begin: int, values_begin: int, device: torch.device | str = "cpu"
    ) -> None:
        self.option, self.spec, self.device = option, spec, torch.device(device)
        self.size = len(spec.classes)
        self.outputs = slice(begin, begin + self.size)
        self.values = slice(values_begin, values_begin + self.size)
        width = (self.size if self.mask_per_value else 1) if spec.masked else 0
        self.mask = slice(self.values.stop, self.values.stop + width)
        self.function = self._loss_function()
        problems = [Problem("metrics", *p) for p in check(spec.kind, option.further, spec.classes)]
        taken = ("loss", option.running_metric, *columns(spec.kind, option.further, self.classes))
        text = "has the column of another metric"
        problems += [
            Problem("own_metrics", name, text, "another name") for name in option.own_metrics or () if name in taken
        ]
        if problems:
            raise ConfigError(*problems)

    @property
    def name(self) -> str:
        """The prefix of its columns; empty for a single task."""
        return self.spec.name

    @property
    def key(self) -> str:
        """The place of its option in the config."""
        return f"task.tasks.{self.name}" if self.name else "task"

    @cached_property
    def own_metrics(self) -> dict[str, OwnMetric]:
        """The user's metrics by name, made when they are needed; ConfigError for one that does not work."""
        made = {
            name: OwnMetric(table, self.size, f"{self.key}.own_metrics.{name}")
            for name, table in (self.option.own_metrics or {}).items()
        }
        for metric in made.values():
            metric(examples(self.spec.kind, self.classes))
        return made

    @property
    def changes_with_pixels(self) -> bool:
        """Whether its targets may change where pixels are moved."""
        return False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, labels or numbers."""
        return self.spec.classes

    def column(self, metric: str) -> str:
        """Return the name of a metric in the history, without the split.

        >>> from trainer.tasks import Classification
        >>> spec = PartSpec("digit", "digit", "classification", ("0", "1"), 10, (5, 5))
        >>> from trainer.tasks.build import part_of
        >>> part_of(Classification(), spec).column("accuracy")
        'digit_accuracy'
        """
        return f"{self.name}_{metric}" if self.name else metric

    @abstractmethod
    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss: from outputs and targets (N, K) to one value per image (N,) or per output (N, K)."""

    @abstractmethod
    def encode(self, values: np.ndarray, train: bool) -> Tensor:
        """Return the targets (N, K) of raw values, zero where they are missing; class weights are included if ``train``."""

    def encode_columns(self, images: Images, train: bool) -> Tensor:
        """Return the columns of its targets (N, K) and, where labels may be missing, of the mask, for all images."""
        values = images.target(self.spec.target)
        encoded = self.encode(values, train)
        if not self.spec.masked:
            return encoded
        target = Target(self.spec.target, self.spec.kind, self.classes)
        present = torch.as_tensor(~is_missing(target, values)).float()
        return torch.cat((encoded, present.view(len(values), -1)), 1)

    @abstractmethod
    def running_sum(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sum of the running metric over the images of a batch."""

    @abstractmethod
    def output_bias(self) -> list[float]:
        """Return the bias of the outputs that predicts best without the image."""

    @abstractmethod
    def guessing_loss(self) -> float:
        """Return the training loss of the prediction that does not depend on the image."""

    def is_memorized(self, value: float) -> bool:
        """Return whether this value of the running metric says that all training labels are predicted."""
        return value == 1.0

    def class_weights(self) -> list[float] | None:
        """Return the weight of each class, or of the positives of each label, in the training loss; None = all equal."""
        return None

    def chance_loss(self) -> float:
        """Return the loss of outputs that do not depend on the image, where classes are taken to be equally frequent."""
        return self.guessing_loss()

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Return probabilities (N, K), or numbers in original units (N, K), of the task's own outputs."""

    def further_columns(self) -> list[str]:
        """Return the names of the metrics that need the outputs of a whole split."""
        return [*columns(self.spec.kind, self.option.further, self.classes), *(self.option.own_metrics or ())]

    def evaluate(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> dict[str, float]:
        """Return these metrics of all images of a split, from the task's own columns."""
        with np.errstate(all="ignore"):  # a network that has diverged has NaN metrics
            predictions = self.predictions(outputs, y, mask)
            values = compute(self.option.further, predictions)
            return values | {name: metric(predictions) for name, metric in self.own_metrics.items()}

    @abstractmethod
    def predictions(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Predictions:
        """Return what metrics are computed of, from the task's own columns."""

    def smooth(self, y: Tensor, eps: float, form: str) -> Tensor:
        """Return smoothed targets (N, K); numbers stay as they are."""
        return y

    def select(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the task's own outputs and targets (N, K), and the mask (N, 1) or (N, K); None = all labels are there."""
        mask = y[:, self.mask] > COUNTED if self.spec.masked else None
        return self.own(outputs), y if y.shape[1] == self.size else y[:, self.values], mask

    def own(self, outputs: Tensor) -> Tensor:
        """Return the task's own outputs (N, K) of all outputs (N, O)."""
        own = outputs if outputs.shape[1] == self.size else outputs[:, self.outputs]
        return own if self.output_scale == 1 else own.float() * self.output_scale

    def per_image(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        """Return the loss of each image (N,) from the task's own columns, zero where labels are missing."""
        values = self.function(outputs, y)
        if mask is not None:
            values = torch.where(mask if values.ndim == 2 else mask.all(1), values, 0.0)
        return values.mean(1) if values.ndim == 2 else values

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss over the images of a batch (N, O), (N, D).

        It is divided by the fraction of the training labels that are there, not by those of the batch: the mean over parts
        of a batch is thus the mean over the whole batch, whatever is missing in each part.
        """
        loss = self.per_image(*self.select(outputs, y)).mean()
        return loss if not self.spec.masked else loss / self.spec.labelled


def array(values: Tensor) -> np.ndarray:
    """Return a tensor as float64 array."""
    return values.detach().cpu().double().numpy()


def reduced(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the sum over images of the mean over outputs (N, K), with zero where the mask is False."""
    return (values if mask is None else torch.where(mask, values, 0.0)).mean(1).sum()


class OwnLoss:
    """A loss of the user's: called with outputs and targets, it returns a value per image or per output, or their mean.

    Args:
        loss: The class, or a function, under ``_target_``, and its arguments.
        spec: What is known of the target.
    """

    def __init__(self, loss: LossTable, spec: PartSpec) -> None:
        self.path, self.masked = str(loss["_target_"]), spec.masked
        arguments = {k: v for k, v in loss.items() if k != "_target_"}
        try:
            target = locate(self.path, "loss")
        except NotTrusted as error:
            raise ConfigError(Problem("loss._target_", self.path, str(error), error.hint)) from None
        except ImportError as error:
            raise ConfigError(Problem("loss._target_", self.path, f"cannot be imported: {error}")) from None
        with constructing("loss", target, arguments):
            made = target(**arguments) if inspect.isclass(target) else partial(target, **arguments)
        self.function = cast("Callable[..., Tensor]", made)
        self._try(len(spec.classes))

    def _try(self, size: int) -> None:
        """Refuse what cannot be called with outputs and targets, or returns something else than losses."""
        outputs, y = torch.zeros(2, size), torch.eye(2, size)
        try:
            value = cast(object, copy.deepcopy(self.function)(outputs, y))
        except Exception as error:  # whatever the user's class raises
            text = f"cannot be called with outputs and targets, each (N, {size}): {first_line(error)}"
            raise ConfigError(Problem("loss._target_", self.path, text)) from None
        if not isinstance(value, Tensor) or value.shape not in ((), (2,), (2, size)):
            returned = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            text = f"must return a loss per image (N,) or per output (N, {size}), or their mean; of 2 images it is {returned}"
            raise ConfigError(Problem("loss._target_", self.path, text))

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        value: Tensor = self.function(outputs.float(), y)
        if value.ndim == 0:
            if self.masked:
                text = (
                    "returns a mean, but some labels are missing: it must return one value per image (reduction='none')"
                )
                raise ConfigError(Problem("task.loss", self.path, text))
            return value.expand(len(y))
        return value
