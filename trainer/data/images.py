"""What a data set's parts are: pictures in memory, in a mapped file, or in files to be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class ImageArray:
    """Pictures in memory: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> ImageArray:
        return ImageArray(self.images[indices], self.labels[indices])

    def read(self, index: int) -> np.ndarray:
        return self.images[index]

    def fitted(self, index: int, size: int) -> np.ndarray:
        """The picture, its middle square brought to ``size`` where it has another."""
        image = self.read(index)
        if len(image) == size:
            return image
        from trainer.data.decode import fit

        return fit(image, size)

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    def chunks(self, size: int = 4096) -> Iterator[np.ndarray]:
        """All pictures, some at a time."""
        for begin in range(0, len(self), size):
            yield self.images[begin : begin + size]


class MappedImages(ImageArray):
    """Pictures in a file mapped into memory: ``source`` (N, H, W, C), of which ``indices`` are meant; read when asked for."""

    def __init__(self, source: np.ndarray, labels: np.ndarray, indices: np.ndarray | None = None) -> None:
        import numpy as np

        self.source, self.labels = source, labels
        self.indices = np.arange(len(source)) if indices is None else indices

    @property
    def images(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.source[self.indices]

    @property
    def nbytes(self) -> int:
        return len(self.indices) * self.source[:1].nbytes

    def subset(self, indices: np.ndarray) -> MappedImages:
        return MappedImages(self.source, self.labels[indices], self.indices[indices])

    def read(self, index: int) -> np.ndarray:
        return self.source[self.indices[index]]

    def chunks(self, size: int = 4096) -> Iterator[np.ndarray]:
        for begin in range(0, len(self), size):
            yield self.source[self.indices[begin : begin + size]]


class ImageFiles:
    """Pictures in files, decoded when read: uint8 (H, W, C) of their own sizes, or ``fitted`` into a square."""

    def __init__(
        self, paths: list[Path], labels: np.ndarray, channels: int = 3, on_error: str = "raise", crop_pct: float = 1.0
    ) -> None:
        self.paths, self.labels, self.channels, self.on_error = paths, labels, channels, on_error
        self.crop_pct = crop_pct

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> ImageFiles:
        return self.of([self.paths[i] for i in indices], self.labels[indices])

    def of(self, paths: list[Path], labels: np.ndarray) -> ImageFiles:
        """Other files, read in the same manner."""
        return ImageFiles(paths, labels, self.channels, self.on_error, self.crop_pct)

    def read(self, index: int, size: int | None = None) -> np.ndarray:
        """The picture, or, with ``size``, one whose shorter side has at least so many pixels, which is faster."""
        from trainer.data.decode import decode

        return decode(self.paths[index], self.channels, size)

    def fitted(self, index: int, size: int) -> np.ndarray:
        """The middle square, ``crop_pct`` of the shorter side, as uint8 (size, size, C)."""
        from trainer.data.decode import enlarged, fit

        return fit(self.read(index, enlarged(size, self.crop_pct)), size, self.crop_pct)
