"""Random numbers of transforms, drawn in the same way by both of their forms."""

from __future__ import annotations

import math

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # from RGB
ERASED = {"black": 0, "gray": 128}  # the value of erased pixels; noise has none
ATTEMPTS = 10  # to draw a box that fits into the image


def color_matrices(rng: np.random.Generator, n: int, hue: float, saturation: float) -> np.ndarray:
    """Return n random matrices (n, 3, 3) that rotate the hue and scale the saturation of RGB values.

    >>> rng = np.random.default_rng(0)
    >>> bool(np.allclose(LUMA @ color_matrices(rng, 4, 0.5, 1.0), LUMA))
    True
    """
    θ = 2 * np.pi * rng.uniform(-hue, hue, n)
    s = 1 + rng.uniform(-saturation, saturation, n)
    chrominance = np.zeros((n, 3, 3))
    chrominance[:, 0, 0] = 1
    chrominance[:, 1, 1] = chrominance[:, 2, 2] = s * np.cos(θ)
    chrominance[:, 1, 2], chrominance[:, 2, 1] = -s * np.sin(θ), s * np.sin(θ)
    return np.linalg.inv(YIQ) @ chrominance @ YIQ


def boxes(
    rng: np.random.Generator,
    n: int,
    size: tuple[int, int],
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> np.ndarray:
    """Return n random boxes inside an image of (height, width), (n, 4) as top, bottom, left, right; empty if none fits.

    >>> boxes(np.random.default_rng(0), 1, (10, 10), (0.25, 0.25), (1.0, 1.0)).tolist()
    [[0, 5, 0, 5]]
    """
    height, width = size
    pixels = rng.uniform(*area, (ATTEMPTS, n)) * height * width
    ratios = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), (ATTEMPTS, n)))
    h, w = (np.round(np.sqrt(pixels * r)).astype(int) for r in (ratios, 1 / ratios))
    fits = (h < height) & (w < width)
    first = fits.argmax(0), np.arange(n)
    h, w = h[first] * fits.any(0), w[first] * fits.any(0)
    top, left = (np.floor(rng.random(n) * (side - used + 1)).astype(int) for side, used in ((height, h), (width, w)))
    return np.stack([top, top + h, left, left + w], 1)
