"""Splitting, limiting and measuring what a data set has read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.images import ImageArray, ImageFiles, MappedImages
from trainer.data.options import Dataset, Normalization, Splits
from trainer.errors import ConfigError, Problem

MEASURED = 2000  # pictures that are decoded to measure a set that lies in files


def stratified(labels: np.ndarray, part: float | int, seed: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rest and of a random part, a share or a count, with the classes in proportion; both rising.

    >>> rest, part = stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, seed=0, key="data.test")
    >>> len(part), np.bincount(np.array([0, 0, 0, 0, 1, 1, 1, 1])[part]).tolist()
    (4, [2, 2])
    """
    wanted = round(len(labels) * part) if isinstance(part, float) else part
    if wanted >= len(labels):
        raise ConfigError(Problem(key, part, f"must leave some of the {len(labels)} pictures to train on"))
    order = np.random.default_rng([seed, 7]).permutation(len(labels))
    # Going through each class's pictures by their relative rank keeps every prefix in proportion.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rank[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    by_rank = order[np.argsort(rank[order], kind="stable")]
    return np.sort(by_rank[wanted:]), np.sort(by_rank[:wanted])


def finish(data: Dataset, normalization: Normalization | None) -> Splits:
    """Carve the validation pictures off, apply ``limit``, measure the training part."""
    train, validation, test, classes = data.parts()
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise ConfigError(Problem("data", found, "must have at least two classes to tell apart"))
    if validation is None and data.validation:
        rest, part = stratified(train.labels, data.validation, data.split_seed, "data.validation")
        train, validation = train.subset(rest), train.subset(part) if len(part) else None
    if data.limit is not None and data.limit < len(train):
        train = train.subset(stratified(train.labels, data.limit, data.split_seed, "data.limit")[1])
    if data.cache != "none":
        from trainer.data.cache import kept

        def keep(part: Any) -> Any:
            return (
                kept(part, getattr(data, "size", 0), data.cache) if isinstance(part, ImageFiles) and len(part) else part
            )

        train, validation, test = keep(train), keep(validation), keep(test)
    prior = np.bincount(train.labels, minlength=len(classes)) / len(train)
    if isinstance(train, ImageArray):
        shape = (train.images.shape[3], *train.images.shape[1:3])
    else:
        shape = (train.channels, data.size, data.size)  # pyright: ignore[reportAttributeAccessIssue]
    mean, std = normalization or normalize(data.normalize, train, shape)
    flips = data.flips_change_classes or getattr(data, "digits", False)
    return Splits(train, validation, test, classes, shape, mean, std, prior.tolist(), flips)


def normalize(kind: str, train: ImageArray | ImageFiles, shape: tuple[int, int, int]) -> Normalization:
    """Mean and deviation per channel, in units of 1 = white, by which pictures are normalised."""
    nothing = (0.0,) * shape[0], (1.0,) * shape[0]
    if kind in ("none", "channel"):
        return nothing
    mean, std = measure(train, shape)
    return mean, nothing[1] if kind == "zero_center" else tuple(max(s, 1e-3) for s in std)


def measure(train: ImageArray | ImageFiles, shape: tuple[int, int, int]) -> Normalization:
    """Mean and deviation per channel by exact sums of whole numbers; of at most 2,000 pictures where they are files."""
    if isinstance(train, ImageFiles):
        from trainer.data.cache import statistics

        step = -(-len(train) // MEASURED)

        def decoded() -> Iterator[np.ndarray]:
            for i in range(len(sample)):
                if readable(sample, i):
                    yield sample.fitted(i, shape[1])[None]

        sample = train.subset(np.arange(0, len(train), step))
        return statistics(sample, shape, lambda: measured(shape[0], decoded()))
    return measured(shape[0], train.chunks())


def measured(channels: int, chunks: Iterable[np.ndarray]) -> Normalization:
    """Mean and deviation per channel over pieces (n, H, W, C) of a set."""
    counts = np.zeros((channels, 256), np.int64)
    for images in chunks:
        counts += np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    levels, total = np.arange(256), counts.sum(1)
    mean = (counts * levels).sum(1) / total
    square = (counts * levels**2).sum(1) / total
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def readable(files: ImageFiles, index: int) -> bool:
    """Whether a file can be decoded; ConfigError instead where ``on_error`` is raise."""
    try:
        files.read(index)
    except ConfigError:
        if files.on_error == "raise":
            raise
        return False
    return True


def read_npz(path: Path) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """The parts of an ``.npz`` file; ConfigError where it is not what ``arrays`` takes."""
    wanted = "an .npz file with x_train, y_train, x_test, y_test"
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(Problem("data.path", str(path), f"must be {wanted}: it is no .npz file"))
    try:
        found = np.load(path, allow_pickle=False)
        parts = {n: mapped(path, n, found) for n in ("x_train", "y_train", "x_test", "y_test") if n in found}

    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(Problem("data.path", str(path), f"must be {wanted}: {reason}")) from None
    if "x_train" not in parts or "y_train" not in parts:
        raise ConfigError(Problem("data.path", str(path), f"must be {wanted}", f"it holds: {', '.join(found)}"))
    pictures = {}
    for part in ("train", "test"):
        if f"x_{part}" not in parts:
            continue
        x, y = parts[f"x_{part}"], parts.get(f"y_{part}")
        if x.dtype != np.uint8 or x.ndim not in (3, 4) or y is None or y.ndim != 1 or len(x) != len(y):
            got = f"x {x.dtype} {x.shape}, y {None if y is None else y.shape}"
            text = f"x_{part} must be uint8 (N, H, W) or (N, H, W, C) and y_{part} (N,)"
            raise ConfigError(Problem("data.path", got, text))
        if not len(y):
            raise ConfigError(Problem("data.path", str(path), f"x_{part} holds no picture"))
        if y.min() < 0 or not np.issubdtype(y.dtype, np.integer):
            raise ConfigError(Problem("data.path", f"y_{part}", "must be whole numbers from 0 on"))
        kind = MappedImages if isinstance(x, np.memmap) else ImageArray
        pictures[part] = kind(x if x.ndim == 4 else x[..., None], y.astype(np.int64))
    count = int(max(p.labels.max() for p in pictures.values())) + 1
    there = np.unique(pictures["train"].labels)
    if len(there) < count:
        missing = np.setdiff1d(np.arange(min(count, int(there.max()) + 2)), there)[:5].tolist()
        text = f"labels go up to {count - 1}, and y_train lacks some of the {count} classes, such as {missing}"
        raise ConfigError(Problem("data.path", str(path), text, "number the classes from 0 on without gaps"))
    classes = tuple(map(str, range(count)))

    return pictures["train"], None, pictures.get("test"), classes


def mapped(path: Path, name: str, found: Any) -> np.ndarray:
    """An array of an ``.npz`` file, mapped into memory where it lies there as it is; read where it is compressed."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED or not name.startswith("x_"):
            return found[name]
        with archive.open(member) as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            header = file.tell()
    with path.open("rb") as file:  # the local header says how long itself is
        file.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    begin = member.header_offset + 30 + int(name_length) + int(extra_length) + header
    if dtype.hasobject or 0 in shape:
        return found[name]
    return np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")
