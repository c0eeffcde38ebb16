"""Augmentation: random changes of the training pictures that leave their classes alone.

An option is written once and works in two ways that draw from one distribution: through albumentations, a picture at
a time (``albumentations``), and by tensor operations on a whole resident batch (``matrices`` or ``batch``).
Shape in = shape out. Nothing here imports torch or albumentations before a picture is to be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.augmentation.transforms import Affine, Geometric, Shape, Transform
from trainer.errors import check

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Flip(Transform):
    """Mirrors left and right. Refused on data whose classes it changes (digits, letters) unless ``force``."""

    p: float = 0.5
    force: bool = False
    changes_classes: ClassVar[bool] = True

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.flip(self.p, vertical=False)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        from trainer.augmentation.functional import flip_batch, on

        return flip_batch(x, on(x, rng.random(len(x)) < self.p), dim=3)


@dataclass(frozen=True, kw_only=True)
class VerticalFlip(Flip):
    """Mirrors top and bottom. Refused on data whose classes it changes (digits, letters) unless ``force``."""

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.flip(self.p, vertical=True)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        from trainer.augmentation.functional import flip_batch, on

        return flip_batch(x, on(x, rng.random(len(x)) < self.p), dim=2)


@dataclass(frozen=True, kw_only=True)
class Crop(Geometric):
    """Pads each side by ``padding`` pixels and cuts a window of the old size out at a random place (He 2015).

    The same as a shift by up to ``padding`` whole pixels, each equally likely. 0 leaves the picture as it is.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, padding=(self.padding >= 0, "must be >= 0 pixels"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.crop(self.padding, shape, self.fill, self.p)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        import numpy as np

        from trainer.augmentation.functional import crop_batch, on

        starts = rng.integers(0, 2 * self.padding + 1, (2, len(x)))
        if self.p < 1:
            starts = np.where(rng.random(len(x)) < self.p, starts, self.padding)
        top, left = on(x, starts)
        return crop_batch(x, top, left, self.padding, self.fill)


@dataclass(frozen=True, kw_only=True)
class Rotation(Affine):
    """Turns by an angle drawn evenly from -``degrees`` to ``degrees``, about the centre. 180 is any direction."""

    degrees: float = 15.0

    def bounds(self) -> dict[str, tuple[float, float]]:
        return {"degrees": (0, 180.0001)}

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.affine(self.fill, self.p, rotate=(-self.degrees, self.degrees))

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        from trainer.augmentation.affine import rotations

        return rotations(rng.uniform(-self.degrees, self.degrees, n), size)


@dataclass(frozen=True, kw_only=True)
class Scale(Affine):
    """Enlarges by a factor drawn evenly from ``factor``, about the centre; below 1 it shrinks, and ``fill`` shows."""

    factor: tuple[float, float] = (0.9, 1.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, factor=(0 < self.factor[0] <= self.factor[1], "must be [low, high] with 0 < low <= high"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.affine(self.fill, self.p, scale=self.factor, keep_ratio=True)

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        from trainer.augmentation.affine import scalings

        return scalings(rng.uniform(*self.factor, n), size)


@dataclass(frozen=True, kw_only=True)
class Translation(Affine):
    """Shifts by whole pixels, each shift of up to round(``share`` · side) equally likely, in x and in y."""

    share: float = 0.1

    def bounds(self) -> dict[str, tuple[float, float]]:
        return {"share": (0, 1)}

    def reach(self, size: tuple[int, int]) -> tuple[int, int]:
        """The largest shift in x and in y, in pixels."""
        return round(self.share * size[1]), round(self.share * size[0])

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        x, y = self.reach(shape[1:])
        return library.affine(self.fill, self.p, translate_px={"x": (-x, x), "y": (-y, y)})

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        from trainer.augmentation.affine import translations

        x, y = (rng.integers(-reach, reach + 1, n) for reach in self.reach(size))
        return translations(x, y)


@dataclass(frozen=True, kw_only=True)
class Shear(Affine):
    """Slants by angles drawn evenly from -``degrees`` to ``degrees``, along x and along y, about the centre."""

    degrees: float = 10.0

    def bounds(self) -> dict[str, tuple[float, float]]:
        return {"degrees": (0, 45)}

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        limits = (-self.degrees, self.degrees)
        return library.affine(self.fill, self.p, shear={"x": limits, "y": limits})

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        from trainer.augmentation.affine import shearings

        x, y = rng.uniform(-self.degrees, self.degrees, (2, n))
        return shearings(x, y, size)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Transform):
    """Adds to each value of each pixel a number from a normal distribution with the deviation 255 · ``std``."""

    std: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, std=(0 <= self.std <= 1, "must be from 0 to 1 (a share of the full range)"))

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.gaussian_noise(self.std, self.p)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        from trainer.augmentation.functional import noise_batch, on

        seed, chosen = int(rng.integers(2**63)), rng.random(len(x)) < self.p
        return noise_batch(x, on(x, 255.0 * self.std * chosen), seed)


@dataclass(frozen=True, kw_only=True)
class BrightnessContrast(Transform):
    """Illumination: v becomes α v + 255 β, α from 1 ± ``contrast`` and β from ± ``brightness``, one each a picture."""

    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self,
            brightness=(0 <= self.brightness <= 1, "must be from 0 to 1"),
            contrast=(0 <= self.contrast <= 1, "must be from 0 to 1"),
        )

    def albumentations(self, shape: Shape) -> Any:
        from trainer.augmentation import albumentations as library

        return library.brightness_contrast(self.brightness, self.contrast, self.p)

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        from trainer.augmentation.functional import adjust_batch, on

        chosen = rng.random(len(x)) < self.p
        α = 1.0 + rng.uniform(-self.contrast, self.contrast, len(x)) * chosen
        β = rng.uniform(-self.brightness, self.brightness, len(x)) * chosen
        return adjust_batch(x, on(x, α), on(x, 255.0 * β))
