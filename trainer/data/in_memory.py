"""Images that stay on the device as uint8: a batch is indexed, augmented, and normalized by a few tensor operations."""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch
from torch import Tensor

from trainer.data.images import ImageArray
from trainer.data.loader import Loader, LoaderArguments

if TYPE_CHECKING:
    from trainer.augmentation.batched import BatchedPipeline

NORMALIZED_LIMIT = 128 * 2**20  # bytes of float32 images that are kept normalized


class InMemoryLoader(Loader):
    """Batches of images that are kept on the device, in the memory format of the model.

    They are kept as uint8 or, if they are few and not augmented, already normalized.

    Args:
        dataset: See ``Loader``, as for all other arguments.
        pipeline: Augmentation of batches, or None.
    """

    def __init__(
        self, dataset: ImageArray, *, pipeline: BatchedPipeline | None = None, **arguments: Unpack[LoaderArguments]
    ) -> None:
        super().__init__(dataset, **arguments)
        self.pipeline = pipeline
        images = torch.from_numpy(np.ascontiguousarray(dataset.images)).permute(0, 3, 1, 2)
        self.images = images.to(self.device).contiguous(memory_format=self.memory_format)
        self.is_normalized = self.pipeline is None and 4 * self.images.numel() <= NORMALIZED_LIMIT
        stored = self.normalize(self.images) if self.is_normalized else self.images
        self.rows = stored.permute(0, 2, 3, 1) if self.memory_format is torch.channels_last else stored

    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        for batch, chosen in self.indices(epoch, start):
            index = torch.from_numpy(chosen).to(self.device, non_blocking=True)
            x = self.rows.index_select(0, index)
            if self.memory_format is torch.channels_last:
                x = x.permute(0, 3, 1, 2)
            if self.pipeline is not None:
                x = self.pipeline(x, self.rng(epoch, batch))
            yield x if self.is_normalized else self.normalize(x), self.targets_of(index)

    def without_augmentation(self, batch_size: int) -> InMemoryLoader:
        loader = copy.copy(self)
        loader.pipeline, loader.batch_size = None, batch_size
        return loader
