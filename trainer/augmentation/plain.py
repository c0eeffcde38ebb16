"""A function or class of the user, or a transform of torchvision, as an augmentation."""

from __future__ import annotations

import dataclasses
import random
import threading
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trainer.augmentation.transforms import Shape, Transform
from trainer.errors import ConfigError, Problem
from trainer.plain import Plain

if TYPE_CHECKING:
    from albumentations import BasicTransform
    from torch import Tensor

ONE_AT_A_TIME = threading.Lock()  # torch's generator on the CPU is that of all threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTransform(Transform):
    """A callable on one image, uint8 (C, H, W), that returns one of the same shape and type, such as those of torchvision.

    It may draw from the generators of torch and numpy and from ``random``, which are seeded for each image.
    """

    plain: Plain
    moves_pixels: ClassVar[bool] = True  # what it does is not known

    @property
    def __name__(self) -> str:
        return self.plain.name

    def changed(self, image: Tensor, seed: int) -> Tensor:
        """Return the image changed; the same for the same seed, whatever the generators' state, which stays as it is."""
        import torch

        with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
            states = np.random.get_state(), random.getstate()
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            try:
                result = self.plain.object()(image)
            finally:
                np.random.set_state(states[0])
                random.setstate(states[1])
        if not isinstance(result, torch.Tensor) or result.shape != image.shape:
            found = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
            text = f"{self.plain.name} returned {found} for an image of {tuple(image.shape)}: the shape must stay"
            raise ConfigError(Problem("augmentation", self.plain.name, text))
        return result if result.dtype == torch.uint8 else result.round().clamp(0, 255).to(torch.uint8)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        import torch

        seeds, chosen = rng.integers(2**63, size=len(x)), rng.random(len(x)) < self.p
        images = x.round().clamp(0, 255).to(torch.uint8) if x.is_floating_point() else x.clone()
        for i in np.flatnonzero(chosen).tolist():
            images[i] = self.changed(images[i].cpu().contiguous(), int(seeds[i])).to(images.device)
        return images

    def albumentations(self, shape: Shape) -> BasicTransform:
        from trainer.augmentation.albumentations import Changed

        return Changed(self.changed, self.p)


def adapted(plain: Plain) -> ImageTransform:
    """Return a transform that calls what the config describes on each image."""
    return ImageTransform(plain=plain, **plain.settings)
