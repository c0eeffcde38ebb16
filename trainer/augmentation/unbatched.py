"""Augmentations that have no batched form: a picture at a time, in workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.augmentation.transforms import Geometric, Shape, Transform
from trainer.errors import check


@dataclass(frozen=True, kw_only=True)
class Perspective(Geometric):
    """Looks at a picture aslant: each corner moves in by |normal(0, s)| of a side, s evenly from 0 to ``strength``."""

    strength: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, strength=(0 <= self.strength <= 0.3, "must be from 0 to 0.3"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.perspective(self.strength, self.fill, self.p)


@dataclass(frozen=True, kw_only=True)
class Elastic(Geometric):
    """Elastic deformation (Simard 2003): a pixel moves by ``alpha`` · even noise in [-1, 1], blurred with ``sigma``.

    That is by about 0.16 alpha/sigma pixels, in the corners four times as much. 0 for ``alpha`` leaves the picture as
    it is. Simard has 34 for 29 x 29 pixels, with which corners fold over.
    """

    alpha: float = 20.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, alpha=(self.alpha >= 0, "must be >= 0"), sigma=(self.sigma >= 1, "must be >= 1 pixel"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.elastic(self.alpha, self.sigma, self.fill, self.p)


@dataclass(frozen=True, kw_only=True)
class Blur(Transform):
    """Gaussian blur with a deviation drawn evenly from ``sigma``, in pixels (as in SimCLR, Chen 2020)."""

    p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, sigma=(0 < self.sigma[0] <= self.sigma[1], "must be [low, high] with 0 < low <= high"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.blur(self.sigma, self.p)


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(Transform):
    """Cuts a window of a random share ``scale`` of the area and a random ``ratio`` of width to height, and resizes it.

    Szegedy 2014 (arXiv:1409.4842). As the first of a list it takes pictures of any size.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333)
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            scale=(0 < self.scale[0] <= self.scale[1] <= 1, "must be [low, high] with 0 < low <= high <= 1"),
            ratio=(0 < self.ratio[0] <= self.ratio[1], "must be [low, high] with 0 < low <= high"),
            p=(self.p == 1, "must be 1: pictures that are not cut would keep their size"),
        )

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.random_resized_crop(self.scale, self.ratio, shape)


@dataclass(frozen=True, kw_only=True)
class TrivialAugment(Geometric):
    """One operation, drawn evenly out of fourteen, with a random strength (Müller & Hutter 2021, arXiv:2103.10158).

    The wide search space: identity, shear x and y (±0.99), translate x and y (±32 pixels, at most the side), rotate
    (±135°), brightness, contrast, colour, sharpness (±0.99), posterize (2 to 8 bits), solarize, autocontrast, equalize.
    Colour changes nothing on grey pictures.
    """

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.trivial_augment(shape, self.fill, self.p)
