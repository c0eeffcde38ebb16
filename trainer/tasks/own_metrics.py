"""Metrics of the user: functions of outputs and targets, or objects with the interface of torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, SupportsFloat, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from trainer.construct import locate
from trainer.errors import ConfigError, Problem, first_line
from trainer.plain import Plain, is_open
from trainer.tasks.predictions import Predictions
from trainer.trust import NotTrusted


@runtime_checkable
class Updated(Protocol):
    """The interface of torchmetrics."""

    def update(self, outputs: Tensor, targets: Tensor, /) -> object: ...
    def compute(self) -> object: ...
    def reset(self) -> object: ...


class OwnMetric:
    """A metric of the user's, of all images of a split at once.

    Args:
        table: The class or function under ``_target_``, and its arguments.
        num_outputs: Number of outputs of the task; passed as ``num_classes`` to what takes it.
        key: Of the table in the config, for errors.

    Raises:
        ConfigError: It cannot be made, or it does not return one number of outputs and targets.
    """

    def __init__(self, table: Mapping[str, object], num_outputs: int, key: str) -> None:
        self.path, self.key = str(table["_target_"]), f"{key}._target_"
        arguments = {k: v for k, v in table.items() if k != "_target_"}
        try:
            target = locate(self.path, "metric")
            partial = not isinstance(target, type) and is_open(target, arguments)
        except NotTrusted as error:
            raise ConfigError(Problem(self.key, self.path, str(error), error.hint)) from None
        except ImportError as error:
            raise ConfigError(Problem(self.key, self.path, f"cannot be imported: {error}")) from None
        except (TypeError, ValueError):
            text = "is not a class or function with a known signature"
            raise ConfigError(Problem(self.key, self.path, text)) from None
        self.object = adapted(Plain(target, arguments, {}, partial, key), num_outputs)

    def __call__(self, predictions: Predictions) -> float:
        """Return its value; NaN without images, and where outputs are NaN.

        Outputs are logits (N, K), or numbers in original units (N, T), in float32; targets are classes (N,), labels (N, K) of
        zeros and ones, or numbers in original units (N, T). An image of which a label or number is missing is left out. Random
        numbers that it draws are not those of training.
        """
        complete = predictions.known.all(1)
        if not complete.any() or not predictions.valid:
            return math.nan
        numbers = predictions.kind == "regression"
        outputs = torch.as_tensor(predictions.scores[complete]).float()
        targets = torch.as_tensor(predictions.truth[complete])
        targets = targets.float() if numbers else targets.long()
        generator = torch.get_rng_state()
        try:
            with torch.inference_mode(False), torch.no_grad():
                return as_number(self.object(outputs.clone(), targets.clone()))
        except Exception as error:  # whatever the user's class raises
            shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
            text = f"fails with {shapes}: {first_line(error)}"
            raise ConfigError(Problem(self.key, self.path, text, "docs/own_components.md, metric")) from None
        finally:
            torch.set_rng_state(generator)


class Accumulated:
    """A metric that is updated with outputs and targets, and computed of all it has seen, as those of torchmetrics are."""

    def __init__(self, metric: Updated) -> None:
        self.metric = metric

    def __call__(self, outputs: Tensor, targets: Tensor) -> object:
        self.metric.reset()
        self.metric.update(outputs, targets)
        value = self.metric.compute()
        self.metric.reset()  # it may keep all outputs
        return value


def adapted(plain: Plain, num_outputs: int) -> Callable[[Tensor, Tensor], object]:
    """Return a function of outputs and targets from what the config describes."""
    made: object = plain.object(num_classes=num_outputs)
    if isinstance(made, Updated):
        return Accumulated(made)
    if not callable(made):
        text = "must be a function metric(outputs, targets), or have the methods update, compute and reset"
        raise ConfigError(Problem(f"{plain.key}._target_", plain.name, text))
    return made


def as_number(value: object) -> float:
    """Return one number, also of an array or tensor of one; ValueError for something else.

    >>> as_number(torch.tensor([0.5])), as_number(np.float32(0.25)), as_number(True)
    (0.5, 0.25, 1.0)
    >>> as_number(torch.zeros(3))
    Traceback (most recent call last):
    ValueError: it must return one number, not Tensor of shape (3,)
    """
    shape = tuple(getattr(value, "shape", ()))
    if not isinstance(value, SupportsFloat) or math.prod(shape) != 1:
        of_shape = f" of shape {shape}" if shape else ""
        raise ValueError(f"it must return one number, not {type(value).__name__}{of_shape}")
    item = getattr(value, "item", None)  # of an array or a tensor, which may have dimensions
    return float(value if item is None else item())


def examples(kind: str, classes: tuple[str, ...]) -> Predictions:
    """Return outputs and targets to try a metric with: each class twice, each label and number with two values.

    >>> examples("classification", ("a", "b")).truth.tolist(), examples("multilabel", ("a",)).truth.tolist()
    ([0, 1, 0, 1], [[1.0], [0.0]])
    """
    k = len(classes)
    eye = np.eye(k)
    if kind == "classification":
        return Predictions("classification", classes, np.concatenate([eye, 2 * eye]) - 0.5, np.tile(np.arange(k), 2))
    truth = np.concatenate([eye, 1 - eye])
    return Predictions("multilabel" if kind == "multilabel" else "regression", classes, 3 * truth - 1, truth)
