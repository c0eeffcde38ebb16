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

    A JPEG is decoded at a half, a quarter or an eighth of its scale where its shorter side still has ``size`` pixels then.
    """
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    image = cv2.imdecode(data, reduction(data, channels, size)) if len(data) else None
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


def reduction(data: np.ndarray, channels: int, size: int | None) -> int:
    """OpenCV's flag for how to decode: everything as it is, or a JPEG at the smallest scale that has ``size`` pixels left."""
    side = min(jpeg_size(data) or (0, 0)) if size else 0
    divisor = next((d for d in (8, 4, 2) if size and side >= d * size), 1)
    if divisor == 1:
        return cv2.IMREAD_UNCHANGED
    kind = "COLOR" if channels == 3 else "GRAYSCALE"
    return getattr(cv2, f"IMREAD_REDUCED_{kind}_{divisor}") | cv2.IMREAD_IGNORE_ORIENTATION


def jpeg_size(data: np.ndarray) -> tuple[int, int] | None:
    """Height and width from a JPEG's frame header; None where the data is no JPEG or is cut before it."""
    head = data[:65536].tobytes()
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame, not a table
            return int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The picture's shorter side brought to ``size``, and the middle square cut out."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    if scale != 1:
        new = max(round(width * scale), size), max(round(height * scale), size)
        resized = cv2.resize(image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        image = resized if resized.ndim == 3 else resized[..., None]
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


@contextmanager
def decoders(count: int) -> Iterator[ThreadPoolExecutor]:
    """``count`` threads that decode, which OpenCV does without the interpreter's lock, each computing by itself."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    pool = ThreadPoolExecutor(count, "decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(before)
