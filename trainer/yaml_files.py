"""YAML files of unknown origin: how much their text may expand to is known before it is expanded."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.formats import JsonObject

Version = tuple[str, int, int, int]
MAX_BYTES = 2**20
MAX_NODES = 100_000  # aliases expanded; a config has some hundred
MAX_DEPTH = 40  # tables and lists in each other; a config has five


def load_yaml(file: Path, bounded: bool = True) -> JsonObject:
    """Return the table in a YAML file as plain values, as Hydra reads it (``1e-4`` is a number), interpolations unresolved.

    Args:
        file: The file.
        bounded: Whether to check first that its content is not too large, too deep, or multiplied by aliases.

    Raises:
        ValueError: The file cannot be read, or holds something else; the message is one line without the path.
    """
    try:
        return copy.deepcopy(_table(file, bounded, version(file)))
    except OSError as error:
        raise ValueError(" ".join(str(error).split())) from None


def yaml_text(tree: JsonObject) -> str:
    """Return a config as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(tree))


def version(file: Path) -> Version:
    """Return what changes with the content of a file: its time of the last change, size and inode."""
    status = file.stat()
    return (str(file), status.st_mtime_ns, status.st_size, status.st_ino)


def versions(directories: Iterable[Path]) -> tuple[Version, ...]:
    """Return what changes with the content of any YAML file below some directories."""
    return tuple(
        version(file) for directory in directories for file in sorted(directory.rglob("*.yaml")) if file.is_file()
    )


@lru_cache(maxsize=1000)
def _table(file: Path, bounded: bool, _: Version) -> JsonObject:
    """The table in a version of a file: the jobs of a sweep read the same hundred option files."""
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        if bounded:
            text = read_text(file)
            try:
                check_size(yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            except yaml.YAMLError:  # the fast parser accepts less
                check_size(yaml.parse(text, yaml.SafeLoader))
        content = OmegaConf.load(file)
        if not isinstance(content, DictConfig):
            raise ValueError("must hold keys and values")
        values = OmegaConf.to_container(content, resolve=False)
        str(values)  # ValueError for an integer of more than 4300 digits, such as 0xfff...
    except (OSError, ValueError, TypeError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def read_text(file: Path) -> str:
    """Return the text of a file; ValueError if it is no regular file or too large for a config."""
    if file.exists() and not file.is_file():
        raise ValueError("is not a regular file")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 2**20} MB")
    return file.read_text(encoding="utf-8")


def check_size(events: Iterable[Any]) -> None:
    """Raise ValueError if the YAML of these events is nested too deeply, or expands to too many nodes; nothing is expanded.

    >>> import yaml
    >>> check_size(yaml.parse("a: &x [1, 2]\\nb: [*x, *x]"))
    >>> check_size(yaml.parse("a: &x [*x]"))
    Traceback (most recent call last):
    ValueError: the alias *x stands within what it refers to
    """
    import yaml

    sizes: dict[str, int | None] = {}  # of what the anchors mark; None while it is read
    open_nodes: list[tuple[str | None, int]] = []  # of each table and list around: its anchor, and the nodes before it
    count, first = 0, True
    for event in events:
        if first and isinstance(event, yaml.ScalarEvent):
            raise ValueError("must hold keys and values")
        first = first and not isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise ValueError(f"the alias *{event.anchor} stands within what it refers to")
            count += size
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            if event.anchor:
                sizes[event.anchor] = None
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} deep")
        if count > MAX_NODES:
            raise ValueError(f"holds more than {MAX_NODES:,} values, aliases expanded")
