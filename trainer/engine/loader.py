"""What the engine needs of the batches of a split."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

    from trainer.data.images import ImageArray, ImageFiles


class Loader(Protocol):
    """Batches of one split: normalized images (N, C, H, W) and targets (N, D) on the device."""

    dataset: ImageArray | ImageFiles
    batch_size: int
    seed: int

    @property
    def num_images(self) -> int: ...
    def __len__(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]: ...
    def indices(self, epoch: int, start: int) -> Iterator[tuple[int, np.ndarray]]: ...
    def without_augmentation(self, batch_size: int) -> Loader: ...
    def close(self) -> None: ...
    def images_in(self, batch: int) -> int: ...
    def weight(self, batch: int) -> float: ...
