"""What both loaders have in common: the order of the images, the random numbers of a batch, and the normalization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import Required, TypedDict

import numpy as np
import torch
from torch import Tensor

from trainer.data.images import Images
from trainer.data.sampling import Sampling, sample


class LoaderArguments(TypedDict, total=False):
    """The keyword arguments of ``Loader``, which all its subclasses take."""

    num_classes: Required[int]
    mean: Required[Sequence[float]]
    std: Required[Sequence[float]]
    batch_size: Required[int]
    seed: int
    per_image: bool
    device: torch.device | str
    channels_last: bool
    shuffle: bool
    drop_last: bool
    rank: int
    world_size: int


class Loader(ABC):
    """Delivers the batches of a data set, shuffled, augmented, and normalized, on the device of the model.

    The order of an epoch is a function of (seed, epoch), the random numbers of a batch are a function of (seed, epoch,
    batch). Both are independent of the number of workers and of where an epoch is resumed.

    Args:
        dataset: The images of one split, and their labels.
        num_classes: Length K of the targets, one-hot rows of the labels, unless ``targets`` are given.
        mean: Mean of each channel; white = 1.
        std: Standard deviation of each channel.
        batch_size: Images in a batch, over all ranks.
        seed: Seed of the order and of the augmentation.
        per_image: Whether each channel of each image is normalized by its own mean and standard deviation instead.
        device: Where batches are delivered.
        channels_last: Whether batches are in channels-last memory format.
        shuffle: Whether each epoch has its own order, instead of the order of ``dataset``.
        drop_last: Whether to leave out the last batch if it is smaller, unless it is the only one.
        rank: Which part of each batch is delivered: every ``world_size``-th image, starting at ``rank``.
        world_size: Number of processes that share each batch.
        targets: A table of targets (R, D) and the row of each image in it (N,), on the device.
        sampling: Proportions of the classes in an epoch.
        classes: The class of each image (N,), for ``sampling``; by default its label.
    """

    def __init__(
        self,
        dataset: Images,
        *,
        num_classes: int = 0,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int = 0,
        per_image: bool = False,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        targets: tuple[Tensor, Tensor] | None = None,
        sampling: Sampling = "natural",
        classes: np.ndarray | None = None,
    ) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.per_image, self.shuffle, self.drop_last = per_image, shuffle, drop_last
        self.device = torch.device(device)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if targets is None:
            targets = torch.eye(num_classes, device=self.device), torch.from_numpy(dataset.labels).to(self.device)
        self.target_table, self.target_rows = targets
        self.sampling: Sampling = sampling
        self.classes = dataset.labels if classes is None else classes
        # (x/255 − mean)/std as one multiplication and one addition.
        divisor = torch.tensor(std)
        self.scale = (1 / (255 * divisor)).view(1, -1, 1, 1).to(self.device)
        self.shift = (-torch.tensor(mean) / divisor).view(1, -1, 1, 1).to(self.device)

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the batches of an epoch from number ``start`` on.

        Each is x, float32 (N, C, H, W), normalized, and y, float32 (N, D), its targets.
        """

    @abstractmethod
    def without_augmentation(self, batch_size: int) -> Loader:
        """Return a loader of the same images and targets, in the same order, without augmentation."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full_batches, rest = divmod(len(self.dataset), self.batch_size)
        return full_batches + (rest > 0 and not (self.drop_last and full_batches > 0))

    @property
    def num_images(self) -> int:
        """Number of images in an epoch, over all ranks."""
        return min(len(self) * self.batch_size, len(self.dataset))

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of the images in an epoch."""
        n = len(self.dataset)
        if not self.shuffle:
            return np.arange(n)
        rng = np.random.default_rng([self.seed, epoch, 0])
        return rng.permutation(n) if self.sampling == "natural" else sample(self.classes, self.sampling, rng)

    def key(self, epoch: int, batch: int) -> list[int]:
        """Return what seeds the random numbers of a batch: (seed, epoch, batch) and, of several processes, the rank."""
        return [self.seed, epoch, batch, 1] + ([self.rank] if self.world_size > 1 else [])

    def rng(self, epoch: int, batch: int) -> np.random.Generator:
        """Return the generator of a batch's random numbers."""
        return np.random.default_rng(self.key(epoch, batch))

    def images_in(self, batch: int) -> int:
        """Return the number of images in a batch, over all ranks."""
        return min(self.batch_size, len(self.dataset) - batch * self.batch_size)

    def local_images_in(self, batch: int) -> int:
        """Return the number of images of a batch that belong to this rank."""
        return len(range(self.rank, self.images_in(batch), self.world_size))

    def weight(self, batch: int) -> float:
        """Return the weight of this rank's mean over a batch such that the mean over ranks is the mean over the batch.

        >>> from trainer.data.images import ImageArray
        >>> from trainer.data.in_memory import InMemoryLoader
        >>> dataset = ImageArray(np.zeros((7, 1, 1, 1), np.uint8), np.zeros(7, np.int64))
        >>> loader = InMemoryLoader(
        ...     dataset, num_classes=2, mean=[0.0], std=[1.0], batch_size=4, rank=1, world_size=2
        ... )
        >>> loader.weight(0), round(loader.weight(1), 3)
        (1.0, 0.667)
        """
        return self.local_images_in(batch) * self.world_size / self.images_in(batch)

    def indices(self, epoch: int, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each batch from ``start`` on and the indices of its images, of which each rank has its part.

        Every rank takes part in every training step: a rank for which a batch has no image takes the batch's last image,
        with weight zero (``weight``).
        """
        order = self.order(epoch)
        for batch in range(start, len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            local = whole[self.rank :: self.world_size]
            if len(local) or self.shuffle:
                yield batch, local if len(local) else whole[-1:]

    def targets_of(self, index: Tensor) -> Tensor:
        """Return the targets (n, D) of images by their index (n,), on the device."""
        return self.target_table.index_select(0, self.target_rows.index_select(0, index))

    def normalize(self, x: Tensor) -> Tensor:
        """Return a batch (N, C, H, W) of values from 0 to 255 as normalized float32, in the model's memory format."""
        x = x.to(torch.float32, memory_format=self.memory_format)
        if self.per_image:
            std, mean = torch.std_mean(x, dim=(2, 3), keepdim=True)
            return (x - mean) / std.clamp_min(1.0)
        if self.memory_format is not torch.channels_last:
            return torch.addcmul(self.shift, x, self.scale)
        # Rows of pixels instead of single pixels of three numbers: 1.8 times as fast, the same bits.
        rows = x.permute(0, 2, 3, 1)
        shift, scale = (t.flatten().repeat(rows.shape[2]) for t in (self.shift, self.scale))
        return torch.addcmul(shift, rows.flatten(2), scale).view(rows.shape).permute(0, 3, 1, 2)

    def close(self) -> None:  # noqa: B027
        """Do nothing: threads and processes end with each epoch."""
