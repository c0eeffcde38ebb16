"""Matrices of affine transforms: they take a pixel (x, y, 1) to its new place; pixels' centres are whole numbers."""

from __future__ import annotations

import numpy as np


def about_centre(linear: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Linear maps (n, 2, 2) as matrices (n, 3, 3) that leave the centre of a picture of (height, width) where it is.

    >>> about_centre(np.array([[[2.0, 0.0], [0.0, 2.0]]]), (3, 5))[0, :2]
    array([[ 2.,  0., -2.],
           [ 0.,  2., -1.]])
    """
    centre = np.array([size[1] - 1, size[0] - 1]) / 2
    found = np.zeros((len(linear), 3, 3))
    found[:, :2, :2] = linear
    found[:, :2, 2] = centre - linear @ centre
    found[:, 2, 2] = 1
    return found


def rotations(degrees: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rotations by angles (n,), counter-clockwise as one sees the picture.

    >>> rotations(np.array([90.0]), (3, 3))[0].round(9) @ [2, 0, 1]  # the upper right corner goes to the upper left
    array([0., 0., 1.])
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return about_centre(np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2), size)


def scalings(factor: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlargements by factors (n,).

    >>> scalings(np.array([2.0]), (3, 3))[0] @ [2, 1, 1]
    array([3., 1., 1.])
    """
    return about_centre(factor[:, None, None] * np.eye(2), size)


def shearings(x_degrees: np.ndarray, y_degrees: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shears along x and along y by angles (n,): x' = x + tan(x_degrees) y, y' = y + tan(y_degrees) x.

    >>> shearings(np.array([45.0]), np.array([0.0]), (3, 3))[0].round(9) @ [1, 2, 1]
    array([2., 2., 1.])
    """
    x, y = np.tan(np.deg2rad(x_degrees)), np.tan(np.deg2rad(y_degrees))
    one = np.ones_like(x)
    return about_centre(np.stack([one, x, y, one], -1).reshape(-1, 2, 2), size)


def translations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shifts by (n,) pixels to the right and down.

    >>> translations(np.array([3]), np.array([-1]))[0] @ [0, 0, 1]
    array([ 3., -1.,  1.])
    """
    found = np.tile(np.eye(3), (len(x), 1, 1))
    found[:, 0, 2], found[:, 1, 2] = x, y
    return found
