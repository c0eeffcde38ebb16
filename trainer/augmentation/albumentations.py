"""The options as albumentations transforms: the only module that imports albumentations when it is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks PyPI for the latest version

import albumentations as A
import cv2
import numpy as np

from trainer.augmentation.affine import chain_matrices
from trainer.augmentation.options import (
    Blur,
    BrightnessContrast,
    Crop,
    Elastic,
    Flip,
    GaussianNoise,
    Perspective,
    RandomResizedCrop,
    Rotation,
    Scale,
    Shear,
    Translation,
    TrivialAugment,
    VerticalFlip,
)
from trainer.augmentation.transforms import Affine, AnyTransform, Shape, Transform, chains

BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}

Parameters = dict[str, Any]  # the random numbers of one image, and the data of albumentations' transforms


def compose(transforms: Sequence[AnyTransform], shape: Shape) -> A.Compose:
    """Return one pipeline of all; a third-party transform is constructed with the arguments from the config."""
    steps: list[A.BasicTransform | A.BaseCompose] = []
    for chain in chains(transforms):
        if len(chain) > 1:
            steps.append(Warp([t for t in chain if isinstance(t, Affine)]))
        elif isinstance(chain[0], Transform):
            steps.append(chain[0].albumentations(shape))
        else:
            steps.append(chain[0].target(**chain[0].arguments))
    return A.Compose(steps)


class Warp(A.ImageOnlyTransform):
    """Several affine transforms, resampled once by the product of their matrices."""

    def __init__(self, chain: Sequence[Affine]) -> None:
        super().__init__(p=1.0)
        self.chain, self.border = list(chain), BORDERS[chain[0].fill]

    def get_params_dependent_on_data(self, params: Parameters, data: Parameters) -> Parameters:
        return {"matrix": chain_matrices(self.chain, self.random_generator, 1, params["shape"][:2])[0, :2]}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **params: object) -> np.ndarray:
        warped = cv2.warpAffine(img, matrix, img.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=self.border)
        return warped.reshape(img.shape)


class Noise(A.ImageOnlyTransform):
    """Gaussian noise, rounded; A.GaussNoise truncates, which makes it 3 % weaker, and has only 65,536 seeds."""

    def __init__(self, std: float, p: float) -> None:
        super().__init__(p=p)
        self.std = std

    def get_params_dependent_on_data(self, params: Parameters, data: Parameters) -> Parameters:
        return {"noise": self.random_generator.standard_normal(params["shape"], np.float32) * (255 * self.std)}

    def apply(self, img: np.ndarray, noise: np.ndarray, **params: object) -> np.ndarray:
        return np.clip(np.rint(noise + img), 0, 255).astype(np.uint8)


def flip(option: Flip, shape: Shape) -> A.BasicTransform:
    return A.HorizontalFlip(p=option.p)


def vertical_flip(option: VerticalFlip, shape: Shape) -> A.BasicTransform:
    return A.VerticalFlip(p=option.p)


def crop(option: Crop, shape: Shape) -> A.Sequential:
    pad = A.Pad(option.padding, border_mode=BORDERS[option.fill], p=1.0)
    return A.Sequential([pad, A.RandomCrop(shape[1], shape[2], p=1.0)], p=option.p)


def rotation(option: Rotation, shape: Shape) -> A.Affine:
    return affine(option.fill, option.p, rotate=(-option.degrees, option.degrees))


def scaling(option: Scale, shape: Shape) -> A.Affine:
    return affine(option.fill, option.p, scale=option.factor, keep_ratio=True)


def translation(option: Translation, shape: Shape) -> A.Affine:
    x, y = option.max_shift(shape[1:])
    return affine(option.fill, option.p, translate_px={"x": (-x, x), "y": (-y, y)})


def shear(option: Shear, shape: Shape) -> A.Affine:
    limits = (-option.degrees, option.degrees)
    return affine(option.fill, option.p, shear={"x": limits, "y": limits})


class AffineParameters(TypedDict, total=False):
    """Parameters of ``albumentations.Affine``."""

    rotate: tuple[float, float]
    scale: tuple[float, float]
    keep_ratio: bool
    translate_px: dict[str, int | tuple[int, int]]
    shear: dict[str, float | tuple[float, float]]


def affine(fill: str, p: float, **parameters: Unpack[AffineParameters]) -> A.Affine:
    return A.Affine(**parameters, interpolation=cv2.INTER_LINEAR, border_mode=BORDERS[fill], p=p)


def gaussian_noise(option: GaussianNoise, shape: Shape) -> A.BasicTransform:
    return Noise(option.std, option.p)


def brightness_contrast(option: BrightnessContrast, shape: Shape) -> A.BasicTransform:
    return A.RandomBrightnessContrast(option.brightness, option.contrast, p=option.p)


def perspective(option: Perspective, shape: Shape) -> A.BasicTransform:
    scale, border = (0.0, option.strength), BORDERS[option.fill]
    return A.Perspective(scale=scale, border_mode=border, interpolation=cv2.INTER_LINEAR, p=option.p)


def elastic(option: Elastic, shape: Shape) -> A.BasicTransform:
    border = BORDERS[option.fill]
    return A.ElasticTransform(option.alpha, option.sigma, border_mode=border, noise_distribution="uniform", p=option.p)


def blur(option: Blur, shape: Shape) -> A.BasicTransform:
    return A.GaussianBlur(blur_limit=0, sigma_limit=option.sigma, p=option.p)  # 0: a kernel as wide as sigma needs


def random_resized_crop(option: RandomResizedCrop, shape: Shape) -> A.BasicTransform:
    return A.RandomResizedCrop(
        size=shape[1:], scale=option.scale, ratio=option.ratio, interpolation=cv2.INTER_LINEAR,
        area_for_downscale="image", p=1.0,
    )  # fmt: skip


def trivial_augment(option: TrivialAugment, shape: Shape) -> A.OneOf:
    """The fourteen operations of the wide search space, one of which is drawn."""
    angle = math.degrees(math.atan(0.99))
    x, y = min(32, shape[2] - 1), min(32, shape[1] - 1)
    factor, identity = (0.01, 1.99), (1.0, 1.0)

    def jitter(**changed: tuple[float, float]) -> A.BasicTransform:
        limits = {"brightness": identity, "contrast": identity, "saturation": identity} | changed
        return A.ColorJitter(**limits, hue=(0, 0), p=1.0)

    operations = [
        A.NoOp(p=1.0),
        affine(option.fill, 1.0, shear={"x": (-angle, angle), "y": (0, 0)}),
        affine(option.fill, 1.0, shear={"x": (0, 0), "y": (-angle, angle)}),
        affine(option.fill, 1.0, translate_px={"x": (-x, x), "y": (0, 0)}),
        affine(option.fill, 1.0, translate_px={"x": (0, 0), "y": (-y, y)}),
        affine(option.fill, 1.0, rotate=(-135, 135)),
        jitter(brightness=factor),
        jitter(contrast=factor),
        jitter(saturation=factor),
        Sharpness(0.99),
        A.Posterize(num_bits=(2, 8), p=1.0),
        A.Solarize(threshold_range=(0.0, 1.0), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
    ]
    return A.OneOf(operations, p=option.p)


class Sharpness(A.ImageOnlyTransform):
    """f v + (1 - f) smooth(v), with f uniform in 1 ± ``limit``: below 1 it blurs, above it sharpens (PIL's ``Sharpness``)."""

    def __init__(self, limit: float) -> None:
        super().__init__(p=1.0)
        self.limit = limit

    def get_params(self) -> Parameters:
        return {"factor": 1.0 + self.py_random.uniform(-self.limit, self.limit)}

    def apply(self, img: np.ndarray, factor: float, **params: object) -> np.ndarray:
        smooth = cv2.filter2D(img, -1, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13).reshape(img.shape)
        result = img.copy()  # PIL leaves the outermost pixels as they are
        if min(img.shape[:2]) > 2:
            inside = np.s_[1:-1, 1:-1]
            result[inside] = cv2.addWeighted(img, factor, smooth, 1 - factor, 0).reshape(img.shape)[inside]
        return result
