"""Decode image files to uint8 arrays, equal to what Pillow reads: orientation, transparency and 16-bit images included.

OpenCV decodes JPEGs, at a reduced scale where that suffices, and plain PNGs; Pillow decodes everything else. Both give the
same pixels.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import torch

from trainer.data import pillow
from trainer.data.pillow import Unreadable
from trainer.data.sources import Member, Source
from trainer.errors import ConfigError, Problem

NICENESS = 10  # of decoding threads: about a tenth of a core while another thread wants all of it
JPEG_SCALES = {  # OpenCV's flags by the divisor of height and width
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# Chunks of a PNG that are Pillow's: transparency of a color, animation, and text that may hold an orientation.
CHUNKS_FOR_PILLOW = {b"tRNS", b"acTL", b"tEXt", b"zTXt", b"iTXt", b"eXIf"}
MAX_BYTES = 2**30
ROWS_AT_ONCE = 2**26  # values that are blended at once: as floating-point numbers they take four times the memory
NO_IMAGE = "is not an image that can be decoded"
NO_MEMORY = f"{NO_IMAGE}: there is not enough memory for it"
OTHER_CONTENT = {  # what files that are not images often hold, by their first bytes
    b"version https://git-lfs": "is a Git LFS pointer instead of the image (git lfs pull fetches it)",
    b"<!doctype html": "is a web page instead of an image",
    b"<html": "is a web page instead of an image",
    b"<?xml": "is an XML or SVG file, not an image of pixels",
    b"<svg": "is an SVG file, not an image of pixels",
}


class Undecodable(ConfigError):
    """A file that cannot be decoded, and why: ``reason`` completes a sentence that begins with the name of the file."""

    def __init__(self, path: Source, reason: str) -> None:
        hint = "replace or remove it, or leave such files out: data.on_error=skip"
        super().__init__(Problem("data.root", str(path), reason, hint))
        self.path, self.reason = path, reason


def decode(path: Source, channels: int = 3, size: int | None = None) -> np.ndarray:
    """Decode an image, in a file or an archive, to uint8 (H, W, channels), RGB or grayscale.

    The format is recognized by the content, not by the name. Of an animation or a file of several pages the first image is
    decoded. The EXIF orientation is applied, transparent pixels are blended with white, 16 bits are reduced to 8. A JPEG is
    decoded at the smallest of the scales 1/8, 1/4, 1/2 and 1 at which its shorter side still has ``size`` pixels.

    Raises:
        Undecodable: The file is missing or cannot be decoded.
    """
    try:
        if (path.length if isinstance(path, Member) else path.stat().st_size) > MAX_BYTES:
            raise Undecodable(path, f"{NO_IMAGE}: it is larger than {MAX_BYTES >> 30} GiB")
        data = path.read_bytes()
    except MemoryError:
        raise Undecodable(path, NO_MEMORY) from None
    except OSError as error:
        raise Undecodable(path, f"cannot be read: {error.strerror or type(error).__name__}") from None
    if not data:
        raise Undecodable(path, f"{NO_IMAGE}: it is empty")
    try:
        image = _decode_with_opencv(data, size)
        return with_channels(pillow.decode(data) if image is None else image, channels)
    except MemoryError:
        raise Undecodable(path, NO_MEMORY) from None
    except Unreadable as error:
        start = data[:64].lstrip().lower()
        other = next((text for first, text in OTHER_CONTENT.items() if start.startswith(first)), None)
        raise Undecodable(path, other or " ".join(f"{NO_IMAGE}: {error}".split())) from None


def _decode_with_opencv(data: bytes, size: int | None) -> np.ndarray | None:
    """Return a JPEG or plain PNG as uint8 (H, W, 1 | 3 | 4), RGB; None if Pillow has to decode it or say what is wrong."""
    encoded = np.frombuffer(data, np.uint8)
    if data[:2] == b"\xff\xd8":
        frame = jpeg_frame(data)
        if frame is not None:
            pillow.check_pixels(frame.width, frame.height)
        if frame is None or frame.bits != 8 or frame.components not in (1, 3):
            return None
        scale = JPEG_SCALES[jpeg_divisor((frame.height, frame.width), size)]
        gray = frame.components == 1
        flags = (scale & ~cv2.IMREAD_COLOR if gray else scale) | cv2.IMREAD_IGNORE_ORIENTATION
        image = _imdecode(encoded, flags)
        return None if image is None else pillow.oriented(image[..., None] if gray else image[..., ::-1], data)
    # OpenCV takes seconds for a chunk that claims to be longer than the file.
    if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in (chunks := png_chunks(data)) and not chunks & CHUNKS_FOR_PILLOW:
        pillow.check_pixels(*struct.unpack(">II", data[16:24].ljust(8, b"\0")))
        image = _imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if image is None:
            return None
        image = (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image
        return image[..., None] if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    return None


def _imdecode(encoded: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(encoded, flags)
    except cv2.error:  # an image of more pixels than OpenCV accepts
        return None


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return an image uint8 (H, W, 1 | 3 | 4) with 1 or 3 channels; transparent pixels are blended with white.

    >>> with_channels(np.array([[[200, 0, 0, 0]]], np.uint8), 3).tolist()
    [[[255, 255, 255]]]
    """
    if image.shape[2] == 4:
        image = np.concatenate([_blended(rows) for rows in np.array_split(image, -(-image.size // ROWS_AT_ONCE) or 1)])
    if image.shape[2] == channels:
        return np.ascontiguousarray(image)
    image = np.ascontiguousarray(image)
    return (
        cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if channels == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    )


def _blended(image: np.ndarray) -> np.ndarray:
    """RGBA (H, W, 4) on white, as RGB."""
    alpha = image[..., 3:].astype(np.float32) / 255
    return (image[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


def jpeg_divisor(shape: tuple[int, int] | None, size: int | None) -> int:
    """Return the largest divisor, 8, 4, 2 or 1, of a JPEG's (height, width) that leaves at least ``size`` pixels a side.

    libjpeg-turbo has no vector code for scales in between: decoding at 5/8 takes longer than decoding at 1.

    >>> jpeg_divisor((375, 500), 224), jpeg_divisor((640, 480), 224), jpeg_divisor((4000, 3000), 224)
    (1, 2, 8)
    >>> jpeg_divisor(None, 224), jpeg_divisor((375, 500), None)
    (1, 1)
    """
    if shape is None or size is None:
        return 1
    return next((divisor for divisor in (8, 4, 2) if -(-min(shape) // divisor) >= size), 1)


class JPEGFrame(NamedTuple):
    """What the frame header of a JPEG says."""

    height: int
    width: int
    bits: int
    components: int


def jpeg_frame(data: bytes) -> JPEGFrame | None:
    """Return the frame header of a JPEG without decoding it; None if there is none.

    >>> jpeg_frame(bytes.fromhex("ffd8 ffe0 0003 00 ffc0 0011 08 0177 01f4 03"))
    JPEGFrame(height=375, width=500, bits=8, components=3)
    """
    offset = 2
    while offset + 10 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame; the others are tables
            bits, height, width, components = struct.unpack(">BHHB", data[offset + 4 : offset + 10])
            return JPEGFrame(height, width, bits, components)
        offset += 2 + length
    return None


def png_chunks(data: bytes) -> set[bytes]:
    """Return the types of the chunks of a PNG up to its end, ``IEND``, or up to the first one that the file does not hold whole.

    >>> start, chunk = b"\\x89PNG\\r\\n\\x1a\\n", lambda name, length: length.to_bytes(4, "big") + name + b"\\0" * 6
    >>> sorted(png_chunks(start + chunk(b"IHDR", 2) + chunk(b"IEND", 2)))
    [b'IEND', b'IHDR']
    >>> sorted(png_chunks(start + chunk(b"IHDR", 2) + chunk(b"IEND", 3)))
    [b'IHDR']
    """
    types: set[bytes] = set()
    offset = 8
    while b"IEND" not in types and (end := offset + 12 + int.from_bytes(data[offset : offset + 4], "big")) <= len(data):
        types.add(data[offset + 4 : offset + 8])
        offset = end
    return types


def resize_target(size: int, crop_pct: float) -> int:
    """Return the length of the shorter side after resizing, of which the central crop of ``size`` is ``crop_pct``.

    >>> resize_target(224, 0.875), resize_target(64, 1.0)
    (256, 64)
    """
    return round(size / crop_pct)


def resize_and_center_crop(
    image: np.ndarray, size: int, crop_pct: float = 1.0, interpolation: str = "bilinear"
) -> np.ndarray:
    """Resize the shorter side of a uint8 image (H, W, C) to size/crop_pct and return the central (size, size, C)."""
    height, width = image.shape[:2]
    shorter = resize_target(size, crop_pct)
    ratio = shorter / min(height, width)
    if ratio != 1:
        shape = max(round(height * ratio), shorter), max(round(width * ratio), shorter)
        image = resize(image, shape, interpolation)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """Resize a uint8 image (H, W, C) to (height, width): bilinear or bicubic, with antialiasing, like torchvision's ``Resize``.

    It uses torch, whose vector code for uint8 takes a third of the time of OpenCV's INTER_AREA.
    """
    x = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[
        None
    ]  # a mapped file is read-only
    x = torch.nn.functional.interpolate(x, size, mode=interpolation, antialias=True)
    return x[0].permute(1, 2, 0).numpy()


def lower_priority() -> None:
    """Lower the priority of the calling thread, on systems that can do so for a single thread (Linux).

    The threads of a training step wait for each other many times: one that has to wait for a decoder on its core delays
    all of them. Decoding catches up while the training waits for its next batch; this saves a tenth of a step on two cores.
    """
    if sys.platform.startswith("linux"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


@contextmanager
def decoding_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of ``count`` low-priority threads, in which OpenCV (which releases the GIL) starts no threads itself."""
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(count, "decode", lower_priority)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(opencv_threads)
