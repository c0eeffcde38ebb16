"""What a checkpoint says about data and config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.data.identity import DataIdentity
from trainer.formats import JsonObject

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Info:
    """What a checkpoint says about data and config, so that it can be used without the run directory."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: JsonObject
    targets: tuple[JsonObject, ...] = ()  # of the task, see trainer.tasks.spec; () in checkpoints of earlier releases
    data: DataIdentity = field(default_factory=lambda: DataIdentity())  # empty in checkpoints of earlier releases

    def denormalized(self, images: Tensor) -> np.ndarray:
        """Normalized images (N, C, H, W) as (N, H, W, C) in [0, 1]."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images.cpu().float() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
