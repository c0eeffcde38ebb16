"""Every format and mode has the pixels that Pillow reads, upright and blended with white, within 2 of 255."""

from __future__ import annotations

import io
import itertools
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from trainer.data import Folder
from trainer.data.decode import Undecodable, decode
from trainer.data.pillow import FORMATS, READERS, SUFFIXES

RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (56, 40))
WRITTEN = (
    "PNG",
    "JPEG",
    "WEBP",
    "TIFF",
    "GIF",
    "BMP",
    "AVIF",
    "PPM",
    "JPEG2000",
    "TGA",
    "ICO",
    "PCX",
    "QOI",
    "SGI",
    "MPO",
    "DIB",
)
ORIENTATIONS = range(1, 9)


def images() -> Iterator[tuple[str, Image.Image]]:
    """One image in every mode that files are written in."""
    rgb = Image.fromarray(RGB)
    for mode in ("RGB", "1", "L", "P", "CMYK", "YCbCr"):
        yield mode, rgb.convert(mode)
    alpha = Image.fromarray(np.linspace(0, 255, RGB[..., 0].size).reshape(RGB.shape[:2]).astype(np.uint8))
    for mode in ("RGB", "L"):
        with_alpha = rgb.convert(mode)
        with_alpha.putalpha(alpha)
        yield f"{mode}A", with_alpha
    yield "P, transparent color", rgb.quantize(16)
    yield "P, alpha", with_alpha.convert("PA")
    yield "I;16", Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)


def saved(image: Image.Image, kind: str, orientation: int, mode: str) -> bytes | None:
    """The file; None if the format does not have the mode, or Pillow cannot read what it writes (12.3: YCbCr as TIFF)."""
    options: dict = {"tiffinfo": {ExifTags.Base.Orientation: orientation}} if kind == "TIFF" else {}
    if kind != "TIFF" and orientation > 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif.tobytes()
    if mode == "P, transparent color":
        options["transparency"] = 3
    output = io.BytesIO()
    try:
        image.save(output, kind, **options)
        Image.open(output).load()
    except (OSError, ValueError, KeyError):
        return None
    return output.getvalue()


