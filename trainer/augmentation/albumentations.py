"""The options as albumentations transforms: the only module that imports albumentations when it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack, cast

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks PyPI for the latest version

import albumentations as A
import cv2
import numpy as np
import torch

from trainer.augmentation.affine import chain_matrices
from trainer.augmentation.draws import ERASED, boxes, color_matrices
from trainer.augmentation.options import (
    Blur,
    BrightnessContrast,
    Crop,
    Elastic,
    Flip,
    GaussianNoise,
    HueSaturation,
    Perspective,
    RandomErasing,
    RandomResizedCrop,
    Rotation,
    Scale,
    Shear,
    Translation,
    VerticalFlip,
)
from trainer.augmentation.transforms import Affine, AnyTransform, Shape, Transform, chains
from trainer.plain import constructing

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
            external = chain[0]
            with constructing(external.key, external.target, external.arguments):
                steps.append(external.target(**external.arguments))
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


class Changed(A.ImageOnlyTransform):
    """A function of an image, uint8 (C, H, W), and a seed."""

    def __init__(self, function: Callable[[torch.Tensor, int], torch.Tensor], p: float) -> None:
        super().__init__(p=p)
        self.function = function

    def get_params(self) -> Parameters:
        return {"seed": int(self.random_generator.integers(2**63))}

    def apply(self, img: np.ndarray, seed: int, **params: object) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(img.reshape(*img.shape[:2], -1).transpose(2, 0, 1)))
        return self.function(image, seed).permute(1, 2, 0).numpy().reshape(img.shape)


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
    translate_px: Mapping[str, tuple[int, int]]
    shear: Mapping[str, tuple[float, float]]


def affine(fill: str, p: float, **parameters: Unpack[AffineParameters]) -> A.Affine:
    return A.Affine(**cast(Any, parameters), interpolation=cv2.INTER_LINEAR, border_mode=BORDERS[fill], p=p)


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


class Color(A.ImageOnlyTransform):
    """Multiplies colors by a random matrix, see ``HueSaturation``."""

    def __init__(self, option: HueSaturation) -> None:
        super().__init__(p=option.p)
        self.option = option

    def get_params(self) -> Parameters:
        return {"matrix": color_matrices(self.random_generator, 1, self.option.hue, self.option.saturation)[0]}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **params: object) -> np.ndarray:
        if img.ndim != 3 or img.shape[2] != 3:
            return img
        return np.clip(np.rint(cv2.transform(img.astype(np.float32), matrix)), 0, 255).astype(np.uint8)


def hue_saturation(option: HueSaturation, shape: Shape) -> A.BasicTransform:
    return Color(option)


class Erase(A.ImageOnlyTransform):
    """Erases a random box, see ``RandomErasing``."""

    def __init__(self, option: RandomErasing) -> None:
        super().__init__(p=option.p)
        self.option = option

    def get_params_dependent_on_data(self, params: Parameters, data: Parameters) -> Parameters:
        rng, option = self.random_generator, self.option
        top, bottom, left, right = boxes(rng, 1, params["shape"][:2], option.area, option.ratio)[0]
        noise = rng.integers(0, 256, (bottom - top, right - left, *params["shape"][2:]), dtype=np.uint8)
        value = ERASED.get(option.value, noise)
        return {"box": np.s_[top:bottom, left:right], "value": value}

    def apply(self, img: np.ndarray, box: tuple[slice, slice], value: np.ndarray | int, **params: object) -> np.ndarray:
        result = img.copy()
        result[box] = value
        return result


def random_erasing(option: RandomErasing, shape: Shape) -> A.BasicTransform:
    return Erase(option)
