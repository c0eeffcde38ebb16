"""Images and labels in an ``.npz`` file."""

from __future__ import annotations

import dataclasses
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError

import numpy as np

from trainer.data.array_targets import array_target, array_values
from trainer.data.images import ImageArray, MappedImages
from trainer.data.inventory import shortened
from trainer.data.own import Arrays
from trainer.data.splits import RawSplits
from trainer.data.targets import LABEL, MISSING_CLASS, Known, Target, class_target, summary
from trainer.errors import ConfigError, Problem, first_line

EXPECTED = (
    "must be an .npz file with x_train, y_train, x_test, y_test, or y_<name>_train, y_<name>_test for each target"
)
SPLITS = ("train", "test")
BROKEN_ARCHIVE = (EOFError, KeyError, zipfile.BadZipFile, zlib.error)
LABELS = re.compile(r"y_(?:(?P<name>.+)_)?(?:train|test)")  # y_train, y_weight_train


def read_npz(option: Arrays, known: Known | None = None) -> RawSplits:
    """Read the splits of an ``.npz`` file; ConfigError if it does not contain what ``Arrays`` describes.

    Args:
        option: The data set.
        known: The classes that a trained network knows, of which not all have to occur; None for the labels of the file.
    """
    path = Path(option.path).expanduser()
    arrays = load_arrays(path)
    splits = [split for split in SPLITS if f"x_{split}" in arrays]
    keys = label_arrays(path, arrays, splits)
    for split in splits:
        check_lengths(path, split, arrays, [by_split[split] for by_split in keys.values()])
    targets, columns = [], {split: {} for split in splits}
    used = {f"x_{split}" for split in splits} | {key for by_split in keys.values() for key in by_split.values()}
    for name, by_split in keys.items():
        names = by_split["train"].removesuffix("train") + "names"
        used |= {names} & set(arrays)
        target = array_target(name, {key: arrays[key] for key in by_split.values()}, arrays.get(names))
        targets.append(target)
        for split, key in by_split.items():
            columns[split][name] = array_values(target, arrays[key])
    unused = [name for name in arrays if name not in used]
    notes = (f"{path.name}: the arrays {shortened(unused, 5)} are not used",) if unused else ()
    if known is not None:
        targets = [with_known_classes(path, target, known) for target in targets]
    return assembled(path, arrays, tuple(targets), columns, notes, complete=known is None)


def with_known_classes(path: Path, target: Target, known: Known) -> Target:
    """Return a target with the classes that a trained network knows, of which not all have to occur."""
    classes = known.get(target.name)
    if target.kind != "classification" or classes is None:
        return target
    if len(target.classes) > len(classes):
        text = f"has the label {len(target.classes) - 1}; the checkpoint knows {len(classes)} classes: {shortened(classes, 20)}"
        raise ConfigError(Problem("data.path", str(path), text, "labels are integers from 0 on"))
    return dataclasses.replace(target, classes=classes)


def assembled(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    targets: tuple[Target, ...],
    columns: Mapping[str, dict[str, np.ndarray]],
    notes: tuple[str, ...],
    complete: bool,
) -> RawSplits:
    """Return the splits with all targets; the classes of the first target that has some are kept in proportion.

    With ``complete``, classes without training images are an error.
    """
    by_class = class_target(targets)
    for target in targets if complete else ():
        check_classes(path, target, columns, alone=len(targets) == 1)
    labels = {
        split: values[by_class.name] if by_class else np.zeros(len(arrays[f"x_{split}"]), np.int64)
        for split, values in columns.items()
    }
    plain = len(targets) == 1 and by_class is not None and by_class.name == LABEL
    splits = {split: images(arrays[f"x_{split}"], labels[split], {} if plain else columns[split]) for split in columns}
    classes = by_class.classes if by_class else ()
    if plain:
        return RawSplits(splits["train"], None, splits.get("test"), classes, notes)
    values = {target.name: [column[target.name] for column in columns.values()] for target in targets}
    described = f"targets: {'; '.join(summary(target, *values[target.name]) for target in targets)}"
    return RawSplits(splits["train"], None, splits.get("test"), classes, (described, *notes), targets)


def label_arrays(path: Path, arrays: Mapping[str, np.ndarray], splits: list[str]) -> dict[str, dict[str, str]]:
    """Return the names of the arrays of each target by split; ``y_train`` is the target ``label``."""
    keys: dict[str, dict[str, str]] = {}
    for key in arrays:
        match = LABELS.fullmatch(key)
        if match and key.rpartition("_")[2] in splits:
            name = match["name"] or LABEL
            other = keys.setdefault(name, {}).setdefault(key.rpartition("_")[2], key)
            if other != key:
                raise ConfigError(Problem("data.path", str(path), f"contains both {other} and {key}", "rename one"))
    for by_split in keys.values():
        missing = [split for split in splits if split not in by_split]
        if missing:
            (given,) = by_split.values()
            lacks = f"{given.rpartition('_')[0]}_{missing[0]}"
            raise ConfigError(Problem("data.path", str(path), f"contains {given}, and lacks {lacks}"))
    return keys


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the file, at least images and labels of the training split."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(Problem("data.path", str(path), f"{EXPECTED}: it is not an .npz file"))
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            known = [name for name in names if re.fullmatch(r"x_(train|test)|y_.+", name)]
            arrays = {name: load_array(path, name, file) for name in known}
    except (OSError, ValueError, OverflowError, NotImplementedError, MemoryError, TokenError, *BROKEN_ARCHIVE) as error:
        reason = first_line(error)
        raise ConfigError(Problem("data.path", str(path), f"{EXPECTED}: {reason}")) from None
    if "x_train" not in arrays or not any(LABELS.fullmatch(name) and name.endswith("train") for name in arrays):
        raise ConfigError(Problem("data.path", str(path), EXPECTED, f"it contains: {', '.join(names)}"))
    return arrays | {name: np.empty(0) for name in names if name not in arrays}  # to be named as not used


