"""From picture files to uint8 arrays: grey, palette, alpha and 16-bit included."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from trainer.checks import ConfigError, Problem

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def decode(path: Path, channels: int = 3, size: int | None = None) -> np.ndarray:
    """The picture as uint8 (H, W, channels), RGB or grey; transparent parts lie on white, 16 bits become 8.

    A JPEG is decoded at the smallest of its scales, eighths, at which its shorter side still has ``size`` pixels: by
    libjpeg-turbo itself, 1.7 times as fast as through OpenCV (scripts/bench_decode.py), which takes all else.
    """
    data = path.read_bytes() if path.is_file() else b""
    image = jpeg(data, channels, size)
    if image is not None:
        return image
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
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
        return np.ascontiguousarray(image[..., ::-1]) if channels == 3 else image
    code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_BGR2GRAY
    converted = cv2.cvtColor(image, code)
    return converted if converted.ndim == 3 else converted[..., None]


def jpeg(data: bytes, channels: int, size: int | None) -> np.ndarray | None:
    """A JPEG's pixels (H, W, channels); None where the data is no JPEG, is damaged, or has four inks."""
    if data[:2] != b"\xff\xd8":
        return None
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(
            data, "RGB" if channels == 3 else "GRAY", min_height=size or 0, min_width=size or 0
        )
    except ValueError:
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
    scale = shorter / min(height, width)
    if scale != 1:
        new = max(round(width * scale), shorter), max(round(height * scale), shorter)
        resized = cv2.resize(image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        image = resized if resized.ndim == 3 else resized[..., None]
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


@contextmanager
def decoders(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` threads that decode, which goes without the interpreter's lock, each computing by itself."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(count, "decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(before)
