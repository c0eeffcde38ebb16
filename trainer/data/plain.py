"""Reading a data set of the user with the interface of ``torch.utils.data.Dataset``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from trainer.data.images import ImageArray
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainer.data.plain_options import PlainDataset

ITEM = "an item must be (image, class): an image of Pillow, an array (H, W) or (H, W, C), or a tensor (C, H, W)"


class Items(Protocol):
    """The interface of ``torch.utils.data.Dataset`` for images and their classes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[object, int]: ...


def read_plain(option: PlainDataset) -> RawSplits:
    """Read all images into memory.

    Raises:
        ConfigError: An item is not an image and its class, the images differ in size, or their values are not 0 to 255 or 0 to 1.
    """
    plain = option.plain
    if "train" in inspect.signature(plain.target).parameters and "train" not in plain.arguments:
        train, test = (plain.object(train=split) for split in (True, False))
        images = read_items(train, plain.name)
        return RawSplits(images, None, read_items(test, plain.name), class_names(train, images.labels))
    dataset = plain.object()
    images = read_items(dataset, plain.name)
    return hold_out_test(option, images, class_names(dataset, images.labels))


def class_names(dataset: object, labels: np.ndarray) -> tuple[str, ...]:
    """Return ``dataset.classes``, or the numbers of the classes."""
    named = getattr(dataset, "classes", None)
    return tuple(map(str, named if named is not None else range(int(labels.max()) + 1)))


def read_items(dataset: Items, name: str) -> ImageArray:
    """Return all items of a data set, uint8 (N, H, W, C) and classes (N,)."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    for index in range(len(dataset)):
        item = dataset[index]
        try:
            image, label = item
            images.append(as_uint8(image))
            labels.append(int(label))
        except (TypeError, ValueError) as error:
            text = f"item {index} of {name}: {error}"
            raise ConfigError(Problem("data", name, text, ITEM)) from None
        if images[-1].shape != images[0].shape:
            text = (
                f"item {index} is {images[-1].shape}, the first one {images[0].shape} (H, W, C): all must have one size"
            )
            raise ConfigError(Problem("data", name, text, "resize the images in __getitem__, or use data=folder"))
    if not images:
        raise ConfigError(Problem("data", name, "contains no images"))
    return ImageArray(np.stack(images), np.array(labels, np.int64))


def as_uint8(image: object) -> np.ndarray:
    """Return an image as uint8 (H, W, C); ValueError if its values are neither 0 to 255 nor fractions of white.

    >>> as_uint8(np.array([[0.0, 1.0]])).tolist()
    [[[0], [255]]]
    """
    channels_first = isinstance(image, Tensor)
    array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    array = array[:, :, None] if array.ndim == 2 else array.transpose(1, 2, 0) if channels_first else array
    if array.ndim != 3 or array.shape[2] > 4:
        raise ValueError(f"has the shape {tuple(array.shape)}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    fractions = np.issubdtype(array.dtype, np.floating)
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    if not (low >= 0 and high <= (1 if fractions else 255)):
        raise ValueError(
            f"has values from {low:g} to {high:g}; allowed are 0 to 1 as floating-point numbers, or 0 to 255"
        )
    return np.ascontiguousarray((array * 255).round() if fractions else array).astype(np.uint8)
