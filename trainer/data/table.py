"""Image files listed in a table, with their labels and, optionally, their split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

import numpy as np

from trainer.data.images import ImageFiles
from trainer.data.inventory import Inventory, Skipped, shortened
from trainer.data.label_columns import label_columns
from trainer.data.own import Table
from trainer.data.pillow import SUFFIXES
from trainer.data.readable import check_readable, image_files, relative
from trainer.data.split_names import SPELLINGS, split_name
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.data.table_file import read_table
from trainer.data.table_targets import read_target
from trainer.data.targets import MISSING_CLASS, Known, class_target, summary
from trainer.errors import ConfigError, Problem


def read(option: Table, known: Known | None = None) -> RawSplits:
    """Read the splits of a table, see ``trainer.data.Table``.

    Args:
        option: The data set.
        known: The classes that a trained network knows, of which not all have to occur: then nothing is held out. None
            for the classes of the table.

    Rows are sorted by class, of the first target that has classes, and by path, so that their order in the table changes
    nothing and the splits equal those of a directory with the same images.
    """
    rows = Rows(option, known)
    rows.check_labels()
    rows.leave_out_repeated()
    rows.check_files()
    order = sorted(rows.kept(), key=lambda row: (rows.codes[row], rows.paths[row]))
    paths = [rows.paths[row] for row in order]
    files = image_files(option, paths, rows.codes[order], rows.columns(order))
    readable, unreadable = check_readable(files, rows.base)
    files, splits = files.subset(np.flatnonzero(readable)), np.array(rows.splits)[order][readable]
    inventory = Inventory(len(files), (*rows.skipped.values(), *unreadable), "rows")
    notes = (str(inventory), *rows.notes(files))
    if rows.split_column is None and known is not None:
        return RawSplits(files, None, None, rows.classes, notes, rows.named)
    if rows.split_column is None:
        result = hold_out_test(option, files, rows.classes)
        return result._replace(notes=(*notes, *result.notes), targets=rows.named)
    parts = {split: files.subset(np.flatnonzero(splits == split)) for split in SPELLINGS}
    if not len(parts["train"]) and known is None:
        text = f"column {rows.split_column!r} of {rows.table.path.name} has no usable row of the training split"
        raise ConfigError(Problem("data.split", option.split, text))
    return RawSplits(
        parts["train"], parts["validation"] or None, parts["test"] or None, rows.classes, notes, rows.named
    )


class Rows:
    """The rows of a table while they are checked.

    Attributes:
        table: The file.
        base: The directory that image paths are relative to.
        targets: The targets and their values.
        codes: The class of each row, of the first target that has classes; 0 if there is none.
        classes: The names of these classes.
        named: The targets, unless the table holds classes alone.
        split_column: Name of the column with the split of each row, or None.
        splits: The split of each row; without that column, ``""``.
        paths: The image of each row.
        skipped: Rows that are not used, by index.
    """

    def __init__(self, option: Table, known: Known | None = None) -> None:
        self.option, self.table = option, read_table(Path(option.path).expanduser())
        self.base = Path(option.root).expanduser() if option.root else self.table.path.parent
        if not self.base.is_dir():
            raise ConfigError(Problem("data.root", option.root, "no such directory"))
        self.known = known
        self.targets = [read_target(self.table, spec, known or {}) for spec in label_columns(option.labels)]
        by_class = class_target([each.target for each in self.targets])
        values = {each.target.name: each.values for each in self.targets}
        self.codes = values[by_class.name] if by_class else np.zeros(len(self.table.numbers), np.int64)
        self.classes = by_class.classes if by_class else ()
        self.named = () if isinstance(option.labels, str) else tuple(each.target for each in self.targets)
        self.split_column = self._split_column()
        self.splits = self._splits()
        self.paths = ImagePaths(self.base).find(self.table.column("data.images", option.images))
        self.skipped: dict[int, Skipped] = {}

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
        hint = "data.split=none holds out at random"
        self.table.refuse(wrong, self.split_column, f"must be one of {allowed}", hint)
        return [str(split) for split in splits]

    def columns(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Return the values of the named targets of some rows."""
        return {each.target.name: each.values[rows] for each in self.targets} if self.named else {}

    def check_labels(self) -> None:
        """Leave out rows without labels; refuse those of the only target, unless they are test rows, and unknown classes."""
        unlabeled = np.flatnonzero(np.all([each.missing for each in self.targets], 0)).tolist()
        alone = self.targets[0].spec.alone
        for row in unlabeled:
            in_test = self.splits[row] == "test"
            if in_test or not alone:
                reason = "without label in the test split" if in_test else "without any label"
                self.skipped[row] = Skipped(f"row {self.table.numbers[row]}", reason)
        for each in self.targets:
            column = each.spec.columns[0]
            if alone:
                hint = "empty: none = an image without labels" if each.spec.delimiter else ""
                refused = [row for row in unlabeled if row not in self.skipped]
                self.table.refuse(refused, column, "has no label", hint)
            if each.missing.all() and self.known is None:
                self.table.refuse(self.kept(), column, "has no value")
            if self.split_column is not None and self.known is None and each.target.kind == "classification":
                trained = {int(each.values[row]) for row in self.kept() if self.splits[row] == "train"}
                unknown = [row for row in self.kept() if int(each.values[row]) not in {MISSING_CLASS, *trained}]
                self.table.refuse(unknown, column, "is a class that no row of the training split has")

    def leave_out_repeated(self) -> None:
        """Leave out rows that repeat another one; refuse those that contradict another one about the same image."""
        first: dict[Path, int] = {}
        names = self.table.columns[self.option.images]
        for row in self.kept():
            other = first.setdefault(self.paths[row], row)
            if other == row:
                continue
            text = f"contradicts row {self.table.numbers[other]} about the image {names[row]!r}"
            for each in self.targets:
                if each.differ(row, other):
                    cells = ((column, self.table.columns[column]) for column in each.spec.columns)
                    column = next(column for column, values in cells if values[row] != values[other])
                    self.table.refuse([row], column, text)
            if self.split_column is not None and self.splits[row] != self.splits[other]:
                self.table.refuse([row], self.split_column, text)
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
        self.table.refuse(missing, self.option.images, text, hint)

    def notes(self, files: ImageFiles) -> list[str]:
        """Return which columns are used, and which are not, and what the targets of the images are."""
        option = self.option
        labels = [column for each in self.targets for column in each.spec.columns]
        named = [option.images, *labels, *([self.split_column] if self.split_column else [])]
        used = list(dict.fromkeys(named))
        unused = [name for name in self.table.columns if name not in used]
        text = f"columns {', '.join(used)} are used" + (f", not {shortened(unused, 10)}" if unused else "")
        targets = "; ".join(summary(target, files.target(target.name)) for target in self.named)
        return [text, f"targets: {targets}"] if targets else [text]


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
