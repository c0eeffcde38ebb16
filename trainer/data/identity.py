"""What a checkpoint remembers of its data, to compare it with the data it meets later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from trainer.data.images import ImageFiles, MappedImages
from trainer.data.inventory import shortened
from trainer.data.sources import Member, length
from trainer.data.splits import RawSplits, Splits
from trainer.errors import ConfigError, Problem

MAX_STATUS = 100_000  # files whose lengths are part of the digest; of more only the names are
NAMED = 20  # classes that an error lists


class DataIdentity(TypedDict, total=False):
    """Number of images of each split, a digest of all images before any were held out, and how files were resized."""

    train: int
    validation: int
    test: int
    digest: str
    crop_pct: float
    interpolation: str


def identity(splits: Splits) -> DataIdentity:
    """Return what a checkpoint remembers of its data beside classes and shape."""
    validation, test = (0 if images is None else len(images) for images in (splits.validation, splits.test))
    result = DataIdentity(train=len(splits.train), validation=validation, test=test, digest=splits.digest)
    if splits.crop_pct is not None and splits.interpolation is not None:
        result |= DataIdentity(crop_pct=splits.crop_pct, interpolation=splits.interpolation)
    return result


def digest(raw: RawSplits) -> str:
    """Return a digest of all images and labels; it is the same if a directory is moved, or split in another way.

    Of files, the names relative to the directory or archive that holds all of them, the lengths, and the classes
    count; of arrays, the labels and the sum of all pixels.
    """
    parts = [images for images in (raw.train, raw.validation, raw.test) if images is not None]
    result = hashlib.blake2b(repr(raw.classes).encode(errors="surrogateescape"), digest_size=16)
    for line in sorted(_file_lines([p for p in parts if isinstance(p, ImageFiles)])):
        result.update(line)
    for images in parts:
        if not isinstance(images, ImageFiles):
            pixels = 0 if isinstance(images, MappedImages) else int(images.images.sum(dtype=np.uint64))
            counts = np.unique(images.labels, return_counts=True)[1].tolist()
            sums = [np.nansum(values, axis=0).tolist() for values in images.columns.values()]
            result.update(repr((images.shape, counts, pixels, *sums)).encode())
    return result.hexdigest()


def _file_lines(parts: Sequence[ImageFiles]) -> Iterable[bytes]:
    paths = [path for images in parts for path in images.paths]
    if not paths:
        return []
    files = [path.parent for path in paths if isinstance(path, Path)]
    base = Path(os.path.commonpath(files)) if files else Path()
    with_length = len(paths) <= MAX_STATUS
    labels = (line for images in parts for line in _labels(images))
    return [
        f"{path.name if isinstance(path, Member) else path.relative_to(base)}\0{length(path) if with_length else ''}"
        f"\0{label}\n".encode(errors="surrogateescape")
        for path, label in zip(paths, labels, strict=True)
    ]


def _labels(images: ImageFiles) -> Iterator[str]:
    """The class of each image and the values of its further targets."""
    columns = (images.labels, *images.columns.values())
    return ("\0".join(map(str, row)) for row in zip(*(values.tolist() for values in columns), strict=True))


def changes(then: DataIdentity, now: DataIdentity) -> list[str]:
    """Return what has changed about the data; nothing if it is the same or nothing is remembered.

    >>> changes({"train": 29, "validation": 3, "digest": "a"}, {"train": 58, "validation": 3, "digest": "b"})
    ['58 training images instead of 29']
    >>> changes({"train": 29, "digest": "a"}, {"train": 29, "digest": "b"})
    ['as many images, but not the same ones']
    """
    names = {"train": "training", "validation": "validation", "test": "test"}
    counts = [
        f"{now[split]:,} {name} images instead of {then[split]:,}"
        for split, name in names.items()
        if split in then and split in now and then[split] != now[split]
    ]
    replaced = then.get("digest") and then.get("digest") != now.get("digest")
    return counts or (["as many images, but not the same ones"] if replaced else [])


def are_numbers(classes: Sequence[str]) -> bool:
    """Return whether classes have no names, as those of arrays: they are 0, 1, 2 and so on."""
    return tuple(classes) == tuple(map(str, range(len(classes))))


def check_same_classes(problem: tuple[str, object], theirs: Sequence[str], ours: Sequence[str], where: str) -> None:
    """Refuse data whose labels mean other classes than those of a checkpoint.

    Args:
        problem: The key of the config and its value, for the error.
        theirs: The classes of the checkpoint.
        ours: The classes of the data.
        where: What has the classes ``theirs``, such as "the checkpoint".

    Raises:
        ConfigError: The classes differ; the error lists both.
    """
    if tuple(theirs) == tuple(ours):
        return
    missing, extra = (sorted(set(a) - set(b)) for a, b in ((theirs, ours), (ours, theirs)))
    differences = [f"{text} {shortened(names, 5)}" for text, names in (("without", missing), ("with", extra)) if names]
    text = (
        f"has other classes than {where}: {' and '.join(differences) or 'in another order'}\n"
        f"  {where}: {len(theirs)} classes ({shortened(tuple(theirs), NAMED)})\n"
        f"  the data: {len(ours)} classes ({shortened(tuple(ours), NAMED)})"
    )
    raise ConfigError(Problem(*problem, text, "a label would mean another class: rename or complete the directories"))
