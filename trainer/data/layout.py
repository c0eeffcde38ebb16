"""Which directories are splits and which are classes: recognized where there is one reading, refused where there are two."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from shlex import quote

from trainer.data.inventory import shortened
from trainer.data.split_names import SPELLINGS, SplitName, split_name
from trainer.data.tree import Directory
from trainer.errors import ConfigError, Problem

NAMED = 4  # directories that a reading names


@dataclass
class Layout:
    """Directories of classes.

    Attributes:
        splits: The directory that holds the class directories of each split; only ``""`` where there are no splits.
        notes: What was recognized that is not evident.
        outside: Directories that belong to no split.
    """

    splits: dict[SplitName | str, Directory]
    notes: list[str] = field(default_factory=list)
    outside: list[Directory] = field(default_factory=list)


def recognize(root: Directory, splits: str | dict[SplitName, str]) -> Layout:
    """Return the layout of a directory.

    Args:
        root: The directory.
        splits: ``auto`` to recognize splits by name, ``none`` if every directory is a class, or the directory of each split
            relative to the root; ``.`` is the root without the directories of the other splits.

    Raises:
        ConfigError: The layout can be read in no way, or in more than one: the error shows them and what to type.
    """
    if isinstance(splits, dict):
        return _given(root, splits)
    top = unwrapped(root)
    notes = [] if top is root else [f"the images lie in {top.path}"]
    if splits == "none":
        return Layout({"": top}, notes)
    exact = {directory.path: split_name(directory.name) for directory in top.directories}
    if not any(exact.values()):
        _refuse_similar(root, top)
        _refuse_splits_below_classes(top)
        return Layout({"": top}, notes)
    found = _by_split(top)
    others = [d for d in top.directories if exact[d.path] is None]
    classes = [d for d in others if d.holds_images]
    train = found.get("train")
    if train is None or (classes and train.directories):
        raise _ambiguous(root, top, found, classes)
    if classes and not train.directories:
        if len(found) > 1:
            raise _ambiguous(root, top, found, classes)
        return Layout({"": top}, notes)  # a class called train: a training split has directories
    if not train.directories:
        text = f"{train.name} contains {len(train.images)} images and no class directories"
        hint = "labels from a table: data=table; the directories are classes: data.splits=none"
        raise ConfigError(Problem("data.root", str(top.path), text, hint))
    return Layout({split: unwrapped(directory, same_name=True) for split, directory in found.items()}, notes, others)


def unwrapped(directory: Directory, same_name: bool = False) -> Directory:
    """Return the first directory below that holds more than a single directory.

    Args:
        directory: Where to begin.
        same_name: Whether only directories of the same name are descended into: any other may be a class.
    """
    while len(directory.directories) == 1 and not directory.images:
        (inner,) = directory.directories
        if not inner.directories or (split_name(inner.name) and not same_name):
            break
        if same_name and inner.name.lower() != directory.name.lower():
            break
        directory = inner
    return directory


def _by_split(top: Directory) -> dict[SplitName | str, Directory]:
    """Return the directories named exactly like a split; ConfigError if two are named like the same one."""
    named: dict[SplitName | str, list[Directory]] = {
        split: [d for d in top.directories if split_name(d.name) == split] for split in SPELLINGS
    }
    for split, directories in named.items():
        if len(directories) > 1:
            names = " and ".join(d.path.name for d in directories)
            text = f"contains {names}, both of which name the {split} split"
            hint = _typed({each: choice[0].name for each, choice in named.items() if choice})
            raise ConfigError(Problem("data.root", str(top.path), text, hint))
    return {split: directories[0] for split, directories in named.items() if directories}


def _refuse_similar(root: Directory, top: Directory) -> None:
    """Refuse directories such as seg_train and seg_test, which are splits or classes."""
    similar: dict[SplitName | str, Directory] = {}
    for directory in top.directories:
        words = [word for word in re.split(r"[\W\d_]+", directory.name.lower()) if word]
        split = next((s for s in map(split_name, words) if s), None)
        if split and directory.holds_images:
            similar.setdefault(split, directory)
    similar = {split: similar[split] for split in SPELLINGS if split in similar}
    if "train" in similar and len(similar) > 1:
        raise _ambiguous(root, top, similar, [d for d in top.directories if d not in similar.values()])


def _refuse_splits_below_classes(top: Directory) -> None:
    for directory in top.directories:
        below = {split_name(inner.name) for inner in directory.directories if inner.holds_images}
        if "train" in below and len(below - {None}) > 1:
            text = f"class directory {directory.path.name!r} contains a training and another split"
            hint = "move the split above the class: train/<class>/, or data.splits=none reads all as one split"
            raise ConfigError(Problem("data.root", str(top.path), text, hint))


def _ambiguous(
    root: Directory, top: Directory, found: dict[SplitName | str, Directory], classes: list[Directory]
) -> ConfigError:
    """The error that shows both readings and how to choose one."""
    names = [d.path.name for d in top.directories if d.holds_images]
    given = {str(split): d.path.relative_to(root.path).as_posix() for split, d in found.items()}
    listed = ", ".join(f"{split} = {path}" for split, path in given.items())
    if "train" in given:
        rest = f", {shortened([d.path.name for d in classes], NAMED)} not used" if classes else ""
    else:
        given = {"train": top.path.relative_to(root.path).as_posix(), **given}
        listed, rest = f"train = the directories beside, {listed}", ""
    if len(names) < 2 and not classes:
        text = f"contains no training split: only {', '.join(d.path.name for d in found.values())}"
        return ConfigError(
            Problem("data.root", str(top.path), text, "it needs train/<class>/, or one directory per class")
        )
    text = (
        f"can be read in two ways: {len(names)} classes ({shortened(names, NAMED)}), or splits ({listed}{rest})\n"
        f"  classes: data.splits=none"
    )
    return ConfigError(Problem("data.root", str(top.path), text, f"splits:  {_typed(given)}"))


def _typed(splits: dict[str, str] | dict[SplitName | str, str]) -> str:
    items = ",".join(f"{split}:{_value(path)}" for split, path in splits.items())
    return quote(f"data.splits={{{items}}}")


def _value(path: str) -> str:
    return path if re.fullmatch(r"[\w./-]+", path, re.ASCII) else "'" + path.replace("'", r"\'") + "'"


def _given(root: Directory, splits: dict[SplitName, str]) -> Layout:
    """Return the layout that the user has given."""
    below = {directory.path: directory for directory in root.walk()}
    chosen: dict[SplitName | str, Directory] = {}
    for split, name in splits.items():
        path = root.path / name if name not in (".", "") else root.path
        if path not in below:
            text = f"no such directory in {root.path}"
            raise ConfigError(Problem(f"data.splits.{split}", name, text, "a path relative to data.root"))
        chosen[split] = below[path]
    if "train" not in chosen:
        raise ConfigError(Problem("data.splits", splits, "must name the directory of the training split"))
    paths = [directory.path for directory in chosen.values()]
    for split, directory in chosen.items():
        inner = [d for d in directory.directories if d.path not in paths]
        chosen[split] = unwrapped(Directory(directory.path, directory.images, directory.others, inner), same_name=True)
    used = [*paths, *(inner.path for directory in chosen.values() for inner in directory.directories)]
    outside = [d for d in root.directories if not any(p.is_relative_to(d.path) for p in used)]
    return Layout(chosen, outside=outside)


__all__ = ["Layout", "recognize", "unwrapped"]
