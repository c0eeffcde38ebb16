"""Policies as albumentations transforms: of a set of operations some are drawn for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

from trainer.augmentation.albumentations import Parameters, affine
from trainer.augmentation.options import AugMix, RandAugment, TrivialAugment
from trainer.augmentation.transforms import Shape

Limits = tuple[float, float]
Operation = A.BasicTransform | A.BaseCompose


def uniform(make: Callable[[Limits], A.BasicTransform], limit: float) -> Operation:
    """Return an operation of a strength drawn uniformly from ±``limit``."""
    return make((-limit, limit))


def either(make: Callable[[Limits], A.BasicTransform], limit: float) -> Operation:
    """Return an operation of strength ``limit``, of either sign."""
    return A.OneOf([make((limit, limit)), make((-limit, -limit))], p=1.0)


Signed = Callable[[Callable[[Limits], A.BasicTransform], float], Operation]


def geometric(fill: str, signed: Signed, shear: float, shift: tuple[int, int], degrees: float) -> list[Operation]:
    """Return shear along x and y, translation along x and y, and rotation.

    Args:
        fill: Padding mode.
        signed: How strengths are drawn.
        shear: Maximum shear angle, in degrees.
        shift: Maximum shift in x and in y, in pixels.
        degrees: Maximum angle of rotation.
    """

    def along(axis: str, name: str) -> Callable[[Limits], A.BasicTransform]:
        def make(limits: Limits) -> A.BasicTransform:
            if name == "shear":
                return affine(fill, 1.0, shear={"x": (0.0, 0.0), "y": (0.0, 0.0)} | {axis: limits})
            low, high = map(round, limits)
            return affine(fill, 1.0, translate_px={"x": (0, 0), "y": (0, 0)} | {axis: (low, high)})

        return make

    return [
        signed(along("x", "shear"), shear),
        signed(along("y", "shear"), shear),
        signed(along("x", "translation"), shift[0]),
        signed(along("y", "translation"), shift[1]),
        signed(lambda limits: affine(fill, 1.0, rotate=limits), degrees),
    ]


def photometric(signed: Signed, change: float) -> list[Operation]:
    """Return brightness, contrast, color and sharpness, by a factor 1 ± ``change``."""
    identity = (1.0, 1.0)

    def jitter(name: str) -> Callable[[Limits], A.BasicTransform]:
        def make(limits: Limits) -> A.BasicTransform:
            factors = {"brightness": identity, "contrast": identity, "saturation": identity}
            return A.ColorJitter(**factors | {name: (1 + limits[0], 1 + limits[1])}, hue=(0, 0), p=1.0)

        return make

    return [
        *(signed(jitter(name), change) for name in ("brightness", "contrast", "saturation")),
        signed(Sharpness, change),
    ]


def trivial_augment(option: TrivialAugment, shape: Shape) -> A.OneOf:
    """The fourteen operations of the wide search space, one of which is drawn."""
    shift = min(32, shape[2] - 1), min(32, shape[1] - 1)
    operations = [
        A.NoOp(p=1.0),
        *geometric(option.fill, uniform, math.degrees(math.atan(0.99)), shift, 135),
        *photometric(uniform, 0.99),
        A.Posterize(num_bits=(2, 8), p=1.0),
        A.Solarize(threshold_range=(0.0, 1.0), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
    ]
    return A.OneOf(operations, p=option.p)


def rand_augment(option: RandAugment, shape: Shape) -> A.Sequential:
    """The fourteen operations at one strength, several of which are drawn, with replacement."""
    m = option.magnitude / 30
    shift = round(0.45 * m * shape[2]), round(0.45 * m * shape[1])
    bits = 8 - round(4 * m)

    def one() -> A.OneOf:
        operations = [
            A.NoOp(p=1.0),
            *geometric(option.fill, either, math.degrees(math.atan(0.3 * m)), shift, 30 * m),
            *photometric(either, 0.9 * m),
            A.Posterize(num_bits=(bits, bits), p=1.0),
            A.Solarize(threshold_range=(1 - m, 1 - m), p=1.0),
            A.AutoContrast(p=1.0),
            A.Equalize(p=1.0),
        ]
        return A.OneOf(operations, p=1.0)

    return A.Sequential([one() for _ in range(option.operations)], p=option.p)


def augmix(option: AugMix, shape: Shape) -> Mixture:
    """The nine operations of the paper, in chains that are mixed."""
    m = option.severity / 10
    shift = round(shape[2] / 3 * m), round(shape[1] / 3 * m)
    operations = [
        *geometric(option.fill, uniform, math.degrees(math.atan(0.3 * m)), shift, 30 * m),
        A.Posterize(num_bits=(4 - round(3 * m), 4), p=1.0),
        A.Solarize(threshold_range=(1 - m, 1.0), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
    ]
    return Mixture(operations, option)


class Mixture(A.BaseCompose):
    """Mixes an image with chains of operations, see ``AugMix``."""

    def __init__(self, transforms: Sequence[Operation], option: AugMix) -> None:
        super().__init__(list(transforms), p=option.p)
        self.option = option

    def __call__(self, *args: object, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        if not (force_apply or self.py_random.random() < self.p):
            return data
        image, option = data["image"], self.option
        weights = self.random_generator.dirichlet([option.alpha] * option.width)
        m = self.random_generator.beta(option.alpha, option.alpha)
        mixed = (1 - m) * image.astype(np.float32)
        for weight in weights:
            mixed += m * weight * self._chain(image).reshape(image.shape)
        return data | {"image": np.clip(np.rint(mixed), 0, 255).astype(np.uint8)}

    def _chain(self, image: np.ndarray) -> np.ndarray:
        for _ in range(self.random_generator.integers(1, self.option.depth + 1)):
            operation = self.transforms[self.random_generator.integers(len(self.transforms))]
            image = operation(image=image, force_apply=True)["image"]
        return image


class Sharpness(A.ImageOnlyTransform):
    """f v + (1 - f) smooth(v), with f uniform in 1 + ``limits``: below 1 it blurs, above it sharpens (PIL's ``Sharpness``)."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(p=1.0)
        self.limits = limits

    def get_params(self) -> Parameters:
        return {"factor": 1.0 + self.py_random.uniform(*self.limits)}

    def apply(self, img: np.ndarray, factor: float, **params: object) -> np.ndarray:
        smooth = cv2.filter2D(img, -1, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13).reshape(img.shape)
        result = img.copy()  # PIL leaves the outermost pixels as they are
        if min(img.shape[:2]) > 2:
            inside = np.s_[1:-1, 1:-1]
            result[inside] = cv2.addWeighted(img, factor, smooth, 1 - factor, 0).reshape(img.shape)[inside]
        return result
