"""The option files: where they are, what they are called, and which keys they define."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from trainer import suggestions, trust
from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject
from trainer.tree import entries, is_list, is_table, table
from trainer.yaml_files import load_yaml

SINGLE = (
    "job", "task", "architecture", "activation", "initialization", "optimizer", "averaging", "data", "engine", "recipe",
)  # fmt: skip
LISTS = ("schedule", "regularizer", "augmentation", "observer")  # groups that take several options
DEFAULTS = "TRAINER_OVERRIDES"  # the environment variable with overrides that yield to those typed
PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if (p / "train.yaml").is_file())  # wheel, checkout


class OptionFiles:
    """The option files of the package and of the directories given by ``--config-dir``, which take precedence.

    Args:
        config_dirs: Directories of the user, each with ``<group>/<option>.yaml``.
    """

    def __init__(self, config_dirs: tuple[Path, ...] | list[Path] = ()) -> None:
        self.directories = [CONF, *config_dirs]
        self._loaded: dict[Path, JsonObject] = {}

    @cached_property
    def groups(self) -> dict[str, dict[str, Path]]:
        """The option files of each group, both sorted by name."""
        groups: dict[str, dict[str, Path]] = {}
        for directory in self.directories:
            for file in sorted(directory.glob("*/*.yaml")):
                groups.setdefault(file.parent.name, {})[file.stem] = file
        return {group: dict(sorted(files.items())) for group, files in sorted(groups.items())}

    @cached_property
    def settings(self) -> JsonObject:
        """The scalars of ``conf/train.yaml``."""
        return {k: v for k, v in self.load(CONF / "train.yaml").items() if k not in ("defaults", "hydra")}

    @cached_property
    def defaults(self) -> dict[str, list[str]]:
        """The options that each group starts with."""
        listed = entries(self.load(CONF / "train.yaml")["defaults"])
        chosen = {k: v for entry in listed for k, v in table(entry).items()}
        return {group: names(chosen[group]) for group in (*SINGLE, *LISTS)}

    def unknown_option(self, group: str, name: object, where: str = "") -> Problem:
        """Return the error that a group has no such option."""
        options = self.groups[group]
        none = group in LISTS and name == "none"
        hint = f"{group}=[] has none" if none else suggestions.question(group, str(name), self.groups)
        return Problem(group, name, f"must be one of {', '.join(options)}", hint, where)

    def place(self, group: str, name: str) -> str:
        """Return the file of an option as error messages name it; empty where there is none."""
        file = self.groups.get(group, {}).get(name)
        return "" if file is None else f"conf/{group}/{name}.yaml" if file.is_relative_to(CONF) else str(file)

    def load(self, file: Path) -> JsonObject:
        """Return the content of a YAML file, interpolations unresolved; ConfigError where it cannot be read.

        The files in the user's directories are the user's own words: the modules that they name are trusted.
        """
        if file not in self._loaded:
            try:
                self._loaded[file] = load_yaml(file, bounded=not file.is_relative_to(CONF))
            except ValueError as error:
                raise ConfigError(Problem(str(file), None, f"cannot be read: {error}")) from None
            if any(file.is_relative_to(directory) for directory in self.directories[1:]):
                trust.allow_named(self._loaded[file])
        return self._loaded[file]

    def lookups(self, file: Path) -> list[tuple[str, str]]:
        """Return the keys of a file from somewhere else whose values call a resolver, such as ``${oc.env:HOME}``."""
        own = any(file.is_relative_to(directory) for directory in self.directories)
        return [] if own else list(trust.resolvers(self.load(file)))

    def keys(self, group: str, options: list[str]) -> JsonObject:
        """Return the keys below a group with these options: those of the option, or one table for each in a list group."""
        keys: JsonObject = {}
        for option in options:
            content = self.load(self.groups[group][option])
            parents = [name for name in entries(content.get("defaults")) if isinstance(name, str) and name != "_self_"]
            keys |= self.keys(group, [name for name in parents if name in self.groups[group]])
            for key, value in content.items():
                if key != "defaults":
                    keys[key] = table(keys.get(key)) | value if is_table(value) else value
        return keys

    def option_name(self, group: str, node: JsonObject) -> str:
        """Return the name of the option file a node of a config comes from; the name of its class if there is none.

        Of several files with the same class, the one that shares the most values with the node.
        """
        shared: dict[str, int] = {}
        for name in self.groups.get(group, {}):
            keys = self.keys(group, [name])
            if keys.get("_target_") == node["_target_"]:
                shared[name] = sum(node.get(key) == value for key, value in keys.items())
        return max(shared, key=shared.__getitem__) if shared else str(node["_target_"]).rpartition(".")[2]

    def free_tables(self, arguments: Sequence[str]) -> list[str]:
        """Return the keys that hold a free table in some option, such as ``job.space``, of the groups of these arguments.

        A free table is empty in the option file; any keys may be added to it.
        """
        groups = {argument.partition(".")[0] for argument in arguments if argument.partition("=")[0].count(".") >= 2}
        files = [(group, file) for group in SINGLE if group in groups for file in self.groups[group].values()]
        return sorted({f"{g}.{key}" for g, file in files for key, value in self.load(file).items() if value == {}})


def option_files(config_dirs: Sequence[Path | str]) -> OptionFiles:
    """Return the option files; the directories are importable from now on, so that their classes can be named."""
    directories = [Path(d).expanduser() for d in config_dirs]
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(Problem("--config-dir", str(directory), "no such directory"))
        if str(directory.resolve()) not in sys.path:
            sys.path.insert(0, str(directory.resolve()))
        if directory.resolve() not in trust.directories:
            trust.directories.append(directory.resolve())
    return OptionFiles([*installed_options(), *directories])


@lru_cache  # for the next job of a sweep: with many packages it takes time
def installed_options() -> tuple[Path, ...]:
    """Return the directories of options that installed packages offer under the entry point ``trainer.options``.

    An entry point ``my_package.conf`` is the directory ``conf`` of the package. Nothing is imported.
    """
    directories: list[Path] = []
    for point in entry_points(group="trainer.options"):
        package, *parts = point.value.replace(":", ".").split(".")
        spec = find_spec(package)
        places = [Path(place).joinpath(*parts) for place in (spec.submodule_search_locations if spec else None) or ()]
        directories += [place for place in places if place.is_dir()]
    return tuple(directories)


def names(value: object) -> list[str]:
    """Return the options that the value of a group names.

    >>> names("adam"), names(["warmup", "cosine"]), names(None)
    (['adam'], ['warmup', 'cosine'], [])
    """
    if value is None or is_table(value):
        return []
    if is_list(value):
        return [name for item in value for name in names(item)]
    return [str(value)]
