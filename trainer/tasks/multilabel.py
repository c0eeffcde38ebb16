"""Multi-label classification: any number of labels per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from trainer.tasks import losses
from trainer.tasks.classification import weights_by_name
from trainer.tasks.options import Multilabel
from trainer.tasks.part import OwnLoss, Part, array, reduced
from trainer.tasks.predictions import Predictions

MAX_POSITIVE_WEIGHT = 20.0  # of a label with few positives
MIN_POSITIVES = 20  # of a label, to choose a threshold of its own
RATES = (1e-3, 1 - 1e-3)  # limits of a label's frequency in the initial bias


def best_threshold(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Return the threshold that maximizes F1, midway between two of the probabilities; 0.5 if there are no positives.

    >>> best_threshold(np.array([0.1, 0.2, 0.6, 0.8]), np.array([False, True, True, True]))
    0.15
    """
    if not positive.any() or not np.isfinite(probabilities).all():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    sorted_p, hits = probabilities[order], np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + positive.sum())
    last_of_equal = np.append(sorted_p[1:] != sorted_p[:-1], True)
    best = int(np.argmax(np.where(last_of_equal, f1, -1.0)))
    below = sorted_p[best + 1] if best + 1 < len(order) else 0.0
    return round(float(sorted_p[best] + below) / 2, 6)


class LabelsPart(Part):
    """Any number of labels per image, see ``trainer.tasks.Multilabel``."""

    mask_per_value = True
    link = "sigmoid"
    option: Multilabel

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        option = self.option
        if isinstance(option.loss, dict):
            return OwnLoss(option.loss, self.spec)
        positive = self._positive_weights()
        if option.loss == "bce":
            return partial(losses.multilabel_bce, positive=positive)
        return partial(
            losses.asymmetric,
            gamma_positive=1.0 if option.gamma_positive is None else option.gamma_positive,
            gamma_negative=4.0 if option.gamma_negative is None else option.gamma_negative,
            clip=0.05 if option.clip is None else option.clip,
            positive=positive,
        )

    @property
    def known(self) -> Sequence[float]:
        """Number of training images of which each label is known; checkpoints of earlier releases hold their mean alone."""
        return self.spec.known or [self.spec.images * self.spec.labelled] * self.size

    def _positive_weights(self) -> Tensor | float:
        kind = self.option.class_weights
        if kind == "none":
            return 1.0
        if kind != "balanced":
            return torch.tensor(weights_by_name(kind, self.classes), device=self.device)
        counts = zip(self.known, self.spec.counts, strict=True)
        ratios = [(known - n) / n if n else MAX_POSITIVE_WEIGHT for known, n in counts]
        return torch.tensor([min(r, MAX_POSITIVE_WEIGHT) for r in ratios], device=self.device)

    def encode(self, values: np.ndarray, train: bool) -> Tensor:
        return torch.as_tensor(np.nan_to_num(values).astype(np.float32))

    def running_sum(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return reduced(((outputs >= 0) == (y > 0.5)).float(), mask)

    @property
    def thresholds(self) -> list[float]:
        """The probability from which each label is predicted."""
        given = self.option.thresholds
        return self.spec.thresholds if given == "validation" else [given] * self.size

    def predictions(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Predictions:
        known = None if mask is None else mask.cpu().numpy()
        thresholds = np.array(self.thresholds)
        return Predictions("multilabel", self.classes, array(outputs), array(y), known, thresholds)

    def fitted_thresholds(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> list[float]:
        """Return the thresholds that maximize F1 on these images; of a label with few positives, that of all labels together."""
        with np.errstate(all="ignore"):  # a network that has diverged has NaN outputs
            found = self.predictions(outputs, y, mask)
            found.probabilities  # noqa: B018  # computed here
        together = best_threshold(found.probabilities[found.known], found.positive[found.known])
        return [
            best_threshold(found.probabilities[known, k], found.positive[known, k])
            if found.positive[known, k].sum() >= MIN_POSITIVES
            else together
            for k, known in enumerate(found.known.T)
        ]

    def output_bias(self) -> list[float]:
        """Return logit p of each label's frequency p."""
        counts = zip(self.known, self.spec.counts, strict=True)
        rates = [min(max(n / known if known else 0.0, RATES[0]), RATES[1]) for known, n in counts]
        return [math.log(p / (1 - p)) for p in rates]

    def class_weights(self) -> list[float] | None:
        weights = self._positive_weights()
        return list(map(float, weights)) if isinstance(weights, Tensor) else None

    def guessing_loss(self) -> float:
        outputs = torch.tensor([self.output_bias()], device=self.device)
        rates = outputs.sigmoid()
        with_label, without = (self.function(outputs, y) for y in (torch.ones_like(rates), torch.zeros_like(rates)))
        return float((rates * with_label + (1 - rates) * without).mean())

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()

    def smooth(self, y: Tensor, eps: float, form: str) -> Tensor:
        """Return y·(1 − eps) + eps/2: each label is one of two classes."""
        return y * (1 - eps) + eps / 2
