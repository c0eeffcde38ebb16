"""Measures of the filters of a layer: how noisy they are, and how different from each other."""

from __future__ import annotations

import numpy as np

NOISY, SMOOTH = 0.8, 0.5  # roughness above which filters look like noise, and below which they look smooth


def roughness(filters: np.ndarray) -> float:
    """Mean squared difference of neighboring weights, divided by twice their variance: 1 of independent weights, 0 of equal ones.

    Newly initialized weights are independent; filters that have converged on natural images are smooth, noisy ones have not
    converged or are hardly regularized (Karpathy, CS231n, "Visualizing first-layer weights"). Above 1, neighbors have opposite
    signs. It does not depend on the scale of a filter. NaN if no filter has two different weights.

    Args:
        filters: (N, H, W, C), with at least two pixels.

    >>> noise = np.random.default_rng(0).normal(size=(200, 3, 3, 1))
    >>> ramp = np.arange(7.0)[None, :, None, None] * np.ones((1, 1, 7, 1))
    >>> round(roughness(noise), 1), round(roughness(ramp), 2)
    (1.0, 0.06)
    """
    x = filters.astype(np.float64)
    variance = x.var(axis=(1, 2), ddof=1)
    squares = [np.diff(x, axis=axis) ** 2 for axis in (1, 2) if x.shape[axis] > 1]
    differences = np.concatenate([s.reshape(len(x), -1, x.shape[3]) for s in squares], axis=1).mean(1)
    counted = variance > 1e-12 * np.maximum(np.abs(x).max(), 1e-300) ** 2
    return float((differences[counted] / (2 * variance[counted])).mean()) if counted.any() else float("nan")


def effective_number(filters: np.ndarray) -> float:
    """How many of the filters are different: the exponential of the entropy of the normalized squared singular values.

    Filters count by their form, without mean and scale (Roy and Vetterli 2007, "The effective rank"). 1 if all are equal, up to
    the sign; at most their number and that of their weights.

    Args:
        filters: (N, H, W, C).

    >>> same = np.repeat(np.random.default_rng(0).normal(size=(1, 3, 3, 1)), 8, axis=0)
    >>> round(effective_number(same), 2), round(effective_number(np.eye(9)[:4].reshape(4, 3, 3, 1)), 1)
    (1.0, 3.9)
    """
    x = filters.reshape(len(filters), -1).astype(np.float64)
    x = x - x.mean(1, keepdims=True)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = x[norms[:, 0] > 1e-12] / norms[norms[:, 0] > 1e-12]
    if not len(x):
        return 0.0
    energies = np.linalg.svd(x, compute_uv=False) ** 2
    energies = energies[energies > 0] / energies.sum()
    return float(np.exp(-(energies * np.log(energies)).sum()))


def in_words(rough: float, effective: float, count: int) -> str:
    """The two measures as a phrase.

    >>> in_words(0.95, 7.5, 8)
    'roughness 0.95, like noise (1 = independent weights, 0 = constant); 7.5 of 8 filters are different in form'
    """
    word = "like noise" if rough >= NOISY else "smooth" if rough <= SMOOTH else "partly smooth"
    return (
        f"roughness {rough:.2f}, {word} (1 = independent weights, 0 = constant); {effective:.1f} of {count} filters are "
        "different in form"
    )
