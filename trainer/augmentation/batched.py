"""The resident way: a whole batch is augmented by a few tensor operations, with random numbers from numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.augmentation.transforms import Affine, Shape, Transform, chains, name_of

if TYPE_CHECKING:
    from torch import Tensor


def unsupported(transforms: Sequence[Any]) -> list[str]:
    """The names of the transforms that have no batched form.

    >>> from trainer.augmentation import Flip
    >>> from trainer.augmentation.unbatched import Elastic
    >>> unsupported([Flip(), Elastic()])
    ['elastic']
    """
    return [name_of(t) for t in transforms if not _batched(t)]


def _batched(t: Any) -> bool:
    return isinstance(t, Affine) or (isinstance(t, Transform) and type(t).batch is not Transform.batch)


class BatchedPipeline:
    """Augments batches: ``pipeline(x, rng)`` is a function of x and of the state of ``rng``, on whatever device x is.

    x is uint8 (N, C, H, W); the result has the same shape and memory format, and whole numbers from 0 to 255: uint8
    where pixels were only moved, else float32.
    """

    def __init__(self, transforms: Sequence[Any], shape: Shape) -> None:
        if missing := unsupported(transforms):
            raise ValueError(f"no batched form: {', '.join(missing)}")
        self.chains, self.shape = chains(transforms), shape

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise ValueError(f"pictures of {tuple(x.shape[1:])} where the pipeline is for {tuple(self.shape)}")
        for chain in self.chains:
            if isinstance(chain[0], Affine):
                x = warp(x, chain, rng)
            else:
                x = chain[0].batch(x, rng)
        return x


def warp(x: Tensor, chain: Sequence[Affine], rng: np.random.Generator) -> Tensor:
    """The batch resampled once by the product of the chain's matrices."""
    from trainer.augmentation.functional import on, warp_batch

    moves = chain_matrices(chain, rng, len(x), (x.shape[2], x.shape[3]))
    return warp_batch(x, on(x, np.linalg.inv(moves)[:, :2]), chain[0].fill)


def chain_matrices(chain: Sequence[Affine], rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    """n products (n, 3, 3) of one matrix from each transform, the first applied first."""
    product = chain[0].matrices(rng, n, size)
    for transform in chain[1:]:
        product = transform.matrices(rng, n, size) @ product
    return product
