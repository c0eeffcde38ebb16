"""From picture files to uint8 arrays: grey, palette, alpha and 16-bit included."""

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

BEHIND = 10  # niceness of threads that decode: some tenth of a processor where another program wants all of it
SCALES = {  # OpenCV's flags for a part of a JPEG: grey, colour
    1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def decode(path: Path, channels: int = 3, size: int | None = None) -> np.ndarray:
    """The picture as uint8 (H, W, channels), RGB or grey; transparent parts lie on white, 16 bits become 8.

    A JPEG is turned as its camera was held (EXIF), and decoded at the smallest scale, an eighth, a quarter, a half or the
    whole, at which its shorter side still has ``size`` pixels.
    """
    data = path.read_bytes() if path.is_file() else b""
    pixels = np.frombuffer(data, np.uint8)
    if data[:2] == b"\xff\xd8":
        image = cv2.imdecode(pixels, SCALES[scale(sides(data), size)][channels == 3])
    else:
        image = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        problem = Problem(
            "data.root", str(path), "is a broken picture", "mend it, or data.on_error=skip leaves such out"
        )
        raise ConfigError(problem)
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


def scale(shape: tuple[int, int] | None, size: int | None) -> int:
    """The part, 1/8, 1/4, 1/2 or the whole, of a JPEG of ``shape`` (height, width) to decode: the smallest that leaves ``size``.

    Between these libjpeg-turbo has no vector code: 5/8 takes longer than the whole.

    >>> scale((375, 500), 224), scale((640, 480), 224), scale((4000, 3000), 224), scale(None, 224), scale((375, 500), None)
    (1, 2, 8, 1, 1)
    """
    if shape is None or size is None:
        return 1
    return next((part for part in (8, 4, 2) if -(-min(shape) // part) >= size), 1)


def sides(data: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG's frame header tells, None where it has none; the picture itself is not decoded.

    >>> sides(bytes.fromhex("ffd8 ffe0 0003 00 ffc0 0011 08 0177 01f4"))
    (375, 500)
    """
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame; the others are tables
            return struct.unpack(">HH", data[place + 5 : place + 9])
        place += 2 + length
    return None


def enlarged(size: int, crop_pct: float) -> int:
    """The shorter side of a picture whose middle square of ``size`` is the share ``crop_pct`` of it.

    >>> enlarged(224, 0.875), enlarged(64, 1.0)
    (256, 64)
    """
    return round(size / crop_pct)


def fit(image: np.ndarray, size: int, crop_pct: float = 1.0) -> np.ndarray:
    """The picture's shorter side brought to size/crop_pct, and the middle square of ``size`` cut out."""
    height, width = image.shape[:2]
    shorter = enlarged(size, crop_pct)
    ratio = shorter / min(height, width)
    if ratio != 1:
        new = max(round(height * ratio), shorter), max(round(width * ratio), shorter)
        image = resized(image, new)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The uint8 picture (H, W, C) at another (height, width): bilinear, smoothed where it shrinks, as torchvision's Resize.

    In torch, whose vector code for uint8 takes a third of the time of OpenCV's INTER_AREA.
    """
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    x = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
    return x[0].permute(1, 2, 0).numpy()


def step_back() -> None:
    """Let this thread decode with what the training leaves of the processors, where the system can tell threads apart (Linux).

    The threads of a training step wait for each other many times: one that waits for a decoder's turn on its processor holds
    up all. Decoding catches up while the training waits for its next batch; worth a tenth of a step on two processors.
    """
    if sys.platform.startswith("linux"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + BEHIND)


@contextmanager
def decoders(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` threads that decode, which goes without the interpreter's lock, each computing by itself."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(count, "decode", step_back)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(before)
