"""Regression: one or several numbers per image, standardized by the training images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from trainer.tasks import losses
from trainer.tasks.options import Regression
from trainer.tasks.part import OwnLoss, Part, array, reduced
from trainer.tasks.predictions import Predictions


class NumbersPart(Part):
    """One or several numbers per image, see ``trainer.tasks.Regression``."""

    mask_per_value = True
    link = "identity"
    # The curvature of the squared error is that of cross-entropy times the squared size of the features: with outputs of a
    # tenth, learning rates that suit classification suit regression too. Without it, the default of SGD diverges.
    output_scale = 0.1
    option: Regression

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        option = self.option
        self.mean, self.std = (torch.tensor(v, device=self.device) for v in (self.spec.mean, self.spec.std))
        if isinstance(option.loss, dict):
            return OwnLoss(option.loss, self.spec)
        if option.loss == "huber":
            return partial(losses.huber, delta=0.5 if option.delta is None else option.delta)
        return losses.squared_error if option.loss == "mse" else losses.absolute_error

    @property
    def changes_with_pixels(self) -> bool:
        return self.option.geometry == "refuse"

    def encode(self, values: np.ndarray, train: bool) -> Tensor:
        standardized = (values - np.array(self.spec.mean)) / np.array(self.spec.std)
        return torch.as_tensor(np.nan_to_num(standardized).astype(np.float32))

    def running_sum(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        return reduced((outputs.float() - y).abs() * self.std, mask)

    def output_bias(self) -> list[float]:
        """Return 0, the standardized mean."""
        return [0.0] * self.size

    def guessing_loss(self) -> float:
        """Return the loss of predicting the mean of normally distributed numbers: 1 for the squared error."""
        levels = (torch.arange(1000) + 0.5) / 1000
        quantiles = cast(Tensor, torch.special.ndtri(levels))  # pyright: ignore[reportUnknownMemberType]
        sample = quantiles[:, None].expand(-1, self.size).to(self.device)
        return float(self.function(torch.zeros_like(sample), sample).mean())

    def is_memorized(self, value: float) -> bool:
        """Return whether the mean absolute error is below a tenth of the standard deviation."""
        return value < 0.1 * sum(self.spec.std) / self.size

    def predictions(self, outputs: Tensor, y: Tensor, mask: Tensor | None) -> Predictions:
        known = None if mask is None else mask.cpu().numpy()
        mean, std = np.array(self.spec.mean), np.array(self.spec.std)
        return Predictions("regression", self.classes, array(outputs) * std + mean, array(y) * std + mean, known)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.float() * self.std + self.mean
