"""The files that ``job.images`` names: files, directories, globs, or paths from standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.data.pillow import SUFFIXES
from trainer.errors import Problem

if TYPE_CHECKING:
    from trainer.jobs.options import Predict


def problems(option: Predict) -> list[Problem]:
    """Return the errors in what ``job.images`` names: nothing, or what does not exist and is no glob that matches a file."""
    if option.images is None:
        hint = "job.images=photo.jpg, a directory, '*.png', or - for paths from standard input"
        return [Problem("job.images", None, "must be given", hint)]
    places = [option.images] if isinstance(option.images, str) else option.images
    return [
        Problem("job.images", place, "no such file or directory")
        for place in places
        if place != "-" and not Path(place).expanduser().exists() and not any(map(Path.is_file, _matches(place)))
    ]


def find_files(places: tuple[str, ...] | str) -> Iterator[Path]:
    """Yield the files that ``job.images`` names."""
    for place in [places] if isinstance(places, str) else places:
        path = Path(place).expanduser()
        if place == "-":
            yield from (Path(line.strip()) for line in sys.stdin if line.strip())
        elif path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        elif path.is_file():
            yield path
        else:
            yield from (match for match in _matches(place) if match.is_file())


def _matches(place: str) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(str(Path(place).expanduser()), recursive=True))]
