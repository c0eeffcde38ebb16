"""Tables in CSV, TSV and Parquet files as columns of text, with the number of each row."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from trainer.data.inventory import shortened
from trainer.errors import ConfigError, Problem, first_line, nearest

NAMED_ROWS = 5  # rows that an error names
DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t", ".txt": "\t,;"}  # by suffix, the most likely one first
PARQUET = (".parquet", ".pq")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TableFile:
    """A table whose cells are text without surrounding white space; an empty or missing cell is ``""``.

    Attributes:
        path: The file.
        columns: The cells of each column, by its name.
        numbers: The number of each row as a spreadsheet shows it: the header is row 1.
        not_text: Names of further columns, which hold nested values or bytes.
    """

    path: Path
    columns: dict[str, list[str]]
    numbers: list[int]
    not_text: tuple[str, ...] = ()

    def column(self, key: str, name: str) -> list[str]:
        """Return the cells of the column that the key ``key`` of the config names.

        Raises:
            ConfigError: There is no such column; the error lists the columns.
        """
        if name in self.columns:
            return self.columns[name]
        if name in self.not_text:
            text, hint = "holds nested values or bytes, not text", "encoded images are read by data=hf"
            raise ConfigError(Problem(key, name, text, hint))
        listed = f"{self.path.name} has the columns {', '.join(self.columns)}"
        hint = "; ".join(filter(None, (nearest(name, self.columns), listed)))
        raise ConfigError(Problem(key, name, "is not a column of the table", hint))

    def refuse(self, rows: list[int], column: str, text: str, hint: str = "") -> None:
        """Raise a ConfigError about rows, if there are any; it counts all and names the first ones."""
        if not rows:
            return
        cells = self.columns[column]
        listed = shortened([f"row {self.numbers[row]} ({cells[row]!r})" for row in rows], NAMED_ROWS)
        text = f"column {column!r} {text} in {len(rows):,} of {len(cells):,} rows: {listed}"
        raise ConfigError(Problem("data.path", str(self.path), text, hint))


def read_table(path: Path, key: str = "data.path") -> TableFile:
    """Read a table; ``key`` is the key of the config that names it.

    The delimiter of a .csv file is the comma, or the semicolon or tab if the header contains it instead. Text is UTF-8, or
    UTF-16 with a byte order mark.

    Raises:
        ConfigError: The file is missing or empty or is not a table, or a row has another number of cells than the header.
    """
    if not path.is_file():
        raise ConfigError(Problem(key, str(path), "no such file"))
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        return _read_parquet(path, key)
    if suffix not in DELIMITERS:
        text = f"must be a table: {', '.join((*DELIMITERS, *PARQUET))}"
        raise ConfigError(Problem(key, str(path), text))
    return _parse(path, key, _decode(path, key), DELIMITERS[suffix])


def _decode(path: Path, key: str) -> str:
    data = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        hint = "save it as UTF-8, such as by: iconv -f latin1 -t utf-8 labels.csv > utf8.csv"
        raise ConfigError(Problem(key, str(path), f"row {row} is not UTF-8 text", hint)) from None


def _parse(path: Path, key: str, text: str, delimiters: str) -> TableFile:
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


def _table(path: Path, key: str, names: list[str], columns: list[list[str]], numbers: list[int]) -> TableFile:
    # The unnamed first column is the index that pandas writes.
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise ConfigError(Problem(key, str(path), f"has several columns of the name {', '.join(repeated)}"))
    return TableFile(path, {n: c for n, c in zip(names, columns, strict=True) if n}, numbers)


def _read_parquet(path: Path, key: str) -> TableFile:
    parquet, types = (import_pyarrow(key, path, module) for module in ("parquet", "types"))
    try:
        fields = list(parquet.read_schema(path))
        not_text = tuple(f.name for f in fields if types.is_nested(f.type) or types.is_binary(f.type))
        table = parquet.read_table(path, columns=[f.name for f in fields if f.name not in not_text])
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        reason = first_line(error)
        raise ConfigError(Problem(key, str(path), f"cannot be read: {reason}")) from None
    if not len(table):
        raise ConfigError(Problem(key, str(path), "contains no rows"))
    columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = _table(path, key, table.column_names, columns, list(range(2, len(table) + 2)))
    return replace(rows, not_text=not_text)


def _text(value: object) -> str:
    """Return a cell as a CSV file would hold it.

    >>> _text(None), _text(float("nan")), _text(3), _text(" ant ")
    ('', '', '3', 'ant')
    """
    return "" if value is None or value != value else str(value).strip()


def import_pyarrow(key: str, path: Path, module: str) -> ModuleType:
    """Return a module of pyarrow; ConfigError if pyarrow is not installed."""
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError:
        text, hint = "needs pyarrow, which is not installed", "pip install 'trainer[hf]'"
        raise ConfigError(Problem(key, str(path), text, hint)) from None
