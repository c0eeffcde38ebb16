"""From layers of overrides to one config: options are chosen, Hydra composes them once, then keys are set in it."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import cast

from trainer import suggestions
from trainer.config.options import CONF, DEFAULTS, LISTS, SINGLE, OptionFiles, names
from trainer.config.overrides import Override, render, split
from trainer.config.unknown import choice_problems, unknown_key
from trainer.errors import ConfigError, Problem
from trainer.formats import Json, JsonObject
from trainer.tree import is_table, merged, table, without
from trainer.yaml_files import Version, versions

SHARED = ("job", "data", "engine")  # their keys mean the same whatever the option, so another option keeps those it has
Options = dict[str, list[str]]  # the options of each group


class Composition:
    """A config as plain values, interpolations unresolved, and the errors found on the way to it.

    An unknown option is replaced by the most similar one, in which its keys are looked up: ``optimizer=adm
    optimizer.lr=-1`` is two errors.

    Attributes:
        files: The option files.
        typed: The overrides of the command line.
        options: The options of each group.
        unknown: Groups whose option is not known, so that any key may be right.
        saved: What of the config comes from a run or checkpoint.
        set_keys: The keys and groups that the command and its experiment set, each with its source, as in ``Override``.
        other_classes: Where the command names a class with ``_target_``, whose keys may be added: ``optimizer.``.
        tree: The config.
        problems: The errors.
        notes: What was left out of an experiment.
    """

    def __init__(self, files: OptionFiles, typed: list[Override], notes: list[str]) -> None:
        self.files, self.typed, self.notes = files, typed, notes
        self.options: Options = {group: list(chosen) for group, chosen in files.defaults.items()}
        self.unknown: set[str] = set()
        self.saved: JsonObject = {}
        self.set_keys: dict[str, str] = {}
        self.other_classes: tuple[str, ...] = ()
        self.tree: JsonObject = {}
        self.problems: list[Problem] = []

    def apply(self, layers: list[list[Override]], saved: JsonObject | None = None) -> None:
        """Choose the options, compose them, and set the keys.

        Args:
            layers: Overrides by source; each layer takes precedence over those before it.
            saved: The config of a run or checkpoint, for all groups of which no option is chosen.
        """
        keys: list[tuple[Override, Options]] = []  # each with the options it is meant for
        choices: set[str] = set()
        for layer in layers:
            parts = [part for item in layer for part in split(item)]
            self.set_keys |= {item.key: item.source for item in parts if item.source != DEFAULTS}
            choices |= {item.key for item in parts if item.key in self.files.groups}
            for item in [part for part in parts if part.key in self.files.groups]:
                self._choose(item)
            keys += [(item, dict(self.options)) for item in parts if item.key not in self.files.groups]
        try:
            self._read_own_files()
            self.tree = hydra_compose(self.options, self.files)
        except ConfigError as error:
            self.problems += error.problems
            self.doubt("experiment")
            self.tree = dict(self.files.settings)
        if saved is not None:
            chosen = {key: value for key, value in self.tree.items() if key in choices}
            self.saved = {key: value for key, value in saved.items() if key not in chosen}
            self.tree = self.files.settings | self.saved | chosen
        self._set_keys(keys)

    def _read_own_files(self) -> None:
        """Read the chosen options of the user's directories within bounds, before Hydra does without; trust what they name."""
        for group, chosen in self.options.items():
            known = self.files.groups[group]
            self.files.keys(group, [n for n in chosen if n in known and not known[n].is_relative_to(CONF)])

    def place(self, key: str) -> str:
        """Return the file that defines a key, as error messages name it; empty where there is none."""
        group, _, rest = key.partition(".")
        if group in self.saved or group not in self.files.groups or key.startswith(self.other_classes):
            return "conf/train.yaml" if group in self.files.settings else ""
        return self.files.place(group, rest.partition(".")[0] if group in LISTS else self.options[group][0])

    def doubt(self, group: str) -> None:
        """Note that the option of a group is not known; without the experiment, those of all groups."""
        self.unknown |= {*SINGLE, *LISTS} if group == "experiment" else {group}

    def _choose(self, item: Override) -> None:
        """Take the options that an override names; report those that do not exist, and take the most similar ones."""
        group, problems = item.key, choice_problems(item, self.files)
        if item.source == DEFAULTS and problems:
            return
        self.problems += problems
        meant = [suggestions.option(group, name, self.files.groups)[0] for name in names(item.value)]
        chosen = [option for option in meant if option]
        if problems and (not chosen or group == "experiment"):
            self.doubt(group)
        elif group != "experiment":
            self.unknown.discard(group)
            self.options[group] = chosen

    def _set_keys(self, keys: list[tuple[Override, Options]]) -> None:
        """Set keys, each with the options it is meant for."""
        left_out: dict[str, list[str]] = {}
        for item, options in sorted(keys, key=lambda pair: not pair[0].key.endswith("._target_")):  # classes first
            if item.group in self.unknown:
                continue
            if reason := self._unused(item, options):
                left_out.setdefault(f"{item.source}: {{}} not used: {reason}", []).append(item.key)
            elif (problem := self._set(item)) and item.source != DEFAULTS:
                self.problems.append(problem)
        self.notes += [note.format(", ".join(keys)) for note, keys in left_out.items()]

    def _unused(self, item: Override, options: Options) -> str:
        """Why a key of an experiment has no place among the options chosen; empty where it has.

        ``experiment=cifar10_fast optimizer=adam`` leaves out the learning rate, which is meant for ``nesterov``. Keys of
        ``job``, ``data`` and ``engine`` stay where the chosen option has them.
        """
        group, name, *_ = [*item.key.split("."), ""]
        if not item.experiment:
            return ""
        if group in LISTS:
            enabled = name not in self.files.groups[group] or name in table(self.tree[group])
            return "" if enabled else f"{name} is not enabled"
        if group not in SINGLE or options[group] == self.options[group]:
            return ""
        return "" if group in SHARED and name in table(self.tree[group]) else f"set for {group}={options[group][0]}"

    def _set(self, item: Override) -> Problem | None:
        """Set or remove a key; return the error if the config has no such key."""
        *path, last = item.key.split(".")
        node: Json = self.tree
        adds = item.kind in ("+", "++") or item.key.startswith(self.other_classes)
        for depth, part in enumerate([*path, last]):
            if not is_table(node) or (part not in node and not adds):
                return unknown_key(item, path[:depth], part, self.tree, self.files)
            if depth < len(path):
                node = node.setdefault(part, {})
        parent = table(node)
        if item.kind == "~":
            if item.value not in (None, "", parent.get(last)):
                return Problem(item.key, item.value, f"is not the value to remove, {parent.get(last)!r}")
            parent.pop(last, None)
        else:
            if last == "_target_" and parent.get(last) != item.value:
                parent.clear()  # the keys of the class before
                self.other_classes += (item.key.removesuffix(last),)
            parent[last] = merged(parent.get(last), cast(Json, item.value))
        return None


