"""Paths and libraries that must exist, declared by options, and checked before anything slow is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from trainer.errors import Problem
from trainer.parameters import parameters

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".tar")


@dataclasses.dataclass(frozen=True)
class Existing:
    """A path that must exist, as part of the annotation of a parameter.

    Attributes:
        kind: What must be there.
        or_name: Whether the parameter may hold a name instead, such as that of published weights: a path has a slash, or the
            suffix of a file of weights.
    """

    kind: Literal["file", "directory", "file or directory"]
    or_name: bool = False


class NeedsLibrary:
    """An option that needs a library, which the extra of the same name installs."""

    library: ClassVar[str]


def missing(option: object, key: str) -> Iterator[Problem]:
    """Yield the errors of what an option needs, whose place in the config is ``key``: paths and a library that do not exist."""
    if isinstance(option, NeedsLibrary) and find_spec(option.library) is None:
        hint = f"pip install 'trainer[{option.library}]', or leave it out"
        yield Problem(key, "on", f"needs {option.library}, which is not installed", hint)
    if not dataclasses.is_dataclass(option) or isinstance(option, type):
        return
    for parameter in parameters(type(option)):
        declared = [m for m in getattr(parameter.annotation, "__metadata__", ()) if isinstance(m, Existing)]
        value = getattr(option, parameter.name)
        if not declared or not isinstance(value, str):
            continue
        if declared[0].or_name and "/" not in value and not value.lower().endswith(SUFFIXES):
            continue
        if not value or not Path(value).expanduser().exists():
            text = f"no such {declared[0].kind}" if value else "must be given"
            yield Problem(f"{key}.{parameter.name}", value, text, parameter.meaning)
