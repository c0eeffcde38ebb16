"""A directory of image files, or one in a tar archive, with everything in it: images, other files, hidden ones, and links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.inventory import Skipped
from trainer.data.pillow import SUFFIXES
from trainer.data.sources import Member, Source
from trainer.data.split_names import class_name
from trainer.data.tar import is_tar, read_index

# Directories that operating systems and network drives make: copies and thumbnails of what lies beside them.
SYSTEM = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__")


@dataclass
class Directory:
    """A directory that is not hidden.

    Attributes:
        path: The path, as it is reached from the root.
        images: Image files directly in it, by the ending of their names, sorted.
        others: All other files directly in it, and those in hidden directories.
        directories: Its visible directories, sorted by name.
    """

    path: Path
    images: list[Path] = field(default_factory=list)
    others: list[Skipped] = field(default_factory=list)
    directories: list[Directory] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in Unicode's composed form."""
        return class_name(self.path.name)

    def walk(self) -> Iterator[Directory]:
        """Yield the directory and all below."""
        yield self
        for directory in self.directories:
            yield from directory.walk()

    def all_images(self) -> list[Path]:
        """Return the images at any depth, sorted by path."""
        return sorted(path for directory in self.walk() for path in directory.images)

    def all_others(self) -> list[Skipped]:
        """Return the other files at any depth."""
        return [item for directory in self.walk() for item in directory.others]

    @property
    def holds_images(self) -> bool:
        return any(directory.images for directory in self.walk())


def is_hidden(name: str) -> bool:
    """Return whether a directory is not for users: its name begins with a dot, or a system made it.

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("__MACOSX"), is_hidden("ants")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM


class Tree:
    """Everything below a root, which is a directory or a tar archive.

    Linked directories are followed once, and only if they lead to what is not part of the tree already; those in an archive
    are not followed.

    Attributes:
        root: The directory at the top.
        unfollowed: Linked directories that were not followed.
    """

    def __init__(self, root: Path) -> None:
        self._base, self._real = root, Path(os.path.realpath(root))
        self._followed: set[Path] = set()
        self.unfollowed: list[str] = []
        self._members: dict[Path, Member] = {}
        self.root = self._read_archive(root) if is_tar(root) and root.is_file() else self._scan(root)

    def source(self, path: Path) -> Source:
        """Return where an image is: the file or, in an archive, the member."""
        return self._members.get(path, path)

    def name(self, path: Path) -> str:
        """Return a path as messages name it, relative to the root."""
        return path.relative_to(self._base).as_posix()

    def _scan(self, path: Path) -> Directory:
        result = Directory(path)
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                self._add(result, entry)
        result.directories.sort(key=lambda directory: directory.name)
        return result

    def _add(self, result: Directory, entry: os.DirEntry[str]) -> None:
        path, name = Path(entry.path), self.name(Path(entry.path))
        if entry.is_dir():
            if is_hidden(entry.name):
                result.others += [Skipped(self.name(file), "hidden") for file in _files_in(path)]
            elif entry.is_symlink() and not self._may_follow(path):
                self.unfollowed.append(name)
            else:
                result.directories.append(self._scan(path))
        elif not entry.is_file() and not entry.name.startswith("."):
            reason = "broken link" if entry.is_symlink() else "not a regular file"
            result.others.append(Skipped(name, reason, named=True))
        else:
            self._add_file(result, path)

    def _add_file(self, result: Directory, path: Path) -> None:
        if path.name.startswith("."):
            result.others.append(Skipped(self.name(path), "hidden"))
        elif path.suffix.lower() in SUFFIXES:
            result.images.append(path)
        else:
            result.others.append(Skipped(self.name(path), path.suffix.lower() or "without ending"))

    def _read_archive(self, root: Path) -> Directory:
        index = read_index(root, "data.root")
        found = {root: Directory(root)}
        for name in sorted(index.directories):
            if not any(map(is_hidden, name.split("/"))):
                _directory(found, root / name)
        for name in sorted(index.files):
            path = root / name
            hidden = any(map(is_hidden, name.split("/")[:-1]))
            directory = found[root] if hidden else _directory(found, path.parent)
            if hidden:
                directory.others.append(Skipped(name, "hidden"))
            else:
                self._members[path] = index.files[name]
                self._add_file(directory, path)
        found[root].others += index.skipped
        for directory in found.values():
            directory.directories.sort(key=lambda each: each.name)
        return found[root]

    def _may_follow(self, link: Path) -> bool:
        """Whether a linked directory leads out of the tree, to a place that no other link has led to."""
        target = Path(os.path.realpath(link))
        if target in self._followed or self._real.is_relative_to(target):
            return False
        if target.is_relative_to(self._real) and not any(map(is_hidden, target.relative_to(self._real).parts)):
            return False  # it is read where it lies
        self._followed.add(target)
        return True


def _directory(found: dict[Path, Directory], path: Path) -> Directory:
    """Return the directory of a path in an archive; the root is among those ``found``."""
    if path not in found:
        found[path] = Directory(path)
        _directory(found, path.parent).directories.append(found[path])
    return found[path]


def _files_in(path: Path) -> list[Path]:
    """Return all files in a directory, at any depth; links are not followed."""
    return [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
