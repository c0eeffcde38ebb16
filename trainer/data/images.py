"""The images and labels of one split: in memory, memory-mapped, or in files that are decoded when they are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trainer.data.decode import Undecodable, decode, resize_and_center_crop, resize_target
from trainer.data.sources import Source, take
from trainer.errors import ConfigError

Columns = Mapping[str, np.ndarray]


class Labels:
    """What is known of each image.

    Args:
        labels: The class of each image, int64 (N,), in whose proportions images are split; 0 where images have no classes.
        columns: Values of further targets by name, see ``trainer.data.Target``.
    """

    def __init__(self, labels: np.ndarray, columns: Columns | None = None) -> None:
        self.labels, self.columns = labels, dict(columns or {})

    def __len__(self) -> int:
        return len(self.labels)

    def target(self, name: str) -> np.ndarray:
        """Return the values of a target: of the named column or, without one, the class of each image."""
        return self.columns.get(name, self.labels)

    def columns_of(self, indices: np.ndarray) -> Columns:
        """Return the columns of some of the images."""
        return {name: values[indices] for name, values in self.columns.items()}


class ImageArray(Labels):
    """Images of one size in memory: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,), and further targets."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, columns: Columns | None = None) -> None:
        super().__init__(labels, columns)
        self._images = images

    @property
    def images(self) -> np.ndarray:
        return self._images

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of each image."""
        height, width, channels = self._images.shape[1:]
        return channels, height, width

    @property
    def nbytes(self) -> int:
        return self._images.nbytes

    def subset(self, indices: np.ndarray) -> ImageArray:
        return ImageArray(self._images[indices], self.labels[indices], self.columns_of(indices))

    def read(self, index: int) -> np.ndarray:
        return self._images[index]

    def center_crop(self, index: int, size: int) -> np.ndarray:
        """Return an image; if its height is not ``size``, its central square resized to (size, size, C)."""
        image = self.read(index)
        return image if len(image) == size else resize_and_center_crop(image, size)

    def chunks(self, size: int = 4096) -> Iterator[np.ndarray]:
        """Yield all images in order, as arrays of at most ``size`` images."""
        for start in range(0, len(self), size):
            yield self._images[start : start + size]


class MappedImages(ImageArray):
    """Images of one size in a memory-mapped file, read from the disk when they are accessed.

    Args:
        images: The mapped array (M, H, W, C).
        labels: The label of each image in the split (N,).
        indices: The rows of ``images`` that belong to the split (N,); None for all.
        columns: Values of further targets.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None, columns: Columns | None = None
    ) -> None:
        super().__init__(images, labels, columns)
        self.indices = np.arange(len(images)) if indices is None else indices

    @property
    def images(self) -> np.ndarray:
        return self._images[self.indices]

    @property
    def nbytes(self) -> int:
        return len(self.indices) * self._images[:1].nbytes

    def subset(self, indices: np.ndarray) -> MappedImages:
        return MappedImages(self._images, self.labels[indices], self.indices[indices], self.columns_of(indices))

    def read(self, index: int) -> np.ndarray:
        return self._images[self.indices[index]]

    def chunks(self, size: int = 4096) -> Iterator[np.ndarray]:
        for start in range(0, len(self), size):
            yield self._images[self.indices[start : start + size]]


class ImageFiles(Labels):
    """Images in files or archives, decoded when they are read: uint8 (H, W, C), each of its own size.

    Args:
        paths: Where each image is: in a file, or in an archive.
        labels: int64 (N,).
        channels: 1 for grayscale, 3 for RGB.
        on_error: ``raise`` or ``skip``, see ``is_readable``.
        crop_pct: The fraction of an image's shorter side that ``center_crop`` covers.
        columns: Values of further targets.
        interpolation: ``bilinear`` or ``bicubic``, of ``center_crop``.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        labels: np.ndarray,
        channels: int = 3,
        on_error: str = "raise",
        crop_pct: float = 1.0,
        columns: Columns | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__(labels, columns)
        self.paths, self.channels, self.on_error, self.crop_pct = paths, channels, on_error, crop_pct
        self.interpolation = interpolation

    def subset(self, indices: np.ndarray) -> ImageFiles:
        return self.with_files(take(self.paths, indices), self.labels[indices], self.columns_of(indices))

    def with_files(self, paths: Sequence[Source], labels: np.ndarray, columns: Columns | None = None) -> ImageFiles:
        """Return other files that are read with the same settings."""
        return ImageFiles(paths, labels, self.channels, self.on_error, self.crop_pct, columns, self.interpolation)

    def read(self, index: int, size: int | None = None) -> np.ndarray:
        """Decode an image; with ``size`` perhaps at a reduced scale that leaves its shorter side at least that long."""
        return decode(self.paths[index], self.channels, size)

    def have_colors(self, sample: int = 20, different: int = 32) -> bool:
        """Whether most of some images that can be decoded have channels that differ by more than ``different`` somewhere."""
        found = []
        for path in self.paths[:: max(1, len(self.paths) // sample)]:
            with contextlib.suppress(Undecodable):
                image = decode(path, 3, 64).astype(np.int16)
                found.append(int(np.ptp(image, axis=2).max()) > different)
        return 2 * sum(found) > len(found)

    def center_crop(self, index: int, size: int) -> np.ndarray:
        """Return the central square, ``crop_pct`` of the shorter side, resized to uint8 (size, size, C)."""
        image = self.read(index, resize_target(size, self.crop_pct))
        return resize_and_center_crop(image, size, self.crop_pct, self.interpolation)

    def is_readable(self, index: int) -> bool:
        """Return whether a file can be decoded; raise the ConfigError instead if ``on_error`` is ``raise``."""
        try:
            self.read(index)
        except ConfigError:
            if self.on_error == "raise":
                raise
            return False
        return True


Images = ImageArray | ImageFiles
