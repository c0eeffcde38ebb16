"""The batched form of the transforms: tensor operations on a whole batch, with random numbers from numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from trainer.augmentation.affine import chain_matrices
from trainer.augmentation.draws import ERASED, boxes, color_matrices
from trainer.augmentation.functional import (
    adjust_batch,
    color_batch,
    crop_batch,
    erase_batch,
    flip_batch,
    noise_batch,
    on_device,
    random_pixels,
    warp_batch,
)
from trainer.augmentation.options import (
    BrightnessContrast,
    Crop,
    Flip,
    GaussianNoise,
    HueSaturation,
    RandomErasing,
    VerticalFlip,
)
from trainer.augmentation.transforms import Affine, AnyTransform, Shape, Transform, chains, unsupported


class BatchedPipeline:
    """Augments batches: ``pipeline(x, rng)`` is a function of x and of the state of ``rng``, on the device of x.

    x is uint8 (N, C, H, W); the result has the same shape and memory format, and integers from 0 to 255: uint8 if pixels
    were only moved, else float32.

    Raises:
        ValueError: A transform has no batched form.
    """

    def __init__(self, transforms: Sequence[AnyTransform], shape: Shape) -> None:
        if names := unsupported(transforms):
            raise ValueError(f"no batched form: {', '.join(names)}")
        self.chains, self.shape = chains(transforms), shape

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise ValueError(f"images have shape {tuple(x.shape[1:])}, the pipeline is for {tuple(self.shape)}")
        for chain in self.chains:
            affine, first = [t for t in chain if isinstance(t, Affine)], chain[0]
            if affine:
                x = warp(affine, x, rng)
            elif isinstance(first, Transform):
                x = first.batch(x, rng)
        return x


def warp(chain: Sequence[Affine], x: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply consecutive affine transforms as one, so that the batch is resampled only once."""
    forward = chain_matrices(chain, rng, len(x), (x.shape[2], x.shape[3]))
    return warp_batch(x, on_device(x, np.linalg.inv(forward)[:, :2]), chain[0].fill)


def flip(option: Flip, x: Tensor, rng: np.random.Generator) -> Tensor:
    return flip_batch(x, on_device(x, rng.random(len(x)) < option.p), dim=3)


def vertical_flip(option: VerticalFlip, x: Tensor, rng: np.random.Generator) -> Tensor:
    return flip_batch(x, on_device(x, rng.random(len(x)) < option.p), dim=2)


def crop(option: Crop, x: Tensor, rng: np.random.Generator) -> Tensor:
    starts = rng.integers(0, 2 * option.padding + 1, (2, len(x)))
    if option.p < 1:
        starts = np.where(rng.random(len(x)) < option.p, starts, option.padding)
    top, left = on_device(x, starts)
    return crop_batch(x, top, left, option.padding, option.fill)


def gaussian_noise(option: GaussianNoise, x: Tensor, rng: np.random.Generator) -> Tensor:
    seed, chosen = int(rng.integers(2**63)), rng.random(len(x)) < option.p
    return noise_batch(x, on_device(x, 255.0 * option.std * chosen), seed)


def brightness_contrast(option: BrightnessContrast, x: Tensor, rng: np.random.Generator) -> Tensor:
    chosen = rng.random(len(x)) < option.p
    α = 1.0 + rng.uniform(-option.contrast, option.contrast, len(x)) * chosen
    β = rng.uniform(-option.brightness, option.brightness, len(x)) * chosen
    return adjust_batch(x, on_device(x, α), on_device(x, 255.0 * β))


def hue_saturation(option: HueSaturation, x: Tensor, rng: np.random.Generator) -> Tensor:
    matrices = color_matrices(rng, len(x), option.hue, option.saturation)
    chosen = rng.random(len(x)) < option.p
    return color_batch(x, on_device(x, np.where(chosen[:, None, None], matrices, np.eye(3))))


def random_erasing(option: RandomErasing, x: Tensor, rng: np.random.Generator) -> Tensor:
    seed = int(rng.integers(2**63))
    drawn = boxes(rng, len(x), (x.shape[2], x.shape[3]), option.area, option.ratio)
    drawn *= (rng.random(len(x)) < option.p)[:, None]  # an empty box where the image stays as it is
    return erase_batch(
        x, on_device(x, drawn), ERASED[option.value] if option.value in ERASED else random_pixels(x, seed)
    )
