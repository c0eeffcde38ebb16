"""Tables as columns of text and images: CSV and TSV files, and whatever else holds rows."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from trainer.data import arrow_images, arrow_tables, shards
from trainer.data.inventory import shortened
from trainer.data.split_names import file_split
from trainer.data.table_columns import Part, TableColumns
from trainer.data.tar import is_tar
from trainer.data.tree import is_hidden
from trainer.errors import ConfigError, Problem

DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t", ".txt": "\t,;"}  # by suffix, the most likely one first
OTHERS = (".parquet", ".pq", ".arrow", ".tar")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_table(path: Path, key: str = "data.path") -> TableColumns:
    """Read a table; ``key`` is the key of the config that names it.

    The delimiter of a .csv file is the comma, or the semicolon or tab if the header contains it instead. Text is UTF-8, or
    UTF-16 with a byte order mark.

    Raises:
        ConfigError: The file is missing or empty or is not a table, or a row has another number of cells than the header.
    """
    if path.is_dir():
        return _read_directory(path, key)
    if not path.is_file():
        raise ConfigError(Problem(key, str(path), "no such file"))
    suffix = path.suffix.lower()
    if is_tar(path):
        return shards.read_shards(path, [Part(path, None)], key)
    if suffix in OTHERS:
        return arrow_tables.read_arrow(path, [Part(path, None)], key)
    if suffix not in DELIMITERS:
        text = f"must be a table: {', '.join((*DELIMITERS, *OTHERS))}, or a directory of the latter"
        raise ConfigError(Problem(key, str(path), text))
    return _parse(path, key, _decode(path, key), DELIMITERS[suffix])


def _read_directory(path: Path, key: str) -> TableColumns:
    """Read a data set saved by ``datasets``, or a directory of Parquet files or of WebDataset shards."""
    if arrow_tables.is_saved(path):
        return arrow_tables.read_arrow(path, arrow_tables.saved_parts(path, key), key)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    files = [file for file in files if not any(map(is_hidden, file.relative_to(path).parts))]
    parquet = [file for file in files if arrow_images.is_parquet(file)]
    archives = [file for file in files if is_tar(file)]
    if bool(parquet) == bool(archives):
        found = "both Parquet files and tar archives" if parquet else "neither Parquet files nor tar archives"
        tables = [file.relative_to(path).as_posix() for file in files if file.suffix.lower() in DELIMITERS]
        hint = f"name a file: {shortened(tables, 5)}" if tables else "a directory of images is data=folder"
        raise ConfigError(
            Problem(key, str(path), f"contains {found}, and datasets has not saved a data set in it", hint)
        )
    parts = [
        Part(file, file_split(file.stem, file.parent.name if file.parent != path else ""))
        for file in parquet or archives
    ]
    without = [part.file.relative_to(path).as_posix() for part in parts if part.split is None]
    if without and len(without) < len(parts):
        text = f"names the split of some of its files, but not of {shortened(without, 5)}"
        raise ConfigError(Problem(key, str(path), text, "such as train-0000.tar, test-0000.tar, or train/0000.tar"))
    read = arrow_tables.read_arrow if parquet else shards.read_shards
    return read(path, parts, key)


def _decode(path: Path, key: str) -> str:
    data = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        hint = "save it as UTF-8, such as by: iconv -f latin1 -t utf-8 labels.csv > utf8.csv"
        raise ConfigError(Problem(key, str(path), f"row {row} is not UTF-8 text", hint)) from None


def _parse(path: Path, key: str, text: str, delimiters: str) -> TableColumns:
    header = text.lstrip().splitlines()[0] if text.strip() else ""
    delimiter = next((mark for mark in delimiters if mark in header), delimiters[0])
    # newline="" leaves line breaks within quoted cells as they are.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        records = list(reader)
    except csv.Error as error:
        hint = "is a quotation mark not closed?"
        raise ConfigError(Problem(key, str(path), f"line {reader.line_num} cannot be read: {error}", hint)) from None
    rows = [(number, [cell.strip() for cell in record]) for number, record in enumerate(records, 1)]
    rows = [(number, cells) for number, cells in rows if any(cells)]  # blank lines are no rows
    if len(rows) < 2:
        raise ConfigError(Problem(key, str(path), "contains no rows below a header"))
    names = rows[0][1]
    ragged = [number for number, cells in rows[1:] if len(cells) != len(names)]
    if ragged:
        number, cells = next(row for row in rows if row[0] == ragged[0])
        text = f"row {number} has {len(cells)} cells, the header has {len(names)}: {', '.join(names)}"
        hint = (
            f"so do {len(ragged) - 1} other rows" if len(ragged) > 1 else "a cell that contains the delimiter is quoted"
        )
        raise ConfigError(Problem(key, str(path), text, hint))
    columns = list(zip(*(cells for _, cells in rows[1:]), strict=True))
    return _table(path, key, names, [list(column) for column in columns], [number for number, _ in rows[1:]])


def _table(path: Path, key: str, names: list[str], columns: list[list[str]], numbers: list[int]) -> TableColumns:
    # The unnamed first column is the index that pandas writes.
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise ConfigError(Problem(key, str(path), f"has several columns of the name {', '.join(repeated)}"))
    rows = [f"row {number}" for number in numbers]
    return TableColumns(path, {n: c for n, c in zip(names, columns, strict=True) if n}, rows)
