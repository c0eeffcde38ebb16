"""Classification: one class per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.data.targets import MISSING_CLASS
from trainer.errors import ConfigError, Problem, nearest
from trainer.hardware import accumulator_dtype
from trainer.regularizers.functional import smooth_labels
from trainer.tasks import losses
from trainer.tasks.class_weights import balanced, effective_number, normalized
from trainer.tasks.options import Classification, Weights
from trainer.tasks.part import OwnLoss, Part, array
from trainer.tasks.predictions import Predictions

MIN_PRIOR = 1e-6  # of a class without training images, whose log prior would be infinite


class ClassPart(Part):
    """One class per image, see ``trainer.tasks.Classification``."""

    has_classes = True
    option: Classification

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        option = self.option
        self.link = "sigmoid" if option.loss == "bce" else "softmax"
        self.weights = weights_of_classes(option, self.spec.counts, self.classes)
        if isinstance(option.loss, dict):
            return OwnLoss(option.loss, self.spec)
        if option.loss == "focal":
            return partial(losses.focal, gamma=2.0 if option.gamma is None else option.gamma)
        if option.loss == "poly1":
            return partial(losses.poly1, epsilon=1.0 if option.epsilon is None else option.epsilon)
        return losses.cross_entropy if option.loss == "cross_entropy" else losses.binary_cross_entropy

    def rows(self, train: bool) -> Tensor:
        """Return the target of each class (K + 1, K), and as the last row, of zeros, that of a missing label."""
        rows = torch.eye(self.size + 1, self.size)
        if train and self.weights is not None:
            rows[: self.size] *= torch.tensor(self.weights)[:, None]
        return rows

    def encode(self, values: np.ndarray, train: bool) -> Tensor:
        return self.rows(train)[torch.as_tensor(np.where(values == MISSING_CLASS, self.size, values))]

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.function is losses.cross_entropy and not self.spec.masked:
            own, targets, _ = self.select(outputs, y)
            return F.cross_entropy(own.float(), targets)  # loss and mean in one operation
        return super().loss(outputs, y)

    def running_sum(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        correct = outputs.argmax(1) == y.argmax(1)
        return (correct if mask is None else correct & mask[:, 0]).sum()

    def prior(self) -> list[float]:
        """Return the fractions of the classes in the training loss, class weights included."""
        weighted = [n * w for n, w in zip(self.spec.counts, self.weights or [1.0] * self.size, strict=True)]
        return [w / sum(weighted) for w in weighted]

    def output_bias(self) -> list[float]:
        """Return log p of the classes, or logit p where each has a sigmoid."""
        prior = [max(p, MIN_PRIOR) for p in self.prior()]
        if self.option.loss == "bce":
            return [math.log(p / max(1 - p, MIN_PRIOR)) for p in prior]
        return [math.log(p) for p in prior]

    def guessing_loss(self) -> float:
        outputs = torch.tensor([self.output_bias()]).expand(self.size, -1)
        return float((torch.tensor(self.prior()) * self.function(outputs, torch.eye(self.size))).sum())

    def class_weights(self) -> list[float] | None:
        return self.weights

    def chance_loss(self) -> float:
        return float(self.function(torch.zeros(self.size, self.size), torch.eye(self.size)).mean())

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid() if self.link == "sigmoid" else outputs.float().softmax(1)

    def predictions(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Predictions:
        known = slice(None) if mask is None else mask[:, 0].cpu().numpy()
        scores, truth = array(outputs)[known], y.argmax(1).cpu().numpy()[known]
        return Predictions("classification", self.classes, scores, truth, link=self.link)

    def smooth(self, y: Tensor, eps: float, form: str) -> Tensor:
        """Return targets of which a part is distributed over the other classes (``others``) or over all of them (``all``)."""
        plain = self.weights is None and not self.spec.masked
        return smooth_labels(y, eps, form, 1.0 if plain else y.sum(1, keepdim=True))


def of_labelled_images(part: Part, outputs: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits (n, K), whose softmax are the probabilities, classes (n,) and indices (n,) of the images with a label.

    Args:
        part: A task with classes.
        outputs: Its own (N, K).
        y: Its own targets (N, K).
        mask: Which images have a label (N, 1); None = all.
    """
    known = torch.arange(len(y), device=y.device) if mask is None else mask[:, 0].nonzero()[:, 0]
    own = outputs if part.link == "softmax" else F.logsigmoid(outputs.to(accumulator_dtype(outputs.device)))
    return own[known], y.argmax(1)[known], known


def weights_of_classes(option: Classification, counts: Sequence[int], classes: tuple[str, ...]) -> list[float] | None:
    """Return the class weights, whose mean over the training images is 1; None = all equal."""
    kind = option.class_weights
    if kind == "none":
        return None
    if kind == "balanced":
        return balanced(counts)
    if kind == "effective_number":
        return effective_number(counts, 0.999 if option.beta is None else option.beta)
    weights = normalized(weights_by_name(kind, classes), counts)
    if not any(weights):
        raise ConfigError(Problem("class_weights", kind, "must have a weight > 0 for a class with training images"))
    return weights


def weights_by_name(weights: Weights, classes: tuple[str, ...]) -> list[float]:
    """Return one weight per class from a list in their order or a table by their names.

    >>> weights_by_name({"dog": 2.0}, ("cat", "dog"))
    [1.0, 2.0]

    Raises:
        ConfigError: The list has another length, or the table names an unknown class.
    """
    if isinstance(weights, dict):
        for name in weights:
            if name not in classes:
                shown = ", ".join(classes[:10])
                raise ConfigError(
                    Problem(f"class_weights.{name}", weights[name], f"classes are {shown}", nearest(name, classes))
                )
        return [float(weights.get(name, 1.0)) for name in classes]
    if len(weights) != len(classes):
        text = f"must hold {len(classes)} weights, one per class: {', '.join(classes[:10])}"
        raise ConfigError(Problem("class_weights", list(weights), text))
    return list(map(float, weights))
