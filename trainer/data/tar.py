"""The members of tar archives and where they lie: an archive is read at random, without being unpacked."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainer.data.inventory import Skipped
from trainer.data.sources import Archive, Member
from trainer.errors import ConfigError, Problem, first_line

COMPRESSED = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")  # cannot be read at random


class TarIndex(NamedTuple):
    """What a tar archive holds: its files and directories by their names, and what is neither."""

    files: dict[str, Member]
    directories: set[str]
    skipped: list[Skipped]


def is_tar(path: Path) -> bool:
    """Return whether a file is a tar archive, by its name."""
    return path.suffix.lower() == ".tar" or path.name.lower().endswith(COMPRESSED)


def read_index(path: Path, key: str) -> TarIndex:
    """Return what a tar archive holds.

    Hard and symbolic links to files in the archive are files.

    Args:
        path: The archive.
        key: The key of the config that names it.

    Raises:
        ConfigError: It is compressed, damaged or incomplete, or no tar archive.
    """
    if path.name.lower().endswith(COMPRESSED):
        hint = f"unpack the compression, not the archive: such as gunzip {path.name}"
        raise ConfigError(Problem(key, str(path), "is compressed and cannot be read at random", hint))
    archive = Archive(path)
    files: dict[str, Member] = {}
    directories: set[str] = set()
    links: dict[str, str] = {}
    skipped: list[Skipped] = []
    for info in _headers(path, key):
        name = posixpath.normpath(info.name).lstrip("/")
        if info.isreg() and not info.issparse():
            if name in files:
                skipped.append(Skipped(name, "replaced by a later member of the same name"))
            files[name] = Member(archive, info.offset_data, info.size, name)
        elif info.islnk() or info.issym():
            base = posixpath.dirname(name) if info.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(base, info.linkname))
        elif info.isdir():
            directories.add(name)
        else:
            skipped.append(Skipped(name, "not a regular file", named=True))
    for name in links:
        target = _followed(name, links)
        if target in files:
            files[name] = files[target]._replace(name=name)
        else:
            skipped.append(Skipped(name, "broken link", named=True))
    return TarIndex(files, directories, skipped)


def _followed(name: str, links: dict[str, str]) -> str:
    """Return what a link leads to at last; the name itself if it leads back to itself."""
    target, seen = links[name], {name}
    while target in links and target not in seen:
        seen.add(target)
        target = links[target]
    return name if target in seen else target


def _headers(path: Path, key: str) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of all members; ConfigError if the archive ends before its last member does."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:", errors="surrogateescape") as tar:
            while (info := tar.next()) is not None:
                vars(tar)["members"] = []  # else they are all kept
                if info.offset_data + info.size > size:
                    raise tarfile.ReadError(f"it ends within {info.name}")
                yield info
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(path, key, first_line(error)) from None
    # The reader takes a damaged header for the end of the archive, as well as the end of the first of two joined ones.
    with path.open("rb") as file:
        file.seek(end)
        while rest := file.read(2**20):
            if rest.strip(b"\0"):
                raise _damaged(path, key, f"the header at byte {end:,} is damaged, or another archive follows it")


def _damaged(path: Path, key: str, reason: str) -> ConfigError:
    hint = f"tar -tf {path.name} lists what it holds; copy or download it again"
    return ConfigError(Problem(key, str(path), f"cannot be read as a tar archive: {reason}", hint))
