"""Parquet files and data sets of Hugging Face ``datasets``, saved to disk, as columns of text and encoded images."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.data.arrow_images import holds_images, is_parquet, locate, read_batches
from trainer.data.inventory import shortened
from trainer.data.label_columns import DELIMITER
from trainer.data.sources import Members, Source
from trainer.data.table_columns import Part, TableColumns
from trainer.errors import ConfigError, Problem, first_line

if TYPE_CHECKING:
    import pyarrow as pa


def is_saved(directory: Path) -> bool:
    """Return whether ``datasets`` has saved a data set in a directory."""
    return (directory / "dataset_dict.json").is_file() or (directory / "state.json").is_file()


def saved_parts(directory: Path, key: str) -> list[Part]:
    """Return the files of a data set that ``save_to_disk`` has written; ConfigError if one is missing."""
    try:
        if (directory / "dataset_dict.json").is_file():
            splits = json.loads((directory / "dataset_dict.json").read_text())["splits"]
            parts = [Part(file, split) for split in splits for file in _files(directory / split)]
        else:
            parts = [Part(file, None) for file in _files(directory)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"is not a complete data set of save_to_disk: {first_line(error)}"
        raise ConfigError(Problem(key, str(directory), text)) from None
    missing = [str(part.file.relative_to(directory)) for part in parts if not part.file.is_file()]
    if missing:
        text = f"is not a complete data set of save_to_disk: {shortened(missing, 3)} not found"
        raise ConfigError(Problem(key, str(directory), text))
    return parts


def _files(directory: Path) -> list[Path]:
    state = json.loads((directory / "state.json").read_text())
    return [directory / entry["filename"] for entry in state["_data_files"]]


def read_arrow(path: Path, parts: Sequence[Part], key: str) -> TableColumns:
    """Read the columns of a data set in one or several files.

    Class names are those of a ``ClassLabel``, in its order; -1 is a missing label. A list of class names or of text is a cell
    of names that ``;`` separates.

    Args:
        path: The file or directory that the user has named.
        parts: Its files.
        key: The key of the config that names it.

    Raises:
        ConfigError: pyarrow is not installed, a file cannot be read or has other columns than the first, or there are no rows.
    """
    require_pyarrow(key, path)
    single = path.is_file()
    read = [_read(path, part, key, single) for part in parts]
    for part, content in zip(parts, read, strict=True):
        if sorted(content.names) != sorted(read[0].names) or content.images != read[0].images:
            text = f"{_file(path, part)} has the columns {', '.join(content.names)}, {_file(path, parts[0])} others: "
            raise ConfigError(Problem(key, str(path), text + ", ".join(read[0].names), "name one of the files"))
    columns = {
        name: [cell for content in read for cell in content.cells[name]]
        for name in (read[0].cells if read else ())
        if all(name in content.cells for content in read)
    }
    rows = _row_names(path, parts, [content.count for content in read])
    if not any(map(len, rows)):
        raise ConfigError(Problem(key, str(path), "contains no rows"))
    splits = [part.split or "" for part, names in zip(parts, rows, strict=True) for _ in names]
    places = [(part.file, names) for part, names in zip(parts, rows, strict=True)]
    return TableColumns(
        path,
        columns,
        [name for names in rows for name in names],
        tuple(name for name in read[0].names if name not in columns and name not in read[0].images),
        {name: partial(_images, path, places, name) for name in read[0].images},
        splits if any(splits) else None,
        read[0].classes,
    )


def _file(path: Path, part: Part) -> str:
    return part.file.relative_to(path).as_posix() if path.is_dir() else part.file.name


def _row_names(path: Path, parts: Sequence[Part], counts: list[int]) -> list[list[str]]:
    if path.is_file():  # numbered like the rows of a CSV file, whose first is the header
        return [[f"row {i}" for i in range(2, counts[0] + 2)]]
    seen: dict[str, int] = {}
    names = []
    for part, count in zip(parts, counts, strict=True):
        split, start = part.split or "", seen.get(part.split or "", 0)
        names.append([f"{split}[{i}]" for i in range(start, start + count)])
        seen[split] = start + count
    return names


def _images(path: Path, places: list[tuple[Path, list[str]]], column: str) -> Sequence[Source]:
    located = [locate(file, column, names, path) for file, names in places if names]
    members = [each for each in located if isinstance(each, Members)]
    if len(members) == len(located):
        return Members.joined(members)
    return [source for each in located for source in each]


class _Content(NamedTuple):
    names: list[str]
    cells: dict[str, list[str]]
    images: list[str]
    classes: dict[str, tuple[str, ...]]
    count: int


def _read(path: Path, part: Part, key: str, single: bool) -> _Content:
    import pyarrow as pa

    try:
        schema = _schema(part.file)
        if repeated := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise ValueError(f"it has several columns of the name {', '.join(repeated)}")
        features = _features(schema)
        images = [field.name for field in schema if holds_images(field, features.get(field.name, {}))]
        texts: dict[str, Callable[[Any], str | None]] = {
            field.name: _to_text(features.get(field.name, {}), part.file)
            for field in schema
            if field.name not in images and _is_text(field.type)
        }
        cells: dict[str, list[str | None]] = {name: [] for name in texts}
        count = 0
        for batch in read_batches(part.file, [*texts] or None):
            count += len(batch)
            for name, text in texts.items():
                cells[name] += map(text, batch.column(name).to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        where = "" if single else f"{part.file.name} "
        raise ConfigError(Problem(key, str(path), f"{where}cannot be read: {first_line(error)}")) from None
    columns = {name: [cell for cell in column if cell is not None] for name, column in cells.items()}
    columns = {name: column for name, column in columns.items() if len(column) == count}
    classes = {name: tuple(f["names"]) for name, f in features.items() if "names" in f and name in columns}
    return _Content(list(schema.names), columns, sorted(images), classes, count)


def _schema(file: Path) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if is_parquet(file):
        return parquet.read_schema(file)
    data = pa.memory_map(str(file)).read_buffer()
    opened = pa.ipc.open_file if data.slice(0, 6).to_pybytes() == b"ARROW1" else pa.ipc.open_stream
    return opened(pa.BufferReader(data)).schema


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What ``datasets`` has written of the columns; {} for a file of another origin."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        return types.is_string(inner) or types.is_large_string(inner) or types.is_integer(inner)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (types.is_nested(kind) or is_bytes)


def _to_text(feature: dict[str, Any], file: Path) -> Callable[[Any], str | None]:
    """Return what writes a cell of a column as a CSV file would hold it; None for a list that ``;`` cannot separate."""
    inner = feature.get("feature")
    names = (inner if isinstance(inner, dict) else feature).get("names")

    def text(value: Any) -> str | None:
        if isinstance(value, list):
            parts = [str(text(each)) for each in value]
            return None if any(DELIMITER in part for part in parts) else DELIMITER.join(parts)
        if value is None or value != value:
            return ""
        if names is None:
            return str(value).strip()
        if value >= len(names):
            raise ValueError(f"label {value} of {file.name}, which has {len(names)} class names")
        return names[value].strip() if value >= 0 else ""

    return text


def require_pyarrow(key: str, path: Path) -> None:
    """Raise a ConfigError if pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        text, hint = "needs pyarrow, which is not installed", "pip install 'trainer[hf]'"
        raise ConfigError(Problem(key, str(path), text, hint))
