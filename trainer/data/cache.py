"""Decoded images, kept in memory or on the disk, and statistics of files, kept on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from trainer.data.decode import decoding_threads
from trainer.data.images import ImageArray, ImageFiles, MappedImages
from trainer.data.sources import stamp
from trainer.data.splits import Normalization
from trainer.errors import ConfigError, Problem
from trainer.files import atomic_path, write_text
from trainer.hardware import usable_cores

DECODING = (
    "libjpeg-turbo and Pillow, antialiased"  # part of the digests: another way of decoding invalidates what was cached
)


def cache_dir(kind: str) -> Path:
    """Return the folder for a kind of cached files, in ``$TRAINER_CACHE`` (default ~/.cache/trainer)."""
    return Path(os.environ.get("TRAINER_CACHE", "~/.cache/trainer")).expanduser() / kind


def cached_statistics(
    files: ImageFiles, shape: tuple[int, int, int], measure: Callable[[], Normalization]
) -> Normalization:
    """Return the result of ``measure``, cached under a digest of the content of the files."""
    digest = hashlib.blake2b(repr((DECODING, shape, files.crop_pct, files.interpolation)).encode(), digest_size=16)
    for path in files.paths:
        with contextlib.suppress(OSError):
            digest.update(path.read_bytes())
    file = cache_dir("statistics") / f"{digest.hexdigest()}.json"
    try:
        mean, std = json.loads(file.read_text())
        return tuple(mean), tuple(std)
    except (OSError, ValueError):
        statistics = measure()
    with contextlib.suppress(OSError):  # without a writable cache they are measured every time
        write_text(file, json.dumps(statistics))
    return statistics


def cached_images(files: ImageFiles, size: int, cache: Literal["memory", "disk"]) -> ImageArray:
    """Decode all images, resized to uint8 (N, size, size, C), in threads.

    With ``memory`` they are kept in memory; with ``disk`` in a memory-mapped file, under a digest of the names, lengths and
    modification times of the files.

    Raises:
        ConfigError: The disk is full or cannot be written.
    """
    shape = (len(files), size, size, files.channels)
    if cache == "memory":
        images = np.empty(shape, np.uint8)
        decode_into(images, files, size)
        return ImageArray(images, files.labels, files.columns)
    # The folder keeps the name of earlier releases, so that what they decoded is found.
    path = cache_dir("pictures") / f"{digest(files, shape)}.npy"
    if not path.is_file():
        try:
            with atomic_path(path) as temporary:
                images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
                reserve(temporary)
                decode_into(images, files, size)
                images.flush()
        except OSError as error:
            megabytes = int(np.prod(shape[1:])) / 2**20
            text = (
                f"{shape[0]:,} images of {megabytes:.2g} MiB cannot be kept in {path.parent}: {error.strerror or error}"
            )
            hint = "data.cache=none, or another $TRAINER_CACHE"
            raise ConfigError(Problem("data.cache", cache, text, hint)) from None
    return MappedImages(np.load(path, mmap_mode="r"), files.labels, columns=files.columns)


def reserve(path: Path) -> None:
    """Allocate the disk space of a mapped file now: without it, a full disk would end the process by a signal."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def digest(files: ImageFiles, shape: tuple[int, ...]) -> str:
    """Return a digest of how images are decoded and of the names, lengths and modification times of their files."""
    result = hashlib.blake2b(repr((DECODING, shape, files.crop_pct, files.interpolation)).encode(), digest_size=16)
    for path in files.paths:
        result.update(stamp(path).encode(errors="surrogateescape"))
    return result.hexdigest()


def decode_into(images: np.ndarray, files: ImageFiles, size: int) -> None:
    """Decode every file into its row of ``images``."""

    def decode_row(index: int) -> None:
        images[index] = files.center_crop(index, size)

    with decoding_threads(min(usable_cores(), 32)) as pool:
        deque(pool.map(decode_row, range(len(files))), maxlen=0)  # waits for all, and raises the first error
