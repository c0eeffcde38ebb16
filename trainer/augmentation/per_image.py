"""The per-image form: albumentations changes one image at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from trainer.augmentation.transforms import AnyTransform, Shape, Transform

if TYPE_CHECKING:
    from albumentations import Compose


class PipelineState(TypedDict):
    """What is pickled of a pipeline."""

    transforms: list[AnyTransform]
    shape: Shape


class PerImagePipeline:
    """Augments lists of images: ``pipeline(images, rng)`` is a function of the images and of the state of ``rng``.

    Images are uint8 (H, W, C). albumentations repeats its random numbers in every worker, so it is seeded for every
    list, which takes as long as one image. Small to pickle; may be called from several threads at once.
    """

    def __init__(self, transforms: Sequence[AnyTransform], shape: Shape) -> None:
        self.transforms, self.shape = list(transforms), shape
        self._local = threading.local()

    @property
    def resizes(self) -> bool:
        """Whether images may have any size: the first transform resizes them to the shape."""
        first = self.transforms[0] if self.transforms else None
        return isinstance(first, Transform) and first.resizes

    def __call__(self, images: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        compose = self._compose()
        seed, python_seed = (int(s) for s in rng.integers(2**63, size=2))
        # not set_random_seed, which gives every transform a generator of the same seed, so that their decisions agree
        compose.set_random_state(np.random.default_rng(seed), random.Random(python_seed))
        return [augmented(compose, image) for image in images]

    def _compose(self) -> Compose:
        """This thread's albumentations pipeline, which is stateful."""
        if not hasattr(self._local, "compose"):
            from trainer.augmentation.albumentations import compose  # takes 1 s and is not needed for batches

            self._local.compose = compose(self.transforms, self.shape)
        return self._local.compose

    def __getstate__(self) -> PipelineState:
        return {"transforms": self.transforms, "shape": self.shape}

    def __setstate__(self, state: PipelineState) -> None:
        self.__init__(**state)


def augmented(compose: Compose, image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) changed, contiguous; albumentations drops the channel dimension of grayscale images."""
    result = compose(image=image)["image"]
    return np.ascontiguousarray(result if result.ndim == 3 else result[:, :, None])
