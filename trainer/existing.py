"""Paths and libraries that must exist, declared by options, and checked before anything slow is loaded."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from trainer.errors import Problem, nearest
from trainer.parameters import parameters

ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst")  # which are answered when they are read
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


@dataclasses.dataclass(frozen=True)
class ModelName:
    """The name of a model of a library, as part of the annotation of a parameter.

    Attributes:
        library: Whose package ``models`` defines it.
    """

    library: Literal["torchvision", "timm"]


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
        value, place = getattr(option, parameter.name), f"{key}.{parameter.name}"
        for library in (
            m.library for m in getattr(parameter.annotation, "__metadata__", ()) if isinstance(m, ModelName)
        ):
            yield from unknown_model(library, value, place)
        declared = [m for m in getattr(parameter.annotation, "__metadata__", ()) if isinstance(m, Existing)]
        if not declared or not isinstance(value, str):
            continue
        if declared[0].or_name and "/" not in value and not value.lower().endswith(SUFFIXES):
            continue
        path, kind = Path(value).expanduser(), declared[0].kind
        if not value or not path.exists():
            text = f"no such {kind}" if value else "must be given"
            yield Problem(place, value, text, parameter.meaning)
        elif kind == "directory" and path.is_file() and not path.name.lower().endswith(ARCHIVES):
            yield Problem(place, value, "is a file", parameter.meaning)


def unknown_model(library: str, name: str, key: str) -> Iterator[Problem]:
    """Yield an error if a library has no model of this name, as far as its source says; the library is not imported."""
    sources = sources_of(library)
    base = name.partition(".")[0]  # of timm, without the tag of the weights
    names = sorted(registered("\n".join(sources)))
    if (
        not names
        or base in names
        or ":" in name
        or any(re.search(rf"""["']{re.escape(base)}["']""", s) for s in sources)
    ):
        return  # also a former name, which stands in quotes, and one of a hub
    hint = nearest(name, names) or f"available: {', '.join(names[:12])}, ..."
    yield Problem(key, name, "is not the name of a model", hint)


def sources_of(library: str) -> list[str]:
    """Return the text of the modules of models of an installed library; none if it is not installed."""
    spec = find_spec(library)
    files = sorted(Path(spec.origin).with_name("models").glob("*.py")) if spec and spec.origin else []
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def registered(source: str) -> set[str]:
    """Return the names of the functions that a source registers as models.

    >>> sorted(registered("@register_model()\\n@other(a=1)\\ndef resnet18(*, weights=None):\\n    ...\\ndef helper():\\n"))
    ['resnet18']
    """
    return set(re.findall(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n|[ )][^\n]*\n)*def (\w+)", source, re.MULTILINE))
