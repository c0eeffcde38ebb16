"""What was decoded or measured once and is kept: pictures in memory or on the disk, statistics on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.data.decode import decoders
from trainer.data.images import ImageArray, ImageFiles, MappedImages
from trainer.data.options import Normalization
from trainer.errors import ConfigError, Problem
from trainer.hardware import usable_cores

DECODING = "libjpeg-turbo, antialiased"  # what was decoded otherwise is not found again


def place(kind: str) -> Path:
    """The folder of what is kept, in ``$TRAINER_CACHE`` (~/.cache/trainer)."""
    return Path(os.environ.get("TRAINER_CACHE", "~/.cache/trainer")).expanduser() / kind


def statistics(files: ImageFiles, shape: tuple[int, int, int], measure: Callable[[], Normalization]) -> Normalization:
    """What ``measure`` finds, kept under a digest of the files' bytes."""
    digest = hashlib.blake2b(repr((DECODING, shape, files.crop_pct)).encode(), digest_size=16)
    for path in files.paths:
        digest.update(path.read_bytes() if path.is_file() else b"")
    file = place("statistics") / f"{digest.hexdigest()}.json"
    try:
        mean, std = json.loads(file.read_text())
        return tuple(mean), tuple(std)
    except (OSError, ValueError):
        found = measure()
    with contextlib.suppress(OSError):  # a cache that cannot be written is none
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(found))
        temporary.replace(file)
    return found


def kept(files: ImageFiles, size: int, where: str) -> ImageArray:
    """All pictures decoded by threads and brought to ``size``: uint8 (N, size, size, C), held in ``memory``, or in a file on
    the ``disk`` that is mapped, under a digest of the files' names, lengths and times; ConfigError where there is no room.
    """
    shape = (len(files), size, size, files.channels)
    if where == "memory":
        images = np.empty(shape, np.uint8)
        fill(images, files, size)
        return ImageArray(images, files.labels)
    file = place("pictures") / f"{digest_of(files, shape)}.npy"
    if not file.is_file():
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            reserve(temporary)
            fill(images, files, size)
            images.flush()
            temporary.replace(file)
        except OSError as error:
            text = f"{images_size(shape)} cannot be kept in {file.parent}: {error.strerror or error}"
            raise ConfigError(
                Problem("data.cache", where, text, "data.cache=none, or another $TRAINER_CACHE")
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
    return MappedImages(np.load(file, mmap_mode="r"), files.labels)


def reserve(file: Path) -> None:
    """Take the room of a mapped file from the disk now: without it, a full disk would end the process by a signal."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def images_size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]:,} pictures of {int(np.prod(shape[1:])) / 2**20:.2g} MiB"


def digest_of(files: ImageFiles, shape: tuple[int, ...]) -> str:
    digest = hashlib.blake2b(repr((DECODING, shape, files.crop_pct)).encode(), digest_size=16)
    for path in files.paths:
        status = path.stat()
        digest.update(f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def fill(images: np.ndarray, files: ImageFiles, size: int) -> None:
    """Decode every file into its row."""

    def read(index: int) -> None:
        images[index] = files.fitted(index, size)

    with decoders(min(usable_cores(), 32)) as pool:
        deque(pool.map(read, range(len(files))), maxlen=0)  # to the end, and its first error comes out
