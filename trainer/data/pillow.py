"""What Pillow decodes: every format and mode but JPEGs and plain PNGs, and the orientation of all."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

from trainer.errors import first_line

# Formats that hold one image of pixels. Others that Pillow knows start programs (EPS) or are no photographs (MPEG, HDF5).
FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "MPO": (".mpo",),
    "PCX": (".pcx",),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
READERS = tuple(name for name in FORMATS if name != "MPO")  # which Pillow recognizes among the JPEGs
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NUMBERS = {"F": "floating-point numbers", "I": "32-bit integers"}  # by mode
MAX_PIXELS = 2**28  # 268 million, 800 MB as RGB; a few kilobytes may claim to be more
MARKS_OF_ORIENTATION = (b"eXIf", b"Exif", b"exif", b"tiff:Orientation")
ORIENTATIONS = {  # whether to transpose, then to mirror rows and columns, as ImageOps.exif_transpose does
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; damaged pixels are errors


class Unreadable(ValueError):
    """Data that cannot be decoded, and why."""


def decode(data: bytes) -> np.ndarray:
    """Decode the first image of a file to uint8 (H, W, 1 | 3 | 4): gray, RGB or RGBA, in upright orientation.

    Raises:
        Unreadable: The data is damaged, in no known format, or its values are not those of an image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=READERS) as image:
            check_pixels(image.width, image.height)
            image.load()
            if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):  # a PPM's are scaled to 16 bits
                raise Unreadable(
                    f"its values are {NUMBERS[image.mode]}, of which none is defined as white; use 8 or 16 bits"
                )
            return _array(ImageOps.exif_transpose(image))
    except Unreadable:
        raise
    except Exception as error:  # each plugin has its own errors for damaged data
        raise Unreadable(_reason(error)) from None


def check_pixels(width: int, height: int) -> None:
    """Raise Unreadable if an image claims more pixels than are decoded, before any is."""
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels are too many; at most {MAX_PIXELS:,} are decoded")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "its format is unknown"
    return first_line(error)


def _array(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits
        return _from_integers(np.asarray(image), image.info.get("transparency"))
    if image.mode == "F":
        raise Unreadable(
            "it holds floating-point numbers, of which none is defined as white; convert it to 8 or 16 bits"
        )
    if image.has_transparency_data:
        return np.array((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))


def _from_integers(values: np.ndarray, transparency: object) -> np.ndarray:
    """Return 16-bit gray values as 8 bits; with a transparent value, as RGBA."""
    gray = (values.astype(np.int64) // 257).astype(np.uint8)
    if not isinstance(transparency, int):
        return gray[..., None]
    alpha = np.where(values == transparency, 0, 255).astype(np.uint8)
    return np.stack([gray, gray, gray, alpha], -1)


def oriented(image: np.ndarray, data: bytes) -> np.ndarray:
    """Return a decoded JPEG (H, W, C) in upright orientation, according to its metadata."""
    return upright(image, orientation(data)) if any(mark in data for mark in MARKS_OF_ORIENTATION) else image


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of a file, 1 to 8, as Pillow reads it from EXIF or XMP; 1 if it has none."""
    try:
        with Image.open(io.BytesIO(data), formats=READERS) as image:
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata; whether the pixels are damaged is found when they are decoded
        return 1
    return value if value in ORIENTATIONS else 1


def upright(image: np.ndarray, value: int) -> np.ndarray:
    """Return an image (H, W, C) turned and mirrored from an EXIF orientation to the upright one.

    >>> upright(np.array([[[1], [2]], [[3], [4]]]), 6)[..., 0].tolist()
    [[3, 1], [4, 2]]
    """
    transpose, rows, columns = ORIENTATIONS[value]
    return (image.transpose(1, 0, 2) if transpose else image)[::rows, ::columns]


__all__ = ["FORMATS", "SUFFIXES", "Unreadable", "decode", "orientation", "oriented", "upright"]
