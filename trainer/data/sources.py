"""Where an encoded image is: in a file of its own, or at an offset of an archive such as a tar or Arrow file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

MAX_OPEN = 128  # archives that are kept open


class Archive:
    """A file that holds many images. It stays open between reads; threads and processes may read it at the same time.

    Args:
        path: The file.
        known_as: The path that the user knows, where the file is a part or a copy of what lies there.
    """

    def __init__(self, path: Path, known_as: Path | None = None) -> None:
        self.path, self.known_as = path, known_as or path

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on; fewer at the end of the file."""
        descriptor = _descriptor(self)  # a reference, without which another thread's read could close it
        return os.pread(descriptor.number, length, offset)


class _Descriptor:
    """A file descriptor, closed with the last reference to it."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@lru_cache(MAX_OPEN)
def _descriptor(archive: Archive) -> _Descriptor:
    return _Descriptor(archive.path)


class Member(NamedTuple):
    """An encoded image in an archive: ``length`` bytes from ``offset`` on. ``name`` is its name within the archive."""

    archive: Archive
    offset: int
    length: int
    name: str

    def read_bytes(self) -> bytes:
        """Return the encoded image."""
        return self.archive.read(self.offset, self.length)

    def __str__(self) -> str:
        return f"{self.archive.known_as}/{self.name}"


Source = Path | Member


class Members(Sequence[Member]):
    """Members of archives as arrays, because lists of millions of objects take gigabytes.

    Args:
        archives: The archives.
        archive: The index of the archive of each member (N,).
        offsets: (N,).
        lengths: (N,).
        names: The name of each member within its archive (N,).
    """

    def __init__(
        self,
        archives: Sequence[Archive],
        archive: np.ndarray,
        offsets: np.ndarray,
        lengths: np.ndarray,
        names: np.ndarray,
    ) -> None:
        self.archives, self.archive, self.offsets, self.lengths, self.names = archives, archive, offsets, lengths, names

    @classmethod
    def of(cls, members: Iterable[Member]) -> Members:
        """Return members that are listed one by one."""
        archives: dict[Archive, int] = {}
        members = list(members)
        rows = [(archives.setdefault(m.archive, len(archives)), m.offset, m.length) for m in members]
        numbers, names = np.array(rows, np.int64).reshape(-1, 3), (m.name for m in members)
        return cls(list(archives), numbers[:, 0].astype(np.int32), numbers[:, 1], numbers[:, 2], names_array(names))

    @classmethod
    def joined(cls, parts: Sequence[Members]) -> Members:
        """Return several members one after the other."""
        archives = [archive for part in parts for archive in part.archives]
        starts = np.cumsum([0, *(len(part.archives) for part in parts)])
        archive = np.concatenate([part.archive + start for part, start in zip(parts, starts, strict=False)])
        columns = zip(*((part.offsets, part.lengths, part.names) for part in parts), strict=True)
        return cls(archives, archive.astype(np.int32), *map(np.concatenate, columns))

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Members: ...
    def __getitem__(self, index: int | slice) -> Member | Members:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        archive = self.archives[self.archive[index]]
        return Member(archive, int(self.offsets[index]), int(self.lengths[index]), str(self.names[index]))

    def take(self, indices: np.ndarray) -> Members:
        """Return some of the members."""
        columns = (self.archive, self.offsets, self.lengths, self.names)
        return Members(self.archives, *(column[indices] for column in columns))


def names_array(names: Iterable[str]) -> np.ndarray:
    """Return names as an array of text; bytes that are not UTF-8 become escape sequences."""
    escaped = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names]
    return np.array(escaped, np.dtypes.StringDType())


def take(sources: Sequence[Source], indices: np.ndarray | Sequence[int]) -> Sequence[Source]:
    """Return some of the sources."""
    if isinstance(sources, Members):
        return sources.take(np.asarray(indices, np.int64))
    return [sources[i] for i in indices]


def length(source: Source) -> int:
    """Return the number of bytes of an encoded image; 0 if there is no such file."""
    if isinstance(source, Member):
        return source.length
    return source.stat().st_size if source.is_file() else 0


def stamp(source: Source) -> str:
    """Return what changes when the image is replaced: path, length, and time of modification."""
    path = source.archive.path if isinstance(source, Member) else source
    status = path.stat()
    place = f"{source.offset}\0{source.length}\0" if isinstance(source, Member) else ""
    return f"{path.absolute()}\0{place}{status.st_size}\0{status.st_mtime_ns}\n"


def as_path(source: Source) -> Path:
    """Return the path of a file, or what names a member of an archive in its place."""
    return source if isinstance(source, Path) else Path(str(source))


def relative(source: Source, base: Path) -> str:
    """Return a source as messages name it: relative to ``base`` if it is below.

    >>> relative(Path("data/a/1.png"), Path("data")), relative(Path("elsewhere/1.png"), Path("data"))
    ('a/1.png', 'elsewhere/1.png')
    >>> relative(Member(Archive(Path("data/0.tar")), 512, 9, "a/1.png"), Path("data"))
    '0.tar/a/1.png'
    """
    path = as_path(source)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