def check_lengths(path: Path, split: str, arrays: Mapping[str, np.ndarray], labels: list[str]) -> None:
    """Refuse images of another form than uint8 (N, H, W, C), and labels of other numbers of images."""
    x = arrays[f"x_{split}"]
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        text = f"x_{split} must be uint8 (N, H, W) or (N, H, W, C)"
        raise ConfigError(Problem("data.path", f"x_{split} {x.dtype} {x.shape}", text, conversion(x)))
    if not x.size and len(x):
        raise ConfigError(Problem("data.path", f"x_{split} {x.shape}", "contains images without pixels"))
    for key in labels:
        if arrays[key].ndim == 0:
            text = f"must have one row for each of the {len(x)} images of x_{split}"
            raise ConfigError(Problem("data.path", f"{key} {arrays[key].shape}", text))
    if transposition := to_channels_last(x.shape, len(arrays[labels[0]]) if labels else len(x)):
        text = f"x_{split} must be uint8 (N, H, W) or (N, H, W, C); its channels seem to be in another place"
        raise ConfigError(Problem("data.path", f"x_{split} {x.shape}", text, f"x_{split} = {transposition}"))
    if not len(x):
        raise ConfigError(Problem("data.path", str(path), f"x_{split} contains no images"))
    for key in labels:
        if len(arrays[key]) != len(x):
            text = f"must have one row for each of the {len(x)} images of x_{split}"
            raise ConfigError(Problem("data.path", f"{key} {arrays[key].shape}", text))


def conversion(x: np.ndarray) -> str:
    """Return how arrays of other types become uint8 from 0 to 255."""
    if np.issubdtype(x.dtype, np.floating) and x.size:
        low, high = float(np.nanmin(x)), float(np.nanmax(x))
        scale = " * 255" if low >= 0 and high <= 1 else ""
        return f"values from {low:.3g} to {high:.3g}: (x{scale}).round().astype(np.uint8), with 255 = white"
    return "x.astype(np.uint8), if its values are 0 to 255" if x.ndim in (3, 4) else ""


def to_channels_last(shape: tuple[int, ...], count: int) -> str | None:
    """Return the transposition of images to (N, H, W, C); None if they seem to be in that order.

    Args:
        shape: The shape of the images.
        count: The number of labels.

    >>> to_channels_last((60, 3, 32, 32), 60), to_channels_last((32, 32, 3, 60), 60)
    ('x.transpose(0, 2, 3, 1)', 'x.transpose(3, 0, 1, 2)')
    >>> to_channels_last((60, 32, 32, 3), 60), to_channels_last((60, 32, 32, 12), 60), to_channels_last((28, 28, 60), 60)
    (None, None, 'x.transpose(2, 0, 1)')
    """
    if shape[0] != count and shape[-1] == count:  # as MATLAB stores them
        return "x.transpose(2, 0, 1)" if len(shape) == 3 else "x.transpose(3, 0, 1, 2)"
    if len(shape) != 4 or shape[1] not in (1, 3, 4):
        return None
    if shape[3] not in (1, 2, 3, 4) or shape[2] == shape[3] != shape[1]:
        return "x.transpose(0, 2, 3, 1)"
    return None


def check_classes(path: Path, target: Target, columns: Mapping[str, dict[str, np.ndarray]], alone: bool) -> None:
    """Refuse classes that no training image has, and missing ones of the only target."""
    if target.kind != "classification":
        return
    y = "y" if target.name == LABEL else f"y_{target.name}"
    if alone and any((values[target.name] == MISSING_CLASS).any() for values in columns.values()):
        text = f"must be classes from 0 on; {MISSING_CLASS} = missing is allowed where there are several targets"
        raise ConfigError(Problem("data.path", f"{y}_train, {y}_test", text))
    count, train = len(target.classes), columns["train"][target.name]
    present = np.unique(train[train != MISSING_CLASS])
    if len(present) < count:
        highest = int(present.max()) if len(present) else -1
        missing = np.setdiff1d(np.arange(min(count, highest + 2)), present)[:5].tolist()
        text = f"labels go up to {count - 1}, and {y}_train lacks some of the {count} classes, such as {missing}"
        raise ConfigError(Problem("data.path", str(path), text, "number the classes from 0 on without gaps"))


def images(x: np.ndarray, labels: np.ndarray, columns: dict[str, np.ndarray]) -> ImageArray:
    """Return one split, memory-mapped if its images are."""
    kind = MappedImages if isinstance(x, np.memmap) else ImageArray
    return kind(x if x.ndim == 4 else x[..., None], labels, columns=columns)


def load_array(path: Path, name: str, file: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return an array of an ``.npz`` file: images are memory-mapped if they are stored uncompressed, else read."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            major, _ = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read_header(stream)
            header = stream.tell()
    if not dtype.hasobject and header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{name} is damaged: it does not hold the {dtype} {shape} that it promises")
    if dtype.hasobject or 0 in shape or member.compress_type != zipfile.ZIP_STORED or not name.startswith("x_"):
        return file[name]
    with path.open(
        "rb"
    ) as stream:  # the local file header of the zip format is 30 bytes and two fields of variable length
        stream.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(stream.read(4), "<u2")
    offset = member.header_offset + 30 + int(name_length) + int(extra_length) + header
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran_order else "C")
