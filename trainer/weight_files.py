"""Reading files of weights: checkpoints and state dicts, from which nothing is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.errors import ConfigError, Problem, first_line

try:
    from safetensors import SafetensorError  # installed with timm
except ImportError:
    SafetensorError = OSError

# What reading a file and loading a state dict raise, depending on where the file is truncated or what else it contains.
UNUSABLE = (
    OSError, EOFError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, pickle.UnpicklingError,
    zipfile.BadZipFile, SafetensorError,
)  # fmt: skip
NOT_READABLE = (FileNotFoundError, IsADirectoryError, PermissionError)


def read_weight_file(path: Path, key: str, device: torch.device | str = "cpu", hint: str = "") -> Any:
    """Return the content of a file written by ``torch.save``, loaded with ``weights_only=True``, or by safetensors.

    Args:
        path: The file.
        key: The key of the config that names the file.
        device: The device of the tensors.
        hint: What to do about a damaged file.

    Raises:
        ConfigError: There is no such file, it is truncated, or it contains more than weights.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path, key, device)
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) and "weights_only" in str(error).lower().replace(" ", "_"):
            text = "contains more than weights, such as a whole model, which loading would execute"
            way_out = "save the weights alone: torch.save(model.state_dict(), file)"
            raise ConfigError(Problem(key, str(path), text, way_out)) from None
        raise ConfigError(Problem(key, str(path), "is cut short or damaged", hint)) from None
    except UNUSABLE as error:
        # torch's message is of use only for files of its current format, which are ZIP archives.
        informative = isinstance(error, (*NOT_READABLE, SafetensorError)) or zipfile.is_zipfile(path)
        text = f"cannot be read: {first_line(error)}" if informative else "is cut short or damaged"
        raise ConfigError(Problem(key, str(path), text, hint)) from None


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
    except UNUSABLE as error:
        raise ConfigError(Problem(key, path, f"does not fit {model}: {first_line(error)}")) from None
