"""Image files listed in a table, with their labels and, optionally, their split.

``read_targets`` returns one ``ClassColumn`` per named column; a data set with several targets (``data.labels=[a,b]``) calls it
with all names, gives ``Rows`` the tuple of their codes, and needs a place for more than one label per image in ``Images``.
An empty cell has the code ``MISSING``; ``Rows.check_labels`` decides what that means, for a single target an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from trainer.data.inventory import Inventory, Skipped, shortened
from trainer.data.own import Table
from trainer.data.pillow import SUFFIXES
from trainer.data.readable import check_readable, image_files, relative
from trainer.data.split_names import SPELLINGS, class_name, split_name
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.data.table_file import TableFile, read_table
from trainer.errors import ConfigError, Problem

NAMED_ROWS = 5  # rows that an error names
MISSING = -1


@dataclass(frozen=True)
class ClassColumn:
    """A column of class names: ``names`` are sorted, ``codes`` (N,) index them; ``MISSING`` stands for an empty cell."""

    names: tuple[str, ...]
    codes: np.ndarray


def read_targets(table: TableFile, columns: Iterable[str], key: str = "data.labels") -> dict[str, ClassColumn]:
    """Return the classes of each of the named columns, in the order of the names."""
    targets = {}
    for column in columns:
        cells = [class_name(cell) for cell in table.column(key, column)]
        names = tuple(sorted(set(cells) - {""}))
        index = {"": MISSING} | {name: i for i, name in enumerate(names)}
        targets[column] = ClassColumn(names, np.array([index[cell] for cell in cells], np.int64))
    return targets


def read(option: Table, known: tuple[str, ...] | None = None) -> RawSplits:
    """Read the splits of a table, see ``trainer.data.Table``.

    Args:
        option: The data set.
        known: The classes that a trained network knows, of which not all have to occur: then nothing is held out. None
            for the classes of the table.

    Rows are sorted by class and path, so that their order in the table changes nothing and the splits equal those of a
    directory with the same images.
    """
    rows = Rows(option, known)
    rows.check_labels()
    rows.leave_out_repeated()
    rows.check_files()
    order = sorted(rows.kept(), key=lambda row: (rows.target.codes[row], rows.paths[row]))
    paths = [rows.paths[row] for row in order]
    files = image_files(option, paths, rows.target.codes[order])
    readable, unreadable = check_readable(files, rows.base)
    files, splits = files.subset(np.flatnonzero(readable)), np.array(rows.splits)[order][readable]
    inventory = Inventory(len(files), (*rows.skipped.values(), *unreadable), "rows")
    classes, notes = rows.target.names, (str(inventory), *rows.notes())
    if rows.split_column is None and known is not None:
        return RawSplits(files, None, None, classes, notes)
    if rows.split_column is None:
        return hold_out_test(option, files, classes)._replace(notes=notes)
    parts = {split: files.subset(np.flatnonzero(splits == split)) for split in SPELLINGS}
    if not len(parts["train"]) and known is None:
        text = f"column {rows.split_column!r} of {rows.table.path.name} has no usable row of the training split"
        raise ConfigError(Problem("data.split", option.split, text))
    return RawSplits(parts["train"], parts["validation"] or None, parts["test"] or None, classes, notes)


class Rows:
    """The rows of a table while they are checked.

    Attributes:
        table: The file.
        base: The directory that image paths are relative to.
        target: The classes.
        split_column: Name of the column with the split of each row, or None.
        splits: The split of each row; without that column, ``""``.
        paths: The image of each row.
        skipped: Rows that are not used, by index.
    """

    def __init__(self, option: Table, known: tuple[str, ...] | None = None) -> None:
        self.option, self.table = option, read_table(Path(option.path).expanduser())
        self.base = Path(option.root).expanduser() if option.root else self.table.path.parent
        if not self.base.is_dir():
            raise ConfigError(Problem("data.root", option.root, "no such directory"))
        self.target, self.known = read_targets(self.table, [option.labels])[option.labels], known
        if known is not None:
            self.target = self._as_known(known)
        self.split_column = self._split_column()
        self.splits = self._splits()
        self.paths = ImagePaths(self.base).find(self.table.column("data.images", option.images))
        self.skipped: dict[int, Skipped] = {}

    def _as_known(self, known: tuple[str, ...]) -> ClassColumn:
        """Return the classes in the order of those a network knows."""
        own, column = self.target, self.option.labels
        unknown = [row for row, code in enumerate(own.codes) if code != MISSING and own.names[code] not in known]
        text = f"is not a class of the checkpoint ({shortened(known, 20)})"
        self._refuse(unknown, column, text, self.table.columns[column])
        codes = np.array([*(known.index(name) for name in own.names), MISSING], np.int64)
        return ClassColumn(known, codes[own.codes])

    def kept(self) -> list[int]:
        return [row for row in range(len(self.paths)) if row not in self.skipped]

    def _split_column(self) -> str | None:
        option = self.option
        if option.split == "none" or (option.split == "auto" and "split" not in self.table.columns):
            return None
        return "split" if option.split == "auto" else option.split

    def _splits(self) -> list[str]:
        if self.split_column is None:
            return [""] * len(self.table.numbers)
        cells = self.table.column("data.split", self.split_column)
        splits = [split_name(cell) for cell in cells]
        wrong = [row for row, split in enumerate(splits) if split is None]
        allowed = ", ".join(name for names in SPELLINGS.values() for name in names)
        self._refuse(
            wrong, self.split_column, f"must be one of {allowed}", cells, "data.split=none holds out at random"
        )
        return [str(split) for split in splits]

    def check_labels(self) -> None:
        """Leave out unlabeled test rows; refuse other empty labels, and classes without training rows."""
        column, codes = self.option.labels, self.target.codes
        unlabeled = np.flatnonzero(codes == MISSING).tolist()
        for row in unlabeled:
            if self.splits[row] == "test":
                self.skipped[row] = Skipped(f"row {self.table.numbers[row]}", "without label in the test split")
        cells = self.table.columns[column]
        self._refuse([row for row in unlabeled if row not in self.skipped], column, "has no label", cells)
        if self.split_column is not None and self.known is None:
            trained = {int(codes[row]) for row in self.kept() if self.splits[row] == "train"}
            unknown = [row for row in self.kept() if int(codes[row]) not in trained]
            text = "is a class that no row of the training split has"
            self._refuse(unknown, column, text, cells)

    def leave_out_repeated(self) -> None:
        """Leave out rows that repeat another one; refuse those that contradict another one about the same image."""
        first: dict[Path, int] = {}
        names = self.table.columns[self.option.images]
        for row in self.kept():
            other = first.setdefault(self.paths[row], row)
            if other == row:
                continue
            for column, values in ((self.option.labels, self.target.codes), (self.split_column, self.splits)):
                text = f"contradicts row {self.table.numbers[other]} about the image {names[row]!r}"
                if column is not None and values[other] != values[row]:
                    self._refuse([row], column, text, self.table.columns[column])
            self.skipped[row] = Skipped(f"row {self.table.numbers[row]}", "repeated")

    def check_files(self) -> None:
        """Refuse rows whose file does not exist, or leave them out with ``on_error=skip``."""
        missing = [row for row in self.kept() if not self.paths[row].is_file()]
        if self.option.on_error == "skip":
            for row in missing:
                name = relative(self.paths[row], self.base)
                self.skipped[row] = Skipped(name, "without a file", named=True)
            return
        hint = (
            f"paths are relative to {self.base}; data.root=<directory> changes that, data.on_error=skip leaves them out"
        )
        text = "names no file"
        self._refuse(missing, self.option.images, text, self.table.columns[self.option.images], hint)

    def _refuse(self, rows: list[int], column: str, text: str, cells: list[str], hint: str = "") -> None:
        """Raise a ConfigError about rows, if there are any; it counts all and names the first ones."""
        if not rows:
            return
        listed = shortened([f"row {self.table.numbers[row]} ({cells[row]!r})" for row in rows], NAMED_ROWS)
        text = f"column {column!r} {text} in {len(rows):,} of {len(cells):,} rows: {listed}"
        raise ConfigError(Problem("data.path", str(self.table.path), text, hint))

    def notes(self) -> list[str]:
        """Return which columns are used, and which are not."""
        option = self.option
        used = [option.images, option.labels, *([self.split_column] if self.split_column else [])]
        unused = [name for name in self.table.columns if name not in used]
        return [f"columns {', '.join(used)} are used" + (f", not {shortened(unused, 10)}" if unused else "")]


class ImagePaths:
    """Finds the files that the cells of a table name, with or without the ending of the file name."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.by_stem: dict[Path, dict[str, list[Path]]] = {}

    def find(self, names: Iterable[str]) -> list[Path]:
        """Return the path of each image, whether or not it exists."""
        return [self._find(name) for name in names]

    def _find(self, name: str) -> Path:
        path = self.base / name
        if not name or path.is_file():
            return path
        if "\\" in name:
            path = self.base / PureWindowsPath(name).as_posix()
            if path.is_file():
                return path
        candidates = self._stems(path.parent).get(path.name, [])
        return candidates[0] if len(candidates) == 1 else path

    def _stems(self, directory: Path) -> dict[str, list[Path]]:
        """Return the images of a directory by their names without the ending."""
        if directory not in self.by_stem:
            stems: dict[str, list[Path]] = defaultdict(list)
            for path in sorted(directory.iterdir()) if directory.is_dir() else ():
                if path.suffix.lower() in SUFFIXES:
                    stems[path.stem].append(path)
            self.by_stem[directory] = stems
        return self.by_stem[directory]


__all__ = ["MISSING", "ClassColumn", "read", "read_targets"]
