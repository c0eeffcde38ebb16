"""Our options as albumentations transforms: the only file that imports albumentations."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks PyPI for the newest version

import albumentations as A
import cv2
import numpy as np

from trainer.augmentation.batched import chain_matrices
from trainer.augmentation.transforms import Shape, chains

BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}


def compose(transforms: Sequence[Any], shape: Shape) -> A.Compose:
    """One pipeline of all; a class which is not ours is constructed with the arguments the config gives it."""
    parts: list[Any] = []
    for chain in chains(transforms):
        if len(chain) > 1:
            parts.append(Warp(chain))
        elif hasattr(chain[0], "albumentations"):
            parts.append(chain[0].albumentations(shape))
        else:
            parts.append(chain[0].target(**chain[0].arguments))
    return A.Compose(parts)


class Warp(A.ImageOnlyTransform):
    """Several affine transforms, resampled once by the product of their matrices."""

    def __init__(self, chain: Sequence[Any]) -> None:
        super().__init__(p=1.0)
        self.chain, self.border = list(chain), BORDERS[chain[0].fill]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"matrix": chain_matrices(self.chain, self.random_generator, 1, params["shape"][:2])[0, :2]}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **params: Any) -> np.ndarray:
        found = cv2.warpAffine(img, matrix, img.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=self.border)
        return found.reshape(img.shape)


class Noise(A.ImageOnlyTransform):
    """Normal noise, rounded; A.GaussNoise cuts fractions off, which makes it 3 % weaker, and has but 65,536 seeds."""

    def __init__(self, std: float, p: float) -> None:
        super().__init__(p=p)
        self.std = std

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"noise": self.random_generator.standard_normal(params["shape"], np.float32) * (255 * self.std)}

    def apply(self, img: np.ndarray, noise: np.ndarray, **params: Any) -> np.ndarray:
        return np.clip(np.rint(noise + img), 0, 255).astype(np.uint8)


def flip(p: float, vertical: bool) -> Any:
    return A.VerticalFlip(p=p) if vertical else A.HorizontalFlip(p=p)


def crop(padding: int, shape: Shape, fill: str, p: float) -> Any:
    cut = A.RandomCrop(shape[1], shape[2], p=1.0)
    return A.Sequential([A.Pad(padding, border_mode=BORDERS[fill], p=1.0), cut], p=p)


def affine(fill: str, p: float, **parameters: Any) -> Any:
    return A.Affine(**parameters, interpolation=cv2.INTER_LINEAR, border_mode=BORDERS[fill], p=p)


def gaussian_noise(std: float, p: float) -> Any:
    return Noise(std, p)


def brightness_contrast(brightness: float, contrast: float, p: float) -> Any:
    return A.RandomBrightnessContrast(brightness, contrast, p=p)


def perspective(strength: float, fill: str, p: float) -> Any:
    return A.Perspective(scale=(0.0, strength), border_mode=BORDERS[fill], interpolation=cv2.INTER_LINEAR, p=p)


def elastic(alpha: float, sigma: float, fill: str, p: float) -> Any:
    return A.ElasticTransform(alpha, sigma, border_mode=BORDERS[fill], noise_distribution="uniform", p=p)


def blur(sigma: tuple[float, float], p: float) -> Any:
    return A.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=p)  # 0: as wide as the deviation needs


def random_resized_crop(scale: tuple[float, float], ratio: tuple[float, float], shape: Shape) -> Any:
    return A.RandomResizedCrop(
        size=shape[1:], scale=scale, ratio=ratio, interpolation=cv2.INTER_LINEAR, area_for_downscale="image", p=1.0
    )


def trivial_augment(shape: Shape, fill: str, p: float) -> Any:
    """The fourteen operations of the wide search space, one of which is drawn."""
    lean = math.degrees(math.atan(0.99))
    across, down = min(32, shape[2] - 1), min(32, shape[1] - 1)
    factor, still = (0.01, 1.99), (1.0, 1.0)

    def jitter(**changed: tuple[float, float]) -> Any:
        limits = {"brightness": still, "contrast": still, "saturation": still} | changed
        return A.ColorJitter(**limits, hue=(0, 0), p=1.0)

    operations = [
        A.NoOp(p=1.0),
        affine(fill, 1.0, shear={"x": (-lean, lean), "y": (0, 0)}),
        affine(fill, 1.0, shear={"x": (0, 0), "y": (-lean, lean)}),
        affine(fill, 1.0, translate_px={"x": (-across, across), "y": (0, 0)}),
        affine(fill, 1.0, translate_px={"x": (0, 0), "y": (-down, down)}),
        affine(fill, 1.0, rotate=(-135, 135)),
        jitter(brightness=factor),
        jitter(contrast=factor),
        jitter(saturation=factor),
        Sharpness(0.99),
        A.Posterize(num_bits=(2, 8), p=1.0),
        A.Solarize(threshold_range=(0.0, 1.0), p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
    ]
    return A.OneOf(operations, p=p)


class Sharpness(A.ImageOnlyTransform):
    """f v + (1 - f) smooth(v), with f from 1 ± ``limit``: below 1 it blurs, above it sharpens (as PIL's enhancer)."""

    def __init__(self, limit: float) -> None:
        super().__init__(p=1.0)
        self.limit = limit

    def get_params(self) -> dict[str, Any]:
        return {"factor": 1.0 + self.py_random.uniform(-self.limit, self.limit)}

    def apply(self, img: np.ndarray, factor: float, **params: Any) -> np.ndarray:
        smooth = cv2.filter2D(img, -1, np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13).reshape(img.shape)
        found = img.copy()  # PIL leaves the outermost pixels as they are
        if min(img.shape[:2]) > 2:
            inside = np.s_[1:-1, 1:-1]
            found[inside] = cv2.addWeighted(img, factor, smooth, 1 - factor, 0).reshape(img.shape)[inside]
        return found
