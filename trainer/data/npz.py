"""Images and labels in an ``.npz`` file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainer.data.images import ImageArray, MappedImages
from trainer.data.options import Arrays
from trainer.data.splits import RawSplits
from trainer.errors import ConfigError, Problem

NAMES = ("x_train", "y_train", "x_test", "y_test")
EXPECTED = f"must be an .npz file with {', '.join(NAMES)}"


def read_npz(option: Arrays) -> RawSplits:
    """Read the splits of an ``.npz`` file; ConfigError if it does not contain what ``Arrays`` describes."""
    path = Path(option.path).expanduser()
    arrays = load_arrays(path)
    splits = {split: images(path, split, arrays) for split in ("train", "test") if f"x_{split}" in arrays}
    count = int(max(split.labels.max() for split in splits.values())) + 1
    present = np.unique(splits["train"].labels)
    if len(present) < count:
        missing = np.setdiff1d(np.arange(min(count, int(present.max()) + 2)), present)[:5].tolist()
        text = f"labels go up to {count - 1}, and y_train lacks some of the {count} classes, such as {missing}"
        raise ConfigError(Problem("data.path", str(path), text, "number the classes from 0 on without gaps"))
    return RawSplits(splits["train"], None, splits.get("test"), tuple(map(str, range(count))))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return those of the four arrays that the file contains, at least the training split."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(Problem("data.path", str(path), f"{EXPECTED}: it is not an .npz file"))
    try:
        file = np.load(path, allow_pickle=False)
        arrays = {name: load_array(path, name, file) for name in NAMES if name in file}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(Problem("data.path", str(path), f"{EXPECTED}: {reason}")) from None
    if "x_train" not in arrays or "y_train" not in arrays:
        raise ConfigError(Problem("data.path", str(path), EXPECTED, f"it contains: {', '.join(file)}"))
    return arrays


def images(path: Path, split: str, arrays: dict[str, np.ndarray]) -> ImageArray:
    """Return one split; ConfigError if its shapes, types or labels are not valid."""
    x, y = arrays[f"x_{split}"], arrays.get(f"y_{split}")
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or y is None or y.ndim != 1 or len(x) != len(y):
        given = f"x {x.dtype} {x.shape}, y {None if y is None else y.shape}"
        text = f"x_{split} must be uint8 (N, H, W) or (N, H, W, C), and y_{split} (N,)"
        raise ConfigError(Problem("data.path", given, text))
    if not len(y):
        raise ConfigError(Problem("data.path", str(path), f"x_{split} contains no images"))
    if y.min() < 0 or not np.issubdtype(y.dtype, np.integer):
        raise ConfigError(Problem("data.path", f"y_{split}", "must be integers >= 0"))
    kind = MappedImages if isinstance(x, np.memmap) else ImageArray
    return kind(x if x.ndim == 4 else x[..., None], y.astype(np.int64))


def load_array(path: Path, name: str, file: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return an array of an ``.npz`` file: images are memory-mapped if they are stored uncompressed, else read."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED or not name.startswith("x_"):
            return file[name]
        with archive.open(member) as stream:
            major, _ = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read_header(stream)
            header = stream.tell()
    if dtype.hasobject or 0 in shape:
        return file[name]
    with path.open(
        "rb"
    ) as stream:  # the local file header of the zip format is 30 bytes and two fields of variable length
        stream.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(stream.read(4), "<u2")
    offset = member.header_offset + 30 + int(name_length) + int(extra_length) + header
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran_order else "C")
