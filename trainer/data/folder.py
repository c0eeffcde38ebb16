"""A folder of pictures: one sub-folder a class, with or without parts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.decode import ENDINGS
from trainer.data.images import ImageFiles
from trainer.data.options import Folder
from trainer.data.splits import readable, stratified
from trainer.errors import ConfigError, Problem

FEW = 500  # files that are all tried before training; among more a broken one is told of when it is met
PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}


def read_folder(data: Folder) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """Train, validation, test files and the classes of ``data.root``."""
    root = Path(data.root).expanduser()
    if not root.is_dir():
        raise ConfigError(Problem("data.root", data.root, "there is no such folder"))
    parts = {part: next((root / n for n in names if (root / n).is_dir()), None) for part, names in PARTS.items()}
    training = parts["train"]
    if training is None:
        files, classes = _files(root, data, None)
        rest, test = stratified(files.labels, data.test, data.split_seed, "data.test")
        return files.subset(rest), None, files.subset(test) if len(test) else None, classes
    train, classes = _files(training, data, None)
    validation, test = (_files(p, data, classes)[0] if (p := parts[n]) else None for n in ("validation", "test"))
    return train, validation, test, classes


def _files(folder: Path, data: Folder, classes: tuple[str, ...] | None) -> tuple[ImageFiles, tuple[str, ...]]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if classes is not None and not set(names) <= set(classes):
        extra = ", ".join(sorted(set(names) - set(classes)))
        raise ConfigError(Problem("data.root", str(folder), f"has classes that the training folder has not: {extra}"))
    classes = classes or names
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        mine = sorted(
            p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS and not p.name.startswith(".")
        )
        if not mine and classes is names:
            text = f"class {name!r} has no picture ({', '.join(ENDINGS)})"
            raise ConfigError(Problem("data.root", str(folder), text))
        paths += mine
        labels += [label] * len(mine)
    if not classes:
        raise ConfigError(
            Problem("data.root", str(folder), "must hold one sub-folder of pictures a class; it holds none")
        )
    if len(classes) == 1:
        raise ConfigError(
            Problem("data.root", str(folder), f"holds one class, {classes[0]!r}; at least two are needed")
        )
    files = ImageFiles(paths, np.array(labels, np.int64), data.channels, data.on_error, data.crop)
    if data.on_error == "raise" and len(files) <= FEW:
        for i in range(len(files)):
            readable(files, i)
    if data.on_error == "skip":
        files = files.subset(np.array([i for i in range(len(files)) if readable(files, i)], np.int64))
    return files, classes
