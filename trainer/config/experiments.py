"""Experiments: files that choose options and set keys of several groups, read as overrides."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.config.options import OptionFiles
from trainer.config.overrides import Override, override
from trainer.errors import ConfigError, Problem
from trainer.formats import Json
from trainer.tree import entries, is_table


def add_experiment_files(typed: list[Override], files: OptionFiles) -> None:
    """Make experiments that are named by their path known, ``experiment=outputs/search/best`` or ``experiment=best.yaml``."""
    for item in typed:
        if item.key == "experiment" and isinstance(item.value, str) and ("/" in item.value or ".yaml" in item.value):
            file = Path(item.value).expanduser()
            file = file.with_name(f"{file.name.removesuffix('.yaml')}.yaml")
            if file.is_file():
                files.groups["experiment"][item.value] = file


def load_experiment(name: str, files: OptionFiles, path: tuple[str, ...] = ()) -> list[list[Override]]:
    """Return the overrides of an experiment after those of each one it inherits from; ConfigError where a file is not one.

    Args:
        name: The experiment.
        files: The option files.
        path: The experiments that inherit from it.
    """
    file, source = files.groups["experiment"][name], f"experiment={name}"
    if name in path:
        text = f"inherits from itself: {' -> '.join([*path, name])}"
        raise ConfigError(Problem("experiment", name, text, where=str(file)))
    content = dict(files.load(file))
    if problems := [Problem(k, text, "would be looked up on this computer") for k, text in files.lookups(file)]:
        raise ConfigError(*problems)
    if not re.match(r"(#.*\n)*# @package _global_\s*\n", file.read_text()):
        text = "the file must begin with the line '# @package _global_'"
        raise ConfigError(Problem("experiment", name, text, where=str(file)))
    inherited: list[list[Override]] = []
    overrides: list[Override] = []
    for entry in entries(content.pop("defaults", None)):
        group, value = _entry(entry, files)
        if group in files.groups and group != "experiment":
            overrides.append(override(group, value, source=source))
        elif value in files.groups["experiment"]:
            inherited += load_experiment(value, files, (*path, name))
        elif value != "_self_":
            text = "must be an experiment, or 'override /<group>: <option>'"
            raise ConfigError(Problem(source, entry, text, where=str(file)))
    overrides += [override(key, value, source=source) for key, value in content.items()]
    return [*inherited, overrides]


def _entry(entry: Json, files: OptionFiles) -> tuple[str, Json]:
    """The group and the value of an entry of the defaults list; a lone name is that of an experiment."""
    if is_table(entry) and len(entry) == 1:
        ((key, value),) = entry.items()
        group = str(key).removeprefix("override ").strip().removeprefix("/")
        return group, value if group in files.groups and group != "experiment" else str(value)
    return "experiment", str(entry).removeprefix("/").removeprefix("experiment/")
