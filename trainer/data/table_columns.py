"""What every kind of table is read to: columns of text, encoded images, and a name for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trainer.data.inventory import Skipped, shortened
from trainer.data.sources import Source
from trainer.errors import ConfigError, Problem, nearest

NAMED_ROWS = 5  # rows that an error names


class Part(NamedTuple):
    """A file of a table in several files, and the name of its split, if it has one."""

    file: Path
    split: str | None


@dataclass(frozen=True)
class TableColumns:
    """A table whose cells are text without surrounding white space; an empty or missing cell is ``""``.

    Attributes:
        path: The file or directory.
        columns: The cells of each column, by its name.
        rows: The name of each row: ``row 2`` is the first below the header, as a spreadsheet shows it.
        not_text: Names of further columns, which hold nested values or bytes.
        images: What finds the encoded images of each column that holds some, one per row.
        splits: The split of each row, where the table comes in several files; else None.
        classes: Class names in an order of their own, by column.
        skipped: What else the files hold, and why it is no row.
    """

    path: Path
    columns: dict[str, list[str]]
    rows: Sequence[str]
    not_text: tuple[str, ...] = ()
    images: Mapping[str, Callable[[], Sequence[Source]]] = field(default_factory=dict)
    splits: Sequence[str] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns that can be used."""
        return tuple(dict.fromkeys([*self.columns, *self.images]))

    def column(self, key: str, name: str) -> list[str]:
        """Return the cells of the column that the key ``key`` of the config names.

        Raises:
            ConfigError: There is no such column; the error lists the columns.
        """
        if name in self.columns:
            return self.columns[name]
        if name in self.images or name in self.not_text:
            text = "holds encoded images, not text" if name in self.images else "holds nested values or bytes, not text"
            raise ConfigError(Problem(key, name, text, self._listed()))
        hint = "; ".join(filter(None, (nearest(name, self.names), self._listed())))
        raise ConfigError(Problem(key, name, "is not a column of the table", hint))

    def _listed(self) -> str:
        return f"{self.path.name} has the columns {', '.join(self.names)}"

    def image_column(self, key: str, name: str, default: str = "path") -> str:
        """Return the column of images that the key ``key`` names: with ``auto`` the one there is.

        Raises:
            ConfigError: There is no such column or, with ``auto``, none or several.
        """
        if name != "auto":
            return name
        candidates = [*([default] if default in self.columns else []), *self.images]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            return default  # the error about the missing column lists those there are
        text = f"several columns may hold the images: {', '.join(candidates)}"
        raise ConfigError(Problem(key, name, text, " or ".join(f"{key}={each}" for each in candidates)))

    def refuse(self, rows: Sequence[int], column: str, text: str, hint: str = "") -> None:
        """Raise a ConfigError about rows, if there are any; it counts all and names the first ones."""
        if not rows:
            return
        cells = self.columns.get(column)
        listed = shortened([self.rows[row] + (f" ({cells[row]!r})" if cells else "") for row in rows], NAMED_ROWS)
        text = f"column {column!r} {text} in {len(rows):,} of {len(self.rows):,} rows: {listed}"
        raise ConfigError(Problem("data.path", str(self.path), text, hint))
