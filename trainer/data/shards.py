"""WebDataset shards: tar archives in which members of the same name but for the ending are one sample."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from trainer.data.inventory import Skipped
from trainer.data.pillow import SUFFIXES
from trainer.data.sources import Member, Members
from trainer.data.table_columns import Part, TableColumns
from trainer.data.tar import read_index
from trainer.data.tree import is_hidden
from trainer.errors import ConfigError, Problem

KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)  # up to the first dot of the file's name, and the ending
TEXT = ("cls", "cls2", "class", "label", "index", "id", "txt", "text", "transcript")  # endings of cells
JSON = ("json", "jsn")
IMAGE = "image"  # name of the column where no sample has more than one image


class Samples:
    """The samples of some shards.

    Attributes:
        rows: The name of each sample.
        cells: Its cells, by column.
        images: Its images, by the ending of their names.
        splits: Its split.
        not_text: Endings and JSON keys that are neither cells nor images.
        skipped: Members that belong to no sample with an image.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.rows: list[str] = []
        self.cells: list[dict[str, str]] = []
        self.images: list[dict[str, Member]] = []
        self.splits: list[str] = []
        self.not_text: dict[str, None] = {}
        self.skipped: list[Skipped] = []

    def add(self, shard: Path, split: str | None) -> None:
        """Add the samples of a shard."""
        index = read_index(shard, self.key)
        self.skipped += [item._replace(name=f"{shard.name}/{item.name}") for item in index.skipped]
        samples: dict[str, dict[str, Member]] = {}
        for name, member in index.files.items():
            matched = KEY.fullmatch(name)
            if any(map(is_hidden, name.split("/"))):
                self.skipped.append(Skipped(f"{shard.name}/{name}", "hidden"))
            elif matched is None:
                self.skipped.append(Skipped(f"{shard.name}/{name}", "without ending"))
            elif samples.setdefault(matched[1], {}).setdefault(matched[2].lower(), member) is not member:
                text = f"holds {name!r} and {samples[matched[1]][matched[2].lower()].name!r}, two of the same sample and kind"
                raise ConfigError(Problem(self.key, str(shard), text, "rename or remove one of them"))
        for sample, by_ending in samples.items():
            name = f"{shard.name}/{sample}"
            images = {e: m for e, m in by_ending.items() if f".{e.rpartition('.')[2]}" in SUFFIXES}
            if not images:
                self.skipped.append(Skipped(name, "without image", named=True))
                continue
            self.rows.append(name)
            self.cells.append(self._cells(name, {e: m for e, m in by_ending.items() if e not in images}))
            self.images.append(images)
            self.splits.append(split or "")

    def _cells(self, name: str, members: dict[str, Member]) -> dict[str, str]:
        cells: dict[str, str] = {}
        for ending, member in members.items():
            last = ending.rpartition(".")[2]
            if last in TEXT or last in JSON:
                try:
                    text = member.read_bytes().decode()
                    values = json.loads(text) if last in JSON else {ending: text}
                except ValueError as error:
                    raise ConfigError(Problem(self.key, f"{name}.{ending}", f"cannot be read: {error}")) from None
                for column, value in (values if isinstance(values, dict) else {ending: values}).items():
                    self._set(cells, column if column not in members or last in TEXT else f"{ending}.{column}", value)
            else:
                self.not_text[ending] = None
        return cells

    def _set(self, cells: dict[str, str], column: str, value: object) -> None:
        if isinstance(value, list | dict):
            self.not_text[column] = None
        else:
            cells[column] = "" if value is None else str(value).strip()


def read_shards(path: Path, parts: Sequence[Part], key: str) -> TableColumns:
    """Read WebDataset shards: a row is a sample that has an image.

    A member ``0001.cls`` or ``0001.txt`` is a cell of the column ``cls`` or ``txt``, the keys of ``0001.json`` are columns of
    their own. The images are the column ``image`` or, where a sample has several, columns called like their endings.

    Args:
        path: The file or directory that the user has named.
        parts: The shards and their splits.
        key: The key of the config that names it.

    Raises:
        ConfigError: A shard cannot be read, or there are no samples.
    """
    samples = Samples(path, key)
    for shard, split in parts:
        samples.add(shard, split)
    if not samples.rows or not any(samples.cells):
        hint = "a tar archive of class directories is read by data=folder data.root=<archive>"
        text = "contains no image of a known ending with a member for its label, such as 0001.jpg with 0001.cls"
        raise ConfigError(Problem(key, str(path), text, hint))
    names = dict.fromkeys(name for row in samples.cells for name in row)
    columns = {name: [row.get(name, "") for row in samples.cells] for name in names}
    not_text = tuple(name for name in samples.not_text if name not in columns)
    splits = samples.splits if any(samples.splits) else None
    images = {name: lambda members=members: members for name, members in _image_columns(samples).items()}
    return TableColumns(path, columns, samples.rows, not_text, images, splits, {}, tuple(samples.skipped))


def _image_columns(samples: Samples) -> dict[str, Members]:
    if all(len(images) == 1 for images in samples.images):
        return {IMAGE: Members.of(member for images in samples.images for member in images.values())}
    endings = dict.fromkeys(ending for images in samples.images for ending in images)
    absent = [next(iter(images.values()))._replace(length=0) for images in samples.images]
    return {
        ending: Members.of(images.get(ending, none) for images, none in zip(samples.images, absent, strict=True))
        for ending in endings
    }
