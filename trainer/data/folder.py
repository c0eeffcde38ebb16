"""A folder of image files: one sub-folder per class, with or without a training, validation and test folder above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.data.decode import SUFFIXES
from trainer.data.images import ImageFiles
from trainer.data.options import Folder
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.errors import ConfigError, Problem

CHECKED_FILES = 500  # a folder of at most so many files is checked before training, a larger one as its files are read
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def read_folder(option: Folder) -> RawSplits:
    """Read the names and labels of the files in ``option.root``."""
    root = Path(option.root).expanduser()
    if not root.is_dir():
        raise ConfigError(Problem("data.root", option.root, "no such directory"))
    folders = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    if folders["train"] is None:
        classes = class_names(root)
        return hold_out_test(option, read_files(root, option, classes), classes)
    classes = class_names(folders["train"])
    train = read_files(folders["train"], option, classes)
    validation, test = (
        None if folder is None else read_files(folder, option, classes, training=False)
        for folder in (folders["validation"], folders["test"])
    )
    return RawSplits(train, validation, test, classes)


def sub_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the sub-folders that are not hidden."""
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes, one per sub-folder; ConfigError if there are fewer than two."""
    classes = sub_folders(folder)
    if len(classes) < 2:
        only = f"only {classes[0]!r}" if classes else "none"
        text = f"must contain one sub-folder of images per class, at least two; it contains {only}"
        raise ConfigError(Problem("data.root", str(folder), text))
    return classes


def read_files(folder: Path, option: Folder, classes: tuple[str, ...], training: bool = True) -> ImageFiles:
    """Return the image files of each class, in alphabetical order.

    Raises:
        ConfigError: A class of the training folder has no images, the test or validation folder has a class that the
            training folder does not have, or a file cannot be decoded and ``on_error`` is ``raise``.
    """
    extra = sorted(set(sub_folders(folder)) - set(classes))
    if extra:
        text = f"contains classes that the training folder does not contain: {', '.join(extra)}"
        raise ConfigError(Problem("data.root", str(folder), text))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = sorted(
            p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        if training and not members:
            text = f"class {name!r} contains no images ({', '.join(SUFFIXES)})"
            raise ConfigError(Problem("data.root", str(folder), text))
        paths += members
        labels += [label] * len(members)
    files = ImageFiles(paths, np.array(labels, np.int64), option.channels, option.on_error, option.crop)
    if option.on_error == "skip" or len(files) <= CHECKED_FILES:
        return files.subset(np.array([i for i in range(len(files)) if files.is_readable(i)], np.int64))
    return files
