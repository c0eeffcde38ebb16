"""Reading files of weights: checkpoints and state dicts, whose checksums are verified and from which nothing is executed."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.errors import ConfigError, Problem, first_line, is_out_of_memory

try:
    from safetensors import SafetensorError  # installed with timm
except ImportError:
    SafetensorError = OSError

# What reading a file and loading a state dict raise, depending on where the file is truncated or what else it contains.
UNUSABLE = (
    OSError, EOFError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, pickle.UnpicklingError,
    zipfile.BadZipFile, zlib.error, SafetensorError,
)  # fmt: skip
CHUNK = 1 << 24  # bytes that are read at once


class DamagedFile(ConfigError):
    """A file that was truncated or changed after it was written."""


def read_weight_file(path: Path, key: str, device: torch.device | str = "cpu", hint: str = "") -> Any:
    """Return the content of a file written by ``torch.save``, loaded with ``weights_only=True``, or by safetensors.

    A file of ``torch.save`` is a ZIP archive with a CRC-32 of each tensor, which torch itself does not verify. Files of
    safetensors, and those that torch wrote before version 1.6, have none.

    Args:
        path: The file.
        key: The key of the config that names the file.
        device: The device of the tensors.
        hint: What to do about a damaged file.

    Raises:
        DamagedFile: It is truncated, or a checksum does not match.
        ConfigError: There is no such file, or it contains more than weights.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path, key, device)
        if _is_archive(path) and (record := damaged_record(path)) is not None:
            raise DamagedFile(Problem(key, str(path), f"is damaged: the checksum of {record} does not match", hint))
        return torch.load(path, map_location=device, weights_only=True)
    except DamagedFile:
        raise
    except pickle.UnpicklingError as error:
        if _is_archive(path) and "weights_only" in str(error).lower().replace(" ", "_"):
            text = "contains more than weights, such as a whole model, which loading would execute"
            way_out = "save the weights alone: torch.save(model.state_dict(), file)"
            raise ConfigError(Problem(key, str(path), text, way_out)) from None
        raise DamagedFile(Problem(key, str(path), "is cut short or damaged", hint)) from None
    except UNUSABLE as error:
        if isinstance(error, (OSError, SafetensorError)):
            raise ConfigError(Problem(key, str(path), f"cannot be read: {first_line(error)}", hint)) from None
        raise DamagedFile(Problem(key, str(path), "is cut short or damaged", hint)) from None


def _is_archive(path: Path) -> bool:
    """Whether a file begins like an archive; it may be damaged."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def damaged_record(path: Path) -> str | None:
    """The first record of a ZIP archive whose content does not have its CRC-32; None if all have.

    An archive without checksums, as ``torch.serialization.set_crc32_options(False)`` writes it, is taken as it is.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if not any(record.CRC for record in records):
            return None
        for record in records:
            try:
                with archive.open(record) as content:
                    while content.read(CHUNK):
                        pass
            except UNUSABLE:
                return record.filename
    return None


def _read_safetensors(path: Path, key: str, device: torch.device | str) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        hint = "pip install 'trainer[timm]', which installs it"
        raise ConfigError(Problem(key, str(path), "needs safetensors, which is not installed", hint)) from None
    return load_file(path, device=str(device))


@contextmanager
def weights_must_fit(key: str, path: str, model: str) -> Iterator[None]:
    """Turn the errors of loading a state dict into a ConfigError: the file at ``key`` does not fit the model."""
    try:
        yield
    except ConfigError:
        raise
    except UNUSABLE as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(Problem(key, path, f"does not fit {model}: {first_line(error)}")) from None
