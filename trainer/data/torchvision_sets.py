"""The data sets of torchvision: arrays, and image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor
from torchvision import datasets

from trainer.data.images import ImageArray, ImageFiles
from trainer.data.options import TorchvisionFiles, TorchvisionSet
from trainer.data.readable import image_files
from trainer.data.splits import RawSplits
from trainer.errors import ConfigError, Problem, first_line

WITH_SPLIT = ("SVHN", "STL10")  # take split="train" instead of train=True, and hold (N, C, H, W)
FILE_SPLITS = {  # what torchvision calls the training, validation and test split
    "Flowers102": ("train", "val", "test"),
    "OxfordIIITPet": ("trainval", None, "test"),
    "ImageNet": ("train", None, "val"),
}


def read_arrays(option: TorchvisionSet) -> RawSplits:
    """Read a data set that torchvision holds as arrays."""
    cls, root = getattr(datasets, option.name), Path(option.root).expanduser()
    splits = (
        [{"split": s} for s in ("train", "test")] if option.name in WITH_SPLIT else [{"train": True}, {"train": False}]
    )
    with config_errors(option.name, root):
        train, test = (cls(str(root), **split, download=option.download) for split in splits)
    classes = tuple(getattr(train, "classes", "0123456789"))
    return RawSplits(_array(option.name, train), None, _array(option.name, test), classes)


class _Arrays(Protocol):
    """What torchvision's data sets of arrays have: ``labels`` those of ``WITH_SPLIT``, ``targets`` the others."""

    data: np.ndarray | Tensor
    labels: Sequence[int]
    targets: Sequence[int]


def _array(name: str, dataset: _Arrays) -> ImageArray:
    images = np.asarray(dataset.data)
    if name in WITH_SPLIT:
        return ImageArray(images.transpose(0, 2, 3, 1), np.asarray(dataset.labels, np.int64))
    return ImageArray(images if images.ndim == 4 else images[..., None], np.asarray(dataset.targets, np.int64))


def read_files(option: TorchvisionFiles) -> RawSplits:
    """Read the names and labels of the files of a data set."""
    cls, root = getattr(datasets, option.name), Path(option.root).expanduser()
    # ImageNet may not be redistributed: it is read from the folder in which its archives have been put.
    arguments = {} if option.name == "ImageNet" else {"download": option.download}
    with config_errors(option.name, root):
        datasets_or_none = [
            cls(str(root), split=split, **arguments) if split else None for split in FILE_SPLITS[option.name]
        ]
    train, validation, test = (None if dataset is None else _files(option, dataset) for dataset in datasets_or_none)
    assert train is not None
    names = getattr(datasets_or_none[0], "classes", range(102))
    classes = tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)  # ImageNet's have synonyms
    return RawSplits(train, validation, test, classes)


class _Files(Protocol):
    """What torchvision's data sets of files have: Flowers102 ``_image_files``, ImageNet ``samples``, the others ``_images``."""

    samples: Sequence[tuple[str, int]]
    _image_files: Sequence[Path]
    _images: Sequence[Path]
    _labels: Sequence[int]


def _files(option: TorchvisionFiles, dataset: _Files) -> ImageFiles:
    if option.name == "ImageNet":
        paths, labels = zip(*dataset.samples, strict=True)
    elif option.name == "Flowers102":
        paths, labels = dataset._image_files, dataset._labels
    else:
        paths, labels = dataset._images, dataset._labels
    return image_files(option, [Path(path) for path in paths], np.asarray(labels, np.int64))


@contextmanager
def config_errors(name: str, root: Path) -> Iterator[None]:
    """Turn torchvision's errors about missing files and failed downloads into a ConfigError that says what to do."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = first_line(error)
        hint = "put torchvision's files there, or data.download=true if there is a network"
        raise ConfigError(Problem("data.root", str(root), f"does not contain {name}: {reason}", hint)) from None