def reference(data: bytes, channels: int) -> np.ndarray:
    """What Pillow reads; 16 bits, which it would clip, by their definition."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return np.asarray(image.convert("RGB" if channels == 3 else "L")).reshape(image.height, image.width, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WRITTEN)
def test_every_mode_and_orientation_of_a_format_is_read_like_by_pillow(kind, channels, tmp_path):
    compared = 0
    for (mode, image), orientation in itertools.product(images(), ORIENTATIONS):
        data = saved(image, kind, orientation, mode)
        if data is None:
            continue
        (tmp_path / "a").write_bytes(data)  # without an ending: the content decides
        decoded, expected = decode(tmp_path / "a", channels), reference(data, channels)
        assert decoded.dtype == np.uint8
        assert decoded.shape == expected.shape, (mode, orientation)
        assert abs(decoded.astype(int) - expected).max() <= 2, (mode, orientation)
        compared += 1
    assert compared >= 8


def test_the_matrix_covers_every_accepted_format():
    assert set(WRITTEN) == set(FORMATS) - {"SUN"}  # which Pillow only reads
    Image.init()
    assert set(READERS) <= set(Image.OPEN)


def test_every_ending_that_pillow_reads_is_accepted_or_left_out_on_purpose():
    left_out = {
        "BLP",
        "BUFR",
        "CUR",
        "DCX",
        "DDS",
        "EPS",
        "FITS",
        "FLI",
        "FTEX",
        "GBR",
        "GRIB",
        "HDF5",
        "ICNS",
        "IM",
        "IPTC",
    }
    left_out |= {"MPEG", "MSP", "PCD", "PIXAR", "PSD", "WMF", "XBM", "XPM"}
    endings = {
        suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN and name not in left_out
    }
    assert endings - {".pfm"} <= set(SUFFIXES)  # floating-point numbers


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("where", ["eXIf after the pixels", "text", "XMP of a PNG", "XMP of a JPEG"])
def test_an_orientation_is_found_wherever_pillow_finds_it(where, orientation, tmp_path):
    exif, output, info = Image.Exif(), io.BytesIO(), PngImagePlugin.PngInfo()
    exif[ExifTags.Base.Orientation] = orientation
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
    if where == "text":
        info.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}", zip=True)
    elif where == "XMP of a PNG":
        info.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
    if where == "XMP of a JPEG":
        Image.fromarray(RGB).save(output, "JPEG", quality=95, xmp=xmp.encode())
    else:
        Image.fromarray(RGB).save(output, "PNG", pnginfo=info)
    data = output.getvalue()
    if where == "eXIf after the pixels":
        chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        end = data.rindex(b"IEND") - 4
        data = data[:end] + chunk + data[end:]
    (tmp_path / "a.png").write_bytes(data)
    decoded, expected = decode(tmp_path / "a.png"), reference(data, 3)
    assert decoded.shape == expected.shape
    assert abs(decoded.astype(int) - expected).max() <= 2
    assert decoded.shape[:2] == ((40, 56) if orientation <= 4 else (56, 40))


def bitfields_bmp(rgb: np.ndarray) -> bytes:
    """32 bits per pixel with a header of 40 bytes, of which the fourth byte is no alpha."""
    pixels = b"".join(bytes([*map(int, p[::-1]), 0]) for row in rgb[::-1] for p in row)
    header = struct.pack("<IiiHHIIiiII", 40, rgb.shape[1], rgb.shape[0], 1, 32, 3, len(pixels), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    return b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + header + masks + pixels


def test_the_fourth_byte_of_a_bmp_without_alpha_is_ignored(tmp_path):
    (tmp_path / "a.bmp").write_bytes(bitfields_bmp(RGB))
    assert np.array_equal(decode(tmp_path / "a.bmp"), RGB)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_image_of_an_animation_or_of_several_pages_is_read(kind, tmp_path):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:])
    assert abs(decode(tmp_path / "a")[10, 10].astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize(
    ("mode", "transparent", "color"), [("RGB", (10, 20, 30), (10, 20, 30)), ("L", 7, 7), ("1", 0, 0)]
)
def test_a_transparent_color_of_a_png_becomes_white(mode, transparent, color, tmp_path):
    image = Image.new(mode, (9, 9), color)
    image.putpixel((4, 4), 255 if mode != "RGB" else (200, 100, 50))
    image.save(tmp_path / "a.png", transparency=transparent)
    pixels = decode(tmp_path / "a.png")
    assert (pixels[0, 0] == 255).all()
    assert tuple(pixels[4, 4]) == ((200, 100, 50) if mode == "RGB" else (255, 255, 255))


def test_16_bits_are_reduced_to_8_in_every_color_type(tmp_path):
    values = (np.arange(40 * 56 * 4).reshape(40, 56, 4) * 7 % 65536).astype(np.uint16)
    for shape in (1, 3):
        cv2.imwrite(str(tmp_path / "a.png"), values[..., :shape])
        expected = values[..., :shape][..., ::-1] / 257
        assert abs(decode(tmp_path / "a.png", shape) - expected).max() <= 1
    values[..., 3] = 65535
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert abs(decode(tmp_path / "a.png") - values[..., 2::-1] / 257).max() <= 1


def test_numbers_without_a_defined_white_are_refused(tmp_path):
    for array in (np.ones((4, 4), np.float32), np.ones((4, 4), np.int32)):
        Image.fromarray(array).save(tmp_path / "a.tif")
        with pytest.raises(Undecodable, match="none is defined as white"):
            decode(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_an_error_and_never_half_an_image(kind, fraction, tmp_path):
    output = io.BytesIO()
    Image.fromarray(RGB).save(output, kind)
    data = output.getvalue()
    (tmp_path / "a").write_bytes(data[: int(fraction * len(data))])
    try:
        reference((tmp_path / "a").read_bytes(), 3)
    except Exception:
        with pytest.raises(Undecodable):
            decode(tmp_path / "a")
    else:  # what is missing is not needed for the pixels
        assert np.array_equal(decode(tmp_path / "a"), reference((tmp_path / "a").read_bytes(), 3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"just text", "format is unknown"),
        (b"\xff\xd8\xff\xe0 no jpeg", "is not an image that can be decoded"),
    ],
)
def test_the_error_says_what_a_file_holds_instead_of_an_image(content, reason, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(Undecodable, match=reason) as error:
        decode(tmp_path / "a.jpg")
    assert "\n" not in error.value.reason


def test_a_directory_and_a_missing_file_are_no_images(tmp_path):
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(Undecodable, match="cannot be read"):
            decode(path)


def test_an_image_of_too_many_pixels_is_refused_without_decoding_it(tmp_path):
    header = struct.pack(">II5B", 2**20, 2**20, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4))
    with pytest.raises(Undecodable):
        decode(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore")
def test_damaged_metadata_does_not_matter(tmp_path):
    output = io.BytesIO()
    Image.fromarray(RGB).save(output, "JPEG", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\0\xff damaged")
    (tmp_path / "a.jpg").write_bytes(output.getvalue())
    assert decode(tmp_path / "a.jpg").shape == RGB.shape


def test_saturated_colors_are_as_gray_as_pillow_reads_them(tmp_path: Path):
    """Y of a JPEG differs from the gray value of the clipped colors."""
    noise = np.random.default_rng(0).choice([0, 255], (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=60)
    expected = reference((tmp_path / "a.jpg").read_bytes(), 1)
    assert abs(decode(tmp_path / "a.jpg", 1).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("color", "noted"), [((200, 40, 40), True), ((120, 120, 120), False)])
def test_gray_images_of_files_with_colors_are_noted(color, noted, tmp_path):
    for name, shade in (("a", color), ("b", (20, 20, 20))):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = np.full((12, 12, 3), shade, np.uint8)
            pixels[i % 12, :6] = color
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    splits = Folder(root=str(tmp_path), size=12, channels=1).load()
    assert ("data.channels=1 drops the colors that the images have" in splits.notes) == noted
