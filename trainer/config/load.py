"""From overrides to a `Config`: parse, expand, compose once, instantiate, check; all errors are reported together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer import renamed, trust
from trainer.config.arguments import empty, overrides_of, typed_twice
from trainer.config.compose import Composition, resolve
from trainer.config.constraints import check_config
from trainer.config.experiments import add_experiment_files, load_experiment
from trainer.config.options import DEFAULTS, LISTS, SINGLE, OptionFiles, option_files
from trainer.config.overrides import Override, parse, values
from trainer.config.saved import load_saved
from trainer.config.schema import Config
from trainer.config.unknown import choice_problems
from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject
from trainer.instantiate import instantiate
from trainer.run_dir import absolute_paths
from trainer.settings import Settings
from trainer.tree import is_table, value_at, with_value

# Keys that may be `auto`, with the values they have until an LR range test, or trying batch sizes, has found others.
AUTO = {"optimizer.lr": 1e-3, "schedule.clr.floor": 0.1, "batch_size": 64}


def load_config(
    overrides: Sequence[str] = (),
    config_dirs: Sequence[Path | str] = (),
    defaults: Sequence[str] = (),
    here: bool = False,
) -> Config:
    """Return the config that ``train`` runs with these overrides; ConfigError with all the errors that can be found.

    Args:
        overrides: As typed after ``train``, such as ``["optimizer=adam", "epochs=2"]``.
        config_dirs: Directories with options of the user, as for ``--config-dir``.
        defaults: Overrides that yield to the user's; those that do not apply are left out.
        here: Whether it is an error if the files or the GPU that the config names do not exist here.

    >>> load_config(["optimizer=adam", "seed=3"]).seed
    3
    """
    config, problems = prepare(overrides, option_files(config_dirs), defaults).config(here)
    if problems:
        raise ConfigError(*problems)
    return config


class Command(Composition):
    """The config that the overrides of a command compose, and what it is instantiated to."""

    def first_job(self, multirun: bool) -> list[Override]:
        """Return the overrides of a single run, or of a sweep's first job; check those of all its jobs."""
        first: list[Override] = []
        for item in self.typed:
            jobs, is_choice = values(item, self.files), item.key in self.files.groups
            problems = [] if multirun else _only_in_sweeps(item, self.typed)
            if item.sweep and is_choice:
                problems += [problem for job in jobs for problem in choice_problems(job, self.files)]
                problems += [] if jobs else [Problem(item.key, item.shown, "names no option")]
            self.problems += problems
            if problems and is_choice:
                self.doubt(item.key)
            elif not problems and not item.key.startswith("hydra"):
                first += jobs[:1]
        return first

    def compose(self) -> JsonObject:
        """Return the config as plain values, interpolations unresolved; ConfigError with all errors if there are any."""
        if self.problems:
            raise ConfigError(*self.config()[1])
        return self.tree

    def config(self, here: bool = False) -> tuple[Config, list[Problem]]:
        """Return the config and all errors; options with an error are None, settings with an error have their default."""
        config, wrong, problems = self.values()
        return config, problems + check_config(config, wrong, here)

    def values(self) -> tuple[Config, set[str], list[Problem]]:
        """Return the config, the groups and settings with an error, and the errors but those of several values together."""
        tree, problems = resolve(self.tree)
        problems = self.problems + problems
        wrong = {problem.group for problem in problems} | self.unknown
        found, errors = instantiate_all(tree, self.unknown)
        typed = {item.key for item in self.typed} - {problem.key for problem in problems}
        # In a group with an error, such as an unknown option, the error of a value that was not typed follows from it.
        problems += [p for p in errors if p.group in wrong and p.key in typed]
        problems += [replace(p, where=self.place(p.key)) for p in errors if p.group not in wrong]
        wrong |= {problem.group for problem in problems}
        own = {"notes": tuple(self.notes), "config_dirs": tuple(self.files.directories[1:]), "set_keys": self.set_keys}
        options: dict[str, Any] = {**dict.fromkeys(self.unknown), **found, **own}
        return Config(**options, tree=absolute_paths(tree)), wrong, problems


