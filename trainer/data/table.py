"""Images in a table or listed in one, with their labels and, optionally, their split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np

from trainer.data.images import ImageFiles
from trainer.data.inventory import Inventory, Skipped, shortened
from trainer.data.label_columns import label_columns
from trainer.data.own import Table
from trainer.data.pillow import SUFFIXES
from trainer.data.readable import check_readable, image_files
from trainer.data.sources import Members, Source, as_path, relative, take
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
    nothing and the splits equal those of a directory with the same images; images in the table keep its order.
    """
    rows = Rows(option, known)
    rows.check_labels()
    rows.leave_out_repeated()
    rows.check_files()
    order = rows.order()
    files = image_files(option, take(rows.paths, order), rows.codes[order], rows.columns(order))
    readable, unreadable = check_readable(files, rows.base)
    files, splits = files.subset(np.flatnonzero(readable)), np.array(rows.splits)[order][readable]
    skipped = (*rows.table.skipped, *rows.skipped.values(), *unreadable)
    inventory = Inventory(len(files), skipped, "rows")
    notes = (str(inventory), *rows.notes(files))
    if not rows.has_splits and known is not None:
        return RawSplits(files, None, None, rows.classes, notes, rows.named)
    if not rows.has_splits:
        result = hold_out_test(option, files, rows.classes)
        return result._replace(notes=(*notes, *result.notes), targets=rows.named)
    parts = {split: files.subset(np.flatnonzero(splits == split)) for split in SPELLINGS}
    if not len(parts["train"]) and known is None:
        where = f"column {rows.split_column!r} of " if rows.split_column else ""
        text = f"{where}{rows.table.path.name} has no usable row of the training split"
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
        splits: The split of each row; ``""`` without splits, and of rows that are left out.
        image_column: Name of the column with the images or their paths.
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
        self.codes = values[by_class.name] if by_class else np.zeros(len(self.table.rows), np.int64)
        self.classes = by_class.classes if by_class else ()
        self.named = () if isinstance(option.labels, str) else tuple(each.target for each in self.targets)
        self.skipped: dict[int, Skipped] = {}
        self.split_column = self._split_column()
        self.splits = self._splits()
        self.image_column = self.table.image_column("data.images", option.images)
        self.paths = self._paths()

    def _paths(self) -> Sequence[Source]:
        if self.image_column in self.table.images:
            return self.table.images[self.image_column]()
        return ImagePaths(self.base).find(self.table.column("data.images", self.image_column))

    def order(self) -> list[int]:
        """Return the rows that are used, by class and path; images in archives in the order of the table."""
        paths = self.paths
        if isinstance(paths, Members):
            return sorted(self.kept(), key=lambda row: self.codes[row])
        return sorted(self.kept(), key=lambda row: (self.codes[row], as_path(paths[row])))

    def kept(self) -> list[int]:
        return [row for row in range(len(self.paths)) if row not in self.skipped]

    def _split_column(self) -> str | None:
        option = self.option
        if option.split not in ("none", "auto"):
            return option.split
        return "split" if option.split == "auto" and "split" in self.table.columns and not self.table.splits else None

    @property
    def has_splits(self) -> bool:
        return self.split_column is not None or (self.option.split == "auto" and self.table.splits is not None)

    def _splits(self) -> list[str]:
        if self.split_column is None:
            return self._splits_of_files() if self.has_splits else [""] * len(self.table.rows)
        cells = self.table.column("data.split", self.split_column)
        splits = [split_name(cell) for cell in cells]
        wrong = [row for row, split in enumerate(splits) if split is None]
        allowed = ", ".join(name for names in SPELLINGS.values() for name in names)
        hint = "data.split=none holds out at random"
        self.table.refuse(wrong, self.split_column, f"must be one of {allowed}", hint)
        return [str(split) for split in splits]

    def _splits_of_files(self) -> list[str]:
        """The split of each row by its file; those of further splits, such as ``unsupervised``, are left out."""
        assert self.table.splits is not None
        splits = [split_name(name) for name in self.table.splits]
        for row, split in enumerate(splits):
            if split is None:
                self.skipped[row] = Skipped(self.table.rows[row], f"in the split {self.table.splits[row]!r}")
        return [split or "" for split in splits]

    def columns(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Return the values of the named targets of some rows."""
        return {each.target.name: each.values[rows] for each in self.targets} if self.named else {}

    def check_labels(self) -> None:
        """Leave out rows without labels; refuse those of the only target, unless they are test rows, and unknown classes."""
        without = np.flatnonzero(np.all([each.missing for each in self.targets], 0)).tolist()
        unlabeled = [row for row in without if row not in self.skipped]
        alone = self.targets[0].spec.alone
        for row in unlabeled:
            in_test = self.splits[row] == "test"
            if in_test or not alone:
                reason = "without label in the test split" if in_test else "without any label"
                self.skipped[row] = Skipped(self.table.rows[row], reason)
        for each in self.targets:
            column = each.spec.columns[0]
            if alone:
                hint = "empty: none = an image without labels" if each.spec.delimiter else ""
                refused = [row for row in unlabeled if row not in self.skipped]
                self.table.refuse(refused, column, "has no label", hint)
            if each.missing.all() and self.known is None:
                self.table.refuse(self.kept(), column, "has no value")
            if self.has_splits and self.known is None and each.target.kind == "classification":
                trained = {int(each.values[row]) for row in self.kept() if self.splits[row] == "train"}
                unknown = [row for row in self.kept() if int(each.values[row]) not in {MISSING_CLASS, *trained}]
                self.table.refuse(unknown, column, "is a class that no row of the training split has")

    def leave_out_repeated(self) -> None:
        """Leave out rows that repeat another one; refuse those that contradict another one about the same image."""
        first: dict[Source, int] = {}
        if isinstance(self.paths, Members):
            return  # each row has bytes of its own
        for row in self.kept():
            other = first.setdefault(self.paths[row], row)
            if other == row:
                continue
            text = f"contradicts {self.table.rows[other]} about the image {self._name(row)!r}"
            for each in self.targets:
                if each.differ(row, other):
                    cells = ((column, self.table.columns[column]) for column in each.spec.columns)
                    column = next(column for column, values in cells if values[row] != values[other])
                    self.table.refuse([row], column, text)
            if self.split_column is not None and self.splits[row] != self.splits[other]:
                self.table.refuse([row], self.split_column, text)
            self.skipped[row] = Skipped(self.table.rows[row], "repeated")

    def _name(self, row: int) -> str:
        """The image of a row as the table names it."""
        cells = self.table.columns.get(self.image_column)
        return cells[row] if cells else str(self.paths[row])

    def check_files(self) -> None:
        """Refuse rows whose file does not exist, or leave them out with ``on_error=skip``."""
        if isinstance(self.paths, Members):
            return
        missing = [row for row in self.kept() if isinstance(path := self.paths[row], Path) and not path.is_file()]
        if self.option.on_error == "skip":
            for row in missing:
                name = relative(self.paths[row], self.base)
                self.skipped[row] = Skipped(name, "without a file", named=True)
            return
        hint = (
            f"paths are relative to {self.base}; data.root=<directory> changes that, data.on_error=skip leaves them out"
        )
        text = "names no file"
        self.table.refuse(missing, self.image_column, text, hint)

    def notes(self, files: ImageFiles) -> list[str]:
        """Return which columns are used, and which are not, and what the targets of the images are."""
        labels = [column for each in self.targets for column in each.spec.columns]
        named = [self.image_column, *labels, *([self.split_column] if self.split_column else [])]
        used = list(dict.fromkeys(named))
        unused = [name for name in (*self.table.names, *self.table.not_text) if name not in used]
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
