"""The workers' way: albumentations, a picture at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.augmentation.transforms import Shape


class PerImagePipeline:
    """Augments lists of pictures: ``pipeline(images, rng)`` is a function of the images and of the state of ``rng``.

    Images are uint8 (H, W, C). albumentations repeats its random numbers in every worker, so it is seeded for every
    list, which costs a picture's worth of time. Small to pickle; may be called from several threads at once.
    """

    def __init__(self, transforms: Sequence[Any], shape: Shape) -> None:
        self.transforms, self.shape = list(transforms), shape
        self._local = threading.local()

    @property
    def resizes(self) -> bool:
        """Whether it takes pictures of any size: its first transform brings them to the shape."""
        return bool(self.transforms) and getattr(self.transforms[0], "resizes", False)

    def __call__(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        if not hasattr(self._local, "compose"):
            from trainer.augmentation.albumentations import compose

            self._local.compose = compose(self.transforms, self.shape)
        seed, other = (int(s) for s in rng.integers(2**63, size=2))
        # not set_random_seed, which gives every transform a generator of the same seed, so that all decide alike
        self._local.compose.set_random_state(np.random.default_rng(seed), random.Random(other))
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> np.ndarray:
        found = self._local.compose(image=image)["image"]
        return np.ascontiguousarray(found if found.ndim == 3 else found[:, :, None])

    def __getstate__(self) -> dict[str, Any]:
        return {"transforms": self.transforms, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)
