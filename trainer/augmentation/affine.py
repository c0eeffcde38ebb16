"""Matrices of affine transforms: they map a pixel (x, y, 1) to its new place; pixel centers have integer coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.augmentation.options import Rotation, Scale, Shear, Translation
from trainer.augmentation.transforms import Affine


def matrices(option: Affine, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    """Return n matrices (n, 3, 3) of a transform, the identity for images that are not changed."""
    drawn = option.draw(rng, n, size)
    if option.p < 1:
        drawn[rng.random(n) >= option.p] = np.eye(3)
    return drawn


def chain_matrices(chain: Sequence[Affine], rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    """Return n products (n, 3, 3) of one matrix of each transform, the first applied first."""
    product = chain[0].matrices(rng, n, size)
    for transform in chain[1:]:
        product = transform.matrices(rng, n, size) @ product
    return product


def draw_rotations(option: Rotation, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    return rotations(rng.uniform(-option.degrees, option.degrees, n), size)


def draw_scalings(option: Scale, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    return scalings(rng.uniform(*option.factor, n), size)


def draw_translations(option: Translation, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    x, y = (rng.integers(-shift, shift + 1, n) for shift in option.max_shift(size))
    return translations(x, y)


def draw_shears(option: Shear, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    x, y = rng.uniform(-option.degrees, option.degrees, (2, n))
    return shears(x, y, size)


def about_center(linear: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return linear maps (n, 2, 2) as matrices (n, 3, 3) that keep the center of an image of (height, width) in place.

    >>> about_center(np.array([[[2.0, 0.0], [0.0, 2.0]]]), (3, 5))[0, :2]
    array([[ 2.,  0., -2.],
           [ 0.,  2., -1.]])
    """
    center = np.array([size[1] - 1, size[0] - 1]) / 2
    result = np.zeros((len(linear), 3, 3))
    result[:, :2, :2] = linear
    result[:, :2, 2] = center - linear @ center
    result[:, 2, 2] = 1
    return result


def rotations(degrees: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return rotations by angles (n,), counterclockwise as the image is seen.

    >>> rotations(np.array([90.0]), (3, 3))[0].round(9) @ [2, 0, 1]  # the upper right corner moves to the upper left
    array([0., 0., 1.])
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return about_center(np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2), size)


def scalings(factor: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return scalings by factors (n,); above 1 they enlarge.

    >>> scalings(np.array([2.0]), (3, 3))[0] @ [2, 1, 1]
    array([3., 1., 1.])
    """
    return about_center(factor[:, None, None] * np.eye(2), size)


def shears(x_degrees: np.ndarray, y_degrees: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return shears along x and along y by angles (n,): x' = x + tan(x_degrees) y, y' = y + tan(y_degrees) x.

    >>> shears(np.array([45.0]), np.array([0.0]), (3, 3))[0].round(9) @ [1, 2, 1]
    array([2., 2., 1.])
    """
    x, y = np.tan(np.deg2rad(x_degrees)), np.tan(np.deg2rad(y_degrees))
    one = np.ones_like(x)
    return about_center(np.stack([one, x, y, one], -1).reshape(-1, 2, 2), size)


def translations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return translations by (n,) pixels to the right and down.

    >>> translations(np.array([3]), np.array([-1]))[0] @ [0, 0, 1]
    array([ 3., -1.,  1.])
    """
    result = np.tile(np.eye(3), (len(x), 1, 1))
    result[:, 0, 2], result[:, 1, 2] = x, y
    return result