def prepare(
    arguments: Sequence[str], files: OptionFiles, defaults: Sequence[str] = (), multirun: bool = False
) -> Command:
    """Parse the overrides of a command, put those of an experiment in front, and compose its config."""
    arguments, notices = renamed.arguments(arguments)
    texts, wrong = overrides_of(arguments, files, multirun)
    parsed, problems = parse(texts, multirun, files.free_tables(texts))
    add_experiment_files(parsed, files)
    # What the user types is trusted; the text also names the classes of sweeps and of search spaces.
    trust.allow_named(*({item.key: item.value} for item in parsed), *({item.key: item.text} for item in parsed))
    command = Command(files, [item for item in parsed if not empty([item])], [*notices, *typed_twice(parsed)])
    command.problems += [*wrong, *problems, *empty(parsed)]
    typed = command.first_job(multirun)
    saved = None
    try:
        saved = load_saved(typed, files)
    except ConfigError as error:
        command.problems += error.problems
    if saved is not None:
        typed = [item for item in typed if item.key != saved.key and not saved.repeats(item, files)]
        refused = {id(item): problem for item in typed if (problem := saved.problem(item))}
        command.problems += refused.values()
        typed = [item for item in typed if id(item) not in refused]
        command.apply([typed], saved.tree)
    else:
        if any(item.key in ("resume", "checkpoint") and item.value is not None for item in typed):
            command.unknown |= {*SINGLE, *LISTS} - {"job"}  # those of a saved config that cannot be had
        command.apply([*_layers_in_front(command, defaults, typed), typed])
    return command


def _only_in_sweeps(item: Override, typed: list[Override]) -> list[Problem]:
    """Why an override needs ``-m``."""
    if item.key.startswith(("hydra", "sweep.")):
        return [Problem(item.key, item.shown, "has an effect only with -m")]
    a_list = "" if item.key in SINGLE else f"; a list is written {item.key}=[{item.shown}], a fraction with a point"
    resumes = any(other.key == "resume" for other in typed)
    hint = "resume=... takes one value at a time, without -m" if resumes else f"train -m ... runs each value{a_list}"
    return [Problem("", None, f"{item.text!r} is a sweep; it needs -m", hint)] if item.sweep else []


def _layers_in_front(command: Command, defaults: Sequence[str], typed: list[Override]) -> list[list[Override]]:
    """The layers that yield to the command line: its experiment, and the default overrides."""
    layers: list[list[Override]] = []
    name = next((item.value for item in reversed(typed) if item.key == "experiment"), None)
    try:
        if isinstance(name, str) and name in command.files.groups["experiment"]:
            layers = load_experiment(name, command.files)
    except ConfigError as error:
        command.problems += error.problems
        command.doubt("experiment")
    items, problems = parse(defaults, tables=command.files.free_tables(defaults))
    trust.allow_named(*({item.key: item.value} for item in items))
    command.problems += [replace(problem, text=f"{DEFAULTS}: {problem.text}") for problem in problems]
    return [*layers, [replace(item, source=DEFAULTS) for item in items]]


def instantiate_all(tree: JsonObject, unknown: Collection[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Return the settings and options of a config, as far as they are valid, and all errors.

    Args:
        tree: The config as plain values, interpolations resolved.
        unknown: Groups that are left out.
    """
    concrete, auto_keys = resolve_auto(tree)
    values: dict[str, Any] = {"auto_keys": auto_keys}
    problems: list[Problem] = []
    for group in [group for group in SINGLE if group not in unknown]:
        values[group], errors = instantiate(concrete.get(group), group)
        problems += errors
    for group in LISTS:
        enabled = concrete.get(group) or {}
        values[group] = {}
        for name, node in enabled.items() if is_table(enabled) else [("", enabled)]:
            values[group][name], errors = instantiate(node, f"{group}.{name}")
            problems += errors
    scalars = {key: value for key, value in concrete.items() if key not in values and key not in unknown}
    target = {"_target_": f"{Settings.__module__}.{Settings.__name__}"}
    wrong = instantiate(target | scalars, "")[1]
    valid = {key: value for key, value in scalars.items() if key not in {problem.key for problem in wrong}}
    settings: Settings = instantiate(target | valid, "")[0]
    problems += wrong
    problems += [p for p in trust.problems(tree) if p.group not in unknown and p.key not in {q.key for q in problems}]
    return values | vars(settings), trust.with_one_answer(problems)


def config_from_tree(tree: JsonObject) -> Config:
    """Return the config of a saved tree, such as a member of an ensemble has."""
    tree = renamed.tree(tree)
    values, problems = instantiate_all(tree)
    if problems:
        raise ConfigError(*problems)
    return Config(**values, tree=tree)


def resolve_auto(tree: JsonObject) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the config with preliminary values for keys that are ``auto``, and these keys.

    >>> resolve_auto({"optimizer": {"lr": "auto"}, "seed": 0})
    ({'optimizer': {'lr': 0.001}, 'seed': 0}, ('optimizer.lr',))
    """
    keys = tuple(key for key in AUTO if value_at(tree, *key.split(".")) == "auto")
    for key in keys:
        tree = with_value(tree, key, AUTO[key])
    return tree, keys
