"""Which files can be decoded: all are tried, and all that cannot are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.data.decode import Undecodable, decoding_threads
from trainer.data.images import Columns, ImageFiles
from trainer.data.inventory import Skipped, shortened
from trainer.data.options import FileDataset
from trainer.data.sources import Source, relative
from trainer.errors import ConfigError, Problem
from trainer.hardware import usable_cores

CHECKED_FILES = 500  # at most so many files are checked before training, more of them as they are read
NAMED_FILES = 10  # files that an error names


def image_files(
    option: FileDataset, paths: Sequence[Source], labels: np.ndarray, columns: Columns | None = None
) -> ImageFiles:
    """Return files that are read as an option of the config says."""
    return ImageFiles(paths, labels, option.channels, option.on_error, option.crop, columns, option.resizing)


def check_readable(files: ImageFiles, base: Path) -> tuple[np.ndarray, list[Skipped]]:
    """Return whether each file is kept (N,), and those that are not because they cannot be decoded.

    Of many files only those of ``on_error=skip`` are tried.

    Args:
        files: The images.
        base: The directory that the names of files are relative to.

    Raises:
        ConfigError: With ``on_error=raise``; it counts and names all files that cannot be decoded.
    """
    if files.on_error == "raise" and len(files) > CHECKED_FILES:
        return np.ones(len(files), bool), []
    reasons = undecodable(files)
    broken = {path: reason for path, reason in zip(files.paths, reasons, strict=True) if reason}
    if broken and files.on_error == "raise":
        raise undecodable_error(broken, len(files))
    keep = np.array([reason is None for reason in reasons], bool)
    return keep, [Skipped(relative(path, base), "corrupt", named=True) for path in broken]


def undecodable(files: ImageFiles) -> list[str | None]:
    """Return for each file why it cannot be decoded, or None if it can."""

    def reason(index: int) -> str | None:
        try:
            files.read(index)
        except Undecodable as error:
            return error.reason
        return None

    with decoding_threads(min(usable_cores(), 32)) as pool:
        return list(pool.map(reason, range(len(files))))


def undecodable_error(broken: dict[Source, str], total: int) -> ConfigError:
    """Return the error about files that cannot be decoded, with the reasons."""
    listed = shortened([f"{name} {reason}" for name, reason in broken.items()], NAMED_FILES)
    text = f"{len(broken):,} of {total:,} files cannot be decoded: {listed}"
    hint = "replace or remove them, or leave such files out: data.on_error=skip"
    return ConfigError(Problem("", None, text, hint))


def all_undecodable(files: ImageFiles, first: Undecodable) -> ConfigError:
    """Return the error about all files of a split that cannot be decoded, of which ``first`` has just been met."""
    reasons = zip(files.paths, undecodable(files), strict=True)
    broken = {path: reason for path, reason in reasons if reason}
    return undecodable_error(broken or {first.path: first.reason}, len(files))
