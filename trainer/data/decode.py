"""Decode image files to uint8 arrays: grayscale, palette, alpha and 16-bit images included."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from trainer.errors import ConfigError, Problem

NICENESS = 10  # of decoding threads: about a tenth of a core while another thread wants all of it
JPEG_FLAGS = {  # OpenCV's flags by the divisor of height and width: grayscale, color
    1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}


class Undecodable(ConfigError):
    """A file that cannot be decoded, and why: ``reason`` completes a sentence that begins with the name of the file."""

    def __init__(self, path: Path, reason: str) -> None:
        hint = "replace or remove it, or leave such files out: data.on_error=skip"
        super().__init__(Problem("data.root", str(path), reason, hint))
        self.path, self.reason = path, reason


SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def decode(path: Path, channels: int = 3, size: int | None = None) -> np.ndarray:
    """Decode an image file to uint8 (H, W, channels), RGB or grayscale.

    Transparent pixels are blended with white; 16 bits are reduced to 8; a JPEG's EXIF orientation is applied. A JPEG is
    decoded at the smallest of the scales 1/8, 1/4, 1/2 and 1 at which its shorter side still has ``size`` pixels.

    Raises:
        ConfigError: The file is missing or cannot be decoded.
    """
    data = path.read_bytes() if path.is_file() else b""
    encoded = np.frombuffer(data, np.uint8)
    if data[:2] == b"\xff\xd8":
        image = cv2.imdecode(encoded, JPEG_FLAGS[jpeg_divisor(jpeg_size(data), size)][channels == 3])
    else:
        image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise Undecodable(path, "is not an image that can be decoded")
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = (image[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    if image.shape[2] == channels:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if channels == 3 else image
    code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_BGR2GRAY
    converted = cv2.cvtColor(image, code)
    return converted if converted.ndim == 3 else converted[..., None]


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


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) from a JPEG's frame header without decoding it; None if there is no frame header.

    >>> jpeg_size(bytes.fromhex("ffd8 ffe0 0003 00 ffc0 0011 08 0177 01f4"))
    (375, 500)
    """
    offset = 2
    while offset + 9 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame; the others are tables
            return struct.unpack(">HH", data[offset + 5 : offset + 9])
        offset += 2 + length
    return None


def resize_target(size: int, crop_pct: float) -> int:
    """Return the length of the shorter side after resizing, of which the central crop of ``size`` is ``crop_pct``.

    >>> resize_target(224, 0.875), resize_target(64, 1.0)
    (256, 64)
    """
    return round(size / crop_pct)


def resize_and_center_crop(image: np.ndarray, size: int, crop_pct: float = 1.0) -> np.ndarray:
    """Resize the shorter side of a uint8 image (H, W, C) to size/crop_pct and return the central (size, size, C)."""
    height, width = image.shape[:2]
    shorter = resize_target(size, crop_pct)
    ratio = shorter / min(height, width)
    if ratio != 1:
        image = resize(image, (max(round(height * ratio), shorter), max(round(width * ratio), shorter)))
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 image (H, W, C) to (height, width): bilinear, with antialiasing, like torchvision's ``Resize``.

    It uses torch, whose vector code for uint8 takes a third of the time of OpenCV's INTER_AREA.
    """
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
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
