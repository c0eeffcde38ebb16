"""A directory or tar archive of images: one directory per class, with or without directories of splits above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.data.arrow_tables import is_saved
from trainer.data.images import ImageFiles
from trainer.data.inventory import Inventory, Skipped, shortened
from trainer.data.layout import recognize
from trainer.data.own import Folder
from trainer.data.pillow import SUFFIXES
from trainer.data.readable import check_readable, image_files
from trainer.data.sources import as_path
from trainer.data.split_names import SPELLINGS
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test
from trainer.data.tar import is_tar
from trainer.data.targets import LABEL, Known
from trainer.data.tree import Directory, Tree
from trainer.errors import ConfigError, Problem

NAMED = 5  # names that a message lists


def read_folder(option: Folder, known: Known | None = None) -> RawSplits:
    """Read the names and labels of the files in ``option.root``.

    Args:
        option: The data set.
        known: The classes that a trained network knows, of which not all have to occur: then nothing is held out. None
            for the directories of the training split.

    Raises:
        ConfigError: The directory does not exist, can be read in no or in several ways, a class of the training split has no
            images, another split has a class that the training split does not have, or a file cannot be decoded and
            ``on_error`` is ``raise``.
    """
    root = Path(option.root).expanduser()
    if not option.root or not (root.is_dir() or (root.is_file() and is_tar(root))):
        text = "no such directory" if option.root else "must be given: data.root=<directory>"
        text = "must be a directory, or an uncompressed .tar archive" if root.is_file() else text
        raise ConfigError(Problem("data.root", option.root, text))
    if is_saved(root):
        text, hint = "is a data set that Hugging Face datasets has saved", f"data=table data.path={option.root}"
        raise ConfigError(Problem("data.root", option.root, text, hint))
    reader = FolderReader(option, root, known[LABEL] if known else None)
    train = reader.layout.splits.get("train", reader.layout.splits.get(""))
    assert train is not None  # every layout has one of them
    classes = known[LABEL] if known else reader.class_names(train)
    splits = {split: reader.read(directory, classes, split) for split, directory in reader.layout.splits.items()}
    reader.check_together(splits)
    if "" in splits and known is not None:
        return RawSplits(splits[""], None, None, classes, reader.notes(splits))
    if "" in splits:
        return hold_out_test(option, splits[""], classes)._replace(notes=reader.notes(splits))
    notes = reader.notes(splits)
    validation, test = (splits.get(split) or None for split in ("validation", "test"))  # None if there are no images
    return RawSplits(splits["train"], validation, test, classes, notes)


class FolderReader:
    """Reads the splits of a directory and accounts for every file.

    Attributes:
        tree: Everything in the directory.
        layout: Which directories are splits.
        skipped: Files that are not used.
    """

    def __init__(self, option: Folder, root: Path, known: tuple[str, ...] | None = None) -> None:
        self.option, self.root, self.tree, self.known = option, root, Tree(root), known
        self.layout = recognize(self.tree.root, option.splits)
        self.skipped: list[Skipped] = []
        self.remarks: list[str] = []

    def class_names(self, directory: Directory) -> tuple[str, ...]:
        """Return the names of the classes, one per directory; ConfigError if there are fewer than two, or names are equal."""
        classes = tuple(d.name for d in directory.directories)
        if len(classes) < 2:
            only = f"only {classes[0]!r}" if classes else "none"
            text = f"must contain one directory of images per class, at least two; it contains {only}"
            hint = f"{len(directory.images)} images lie directly in it; data=table reads labels from a table"
            raise ConfigError(Problem("data.root", str(directory.path), text, hint if directory.images else ""))
        equal = sorted({name for name in classes if classes.count(name) > 1})
        if equal:
            text = (
                f"contains several directories of the name {', '.join(equal)}, which differ only in their Unicode form"
            )
            raise ConfigError(Problem("data.root", str(directory.path), text, "merge or rename them"))
        return classes

    def read(self, directory: Directory, classes: tuple[str, ...], split: str) -> ImageFiles:
        """Return the image files of each class, in alphabetical order."""
        training = split in ("", "train") and self.known is None
        paths: list[Path] = []
        labels: list[int] = []
        if not directory.directories and directory.images:
            self._note_unlabeled(directory, split)
        else:
            self._skip(directory.images, "outside class directories")
        self.skipped += directory.others
        self._check_classes(directory, classes)
        for each in directory.directories:
            images = each.all_images()
            if training and not images:
                raise self._empty_class(directory, each)
            self.skipped += each.all_others()
            paths += images
            labels += [classes.index(each.name)] * len(images)
        option = self.option
        return image_files(option, [self.tree.source(path) for path in paths], np.array(labels, np.int64))

    def _note_unlabeled(self, directory: Directory, split: str) -> None:
        self._skip(directory.images, "without class directory")
        self.remarks.append(
            f"{self.tree.name(directory.path)} contains {len(directory.images):,} images and no class directories: it is not"
            f" used as {split} split; job=predict classifies its images"
        )

    def _check_classes(self, directory: Directory, classes: tuple[str, ...]) -> None:
        """Refuse directories of another split that are no classes of the training split."""
        extra = [d.name for d in directory.directories if d.name not in classes]
        if not extra:
            return
        owner = "the training split" if self.known is None else "the checkpoint"
        text = f"contains classes that {owner} does not contain: {shortened(extra, NAMED)}"
        by_case = {name.casefold(): name for name in classes}
        same = [name for name in extra if name.casefold() in by_case]
        hint = f"{owner} has {shortened(classes, 20)}"
        if same:
            hint = f"{same[0]!r} and {by_case[same[0].casefold()]!r} differ only in case: rename one of them"
        raise ConfigError(Problem("data.root", str(directory.path), text, hint))

    def _empty_class(self, directory: Directory, each: Directory) -> ConfigError:
        endings = sorted({item.reason for item in each.all_others() if item.reason != "hidden"})
        text = f"class {each.name!r} contains no images ({', '.join(SUFFIXES[:7])}, ...)"
        hint = (
            f"it contains files of the kinds {', '.join(endings)}" if endings else "remove the directory, or add images"
        )
        return ConfigError(Problem("data.root", str(directory.path), text, hint))

    def _skip(self, paths: list[Path], reason: str) -> None:
        self.skipped += [Skipped(self.tree.name(path), reason) for path in paths]

    def check_together(self, splits: dict[str, ImageFiles]) -> None:
        """Leave out unreadable files of all splits, or refuse them together; account for everything outside the splits."""
        first = next(iter(splits.values()))
        paths = [path for files in splits.values() for path in files.paths]
        labels = np.concatenate([files.labels for files in splits.values()])
        keep, unreadable = check_readable(first.with_files(paths, labels), self.root)
        start = 0
        for split, files in splits.items():
            splits[split] = files.subset(np.flatnonzero(keep[start : start + len(files)]))
            start += len(files)
        self.skipped += unreadable
        self._account_for_the_rest(set(map(as_path, paths)) | {self.root / item.name for item in self.skipped})

    def _account_for_the_rest(self, known: set[Path]) -> None:
        for directory in self.tree.root.walk():
            self._skip([path for path in directory.images if path not in known], "outside the splits")
            self.skipped += [item for item in directory.others if self.root / item.name not in known]

    def notes(self, splits: dict[str, ImageFiles]) -> tuple[str, ...]:
        """Return what was used of the directory, and what was not."""
        used = sum(len(files) for files in splits.values())
        links = [f"not followed, because they lead to what is read anyway: {shortened(self.tree.unfollowed, NAMED)}"]
        empty = [
            f"{directory.path.name} contains no images: it is not used as {split} split"
            for split, directory in self.layout.splits.items()
            if split in SPELLINGS and not directory.holds_images
        ]
        lines = [str(Inventory(used, tuple(self.skipped))), *self.layout.notes, *self.remarks, *empty]
        return tuple(lines + (links if self.tree.unfollowed else []))