def hydra_compose(options: Options, files: OptionFiles) -> JsonObject:
    """Return the config of these options as plain values, interpolations unresolved."""
    choices = [f"{group}={render(chosen if group in LISTS else chosen[0])}" for group, chosen in options.items()]
    return copy.deepcopy(_composed((*search_path(files), *choices), versions(files.directories)))


@lru_cache(maxsize=100)
def _composed(overrides: tuple[str, ...], _: tuple[Version, ...]) -> JsonObject:
    """The config of these overrides of Hydra; the jobs of a sweep that have the same options share it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
            tree = table(OmegaConf.to_container(compose("train", overrides=list(overrides))))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(hydra_problem(error)) from None
    return tree | {group: {} for group in LISTS if group not in tree}


def search_path(files: OptionFiles) -> list[str]:
    """Return the override that makes Hydra look into the user's directories."""
    own = ",".join(f"file://{directory.resolve()}" for directory in files.directories[1:])
    return [f"hydra.searchpath=[{own}]"] if own else []


def hydra_problem(error: Exception) -> Problem:
    """Return Hydra's error without its pointers to itself."""
    lines = f"{error} {error.__cause__ or ''}".splitlines()
    return Problem("", None, " ".join(" ".join(line for line in lines if "HYDRA_FULL_ERROR" not in line).split()))


def resolve(tree: JsonObject) -> tuple[JsonObject, list[Problem]]:
    """Return a config with its interpolations resolved, and an error for each key whose interpolation cannot be.

    ``???`` stays, to be reported as missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    problems: dict[str, Problem] = {}  # by reason: what refers to a key that cannot be resolved is no further error
    while True:
        try:
            return table(OmegaConf.to_container(OmegaConf.create(tree), resolve=True)), list(problems.values())
        except OmegaConfBaseException as error:
            key, reason = str(error.full_key).partition("[")[0], str(error.msg).split("\n")[0]
            problems[reason] = Problem(key, reason, "cannot be resolved")
            tree = without(tree, key)
