"""From overrides to a `Config`: parse, expand, validate, compose once, instantiate, check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import renamed
from trainer.config.compose import compose
from trainer.config.experiments import Layer, chosen_options, expand, load_experiment
from trainer.config.instantiate import instantiate
from trainer.config.options import LISTS, SINGLE, OptionFiles, option_files
from trainer.config.overrides import Override, first_values, parse
from trainer.config.saved import Saved, load_checkpoint, load_resumed
from trainer.config.schema import Config, Settings
from trainer.config.validation import lone_word_hint, validate
from trainer.errors import ConfigError, Problem

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Keys that may be `auto`, with the values they have until an LR range test has found others.
AUTO = {"optimizer.lr": 1e-3, "schedule.clr.floor": 0.1}
DEFAULTS = "TRAINER_OVERRIDES"


def load_config(
    overrides: Sequence[str] = (), config_dirs: Sequence[Path | str] = (), defaults: Sequence[str] = ()
) -> Config:
    """Return the config that ``train`` runs with these overrides; ConfigError with all the errors that can be found.

    Args:
        overrides: As typed after ``train``, such as ``["optimizer=adam", "epochs=2"]``.
        config_dirs: Directories with options of the user, as for ``--config-dir``.
        defaults: Overrides that yield to the user's; those that do not apply are left out.

    >>> load_config(["optimizer=adam", "seed=3"]).seed
    3
    """
    files = option_files(config_dirs)
    command = prepare(overrides, files, defaults)
    tree, choices = command.compose()
    config = _instantiate(tree, choices, files, command)
    from trainer.config.constraints import check_config

    if problems := check_config(config):
        raise ConfigError(*problems)
    return config


class Command:
    """Overrides after expansion and validation: what is composed, and the errors so far."""

    def __init__(self, files: OptionFiles, typed: list[Override], saved: Saved | None) -> None:
        self.files, self.typed, self.saved = files, typed, saved
        self.overrides: list[Override] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def compose(self) -> tuple[DictConfig, dict[str, str]]:
        """Compose the config, once; where there are errors already, report those of the values with them."""
        texts = [o.text for o in self.overrides if o.key != "experiment"]
        base = "train" if self.saved is None else "saved"
        if not self.problems:
            return compose(texts, self.files, base)
        typed = {o.key for o in self.typed}
        try:
            tree, choices = compose(texts, self.files, base)
            _instantiate(tree, choices, self.files, self)
        except ConfigError as error:
            found = {problem.key for problem in self.problems}
            self.problems += [replace(p, where="") for p in error.problems if p.key in typed - found]
        raise ConfigError(*self.problems)


def prepare(
    arguments: Sequence[str], files: OptionFiles, defaults: Sequence[str] = (), multirun: bool = False
) -> Command:
    """Parse, expand and validate the overrides of a command."""
    typed, problems = parse(arguments, multirun)
    problems = [
        replace(p, hint=lone_word_hint(arg, files)) if not p.hint else p
        for p, arg in zip(problems, [a for a in arguments if "=" not in a] + [""] * len(problems), strict=False)
    ]
    typed, notices = renamed.overrides(typed)
    sweeps = [o for o in typed if o.sweep]
    if sweeps and not multirun:
        hint = "train -m ... runs each value; a list is written '[a,b]'"
        problems += [Problem("", None, f"{o.text!r} is a sweep; it needs -m", hint) for o in sweeps]
    saved: Saved | None = None
    try:
        saved = load_resumed(typed) or load_checkpoint(typed, files)
    except ConfigError as error:
        problems += error.problems
    command = Command(files, typed, saved)
    command.notes += notices
    command.problems += problems
    if saved is None:
        _expand(command, defaults)
    else:
        command.problems += saved.problems(typed)
        wrong = {problem.key for problem in command.problems}
        _validate_saved(command, saved, [o for o in typed if o.key not in wrong])
    return command


def _expand(command: Command, defaults: Sequence[str]) -> None:
    """Put the overrides of an experiment and the defaults in front of the user's, and validate."""
    layers: list[Layer] = []
    name = next((o.value for o in reversed(command.typed) if o.key == "experiment" and not o.sweep), None)
    try:
        if isinstance(name, str) and name in command.files.groups.get("experiment", {}):
            layers = load_experiment(name, command.files)
        layers += _default_layer(defaults, layers, command.files)
        expansion = expand(layers, command.typed, command.files)
    except ConfigError as error:
        command.problems += error.problems
        return
    command.notes += expansion.notes
    lenient = [o for o in expansion.overrides if o.source == DEFAULTS]
    wrong = {problem.key for problem in validate([*expansion.overrides, *command.typed], command.files)[0]}
    front = [o for o in expansion.overrides if o not in lenient or o.key not in wrong]
    problems, command.overrides = validate([*front, *command.typed], command.files)
    command.problems += problems
    if any(o.sweep for o in command.typed):  # the config of the first job stands for all
        _, command.overrides = validate([*front, *first_values(command.typed)], command.files)


def _default_layer(defaults: Sequence[str], layers: list[Layer], files: OptionFiles) -> list[Layer]:
    """The defaults as if an experiment had set them."""
    if not defaults:
        return []
    items, problems = parse(defaults)
    if problems:
        raise ConfigError(*(replace(p, text=f"{DEFAULTS}: {p.text}") for p in problems))
    options = (layers[-1].options if layers else files.defaults) | chosen_options(items, files)
    keys = {o.key: o.value for o in items if o.key not in files.groups}
    return [Layer(DEFAULTS, options, keys, shared=SINGLE)]


def _validate_saved(command: Command, saved: Saved, typed: list[Override]) -> None:
    problems, usable = validate([o for o in typed if o.key != saved.key], command.files, saved.tree)
    command.problems += problems
    front = saved.overrides(typed)
    groups = {o.key for o in front}
    chosen = [replace(o, text=f"+{o.text}") if o.key in saved.free and o.key not in groups else o for o in usable]
    command.overrides = [*front, *sorted(chosen, key=lambda o: o.key not in saved.free)]


def _instantiate(tree: Any, choices: dict[str, str], files: OptionFiles, command: Command) -> Config:
    """Construct every option of a composed config; ConfigError with all errors where there are any."""
    values = plain(tree)
    values.pop("experiment", None)
    concrete, auto_keys = resolve_auto(values)
    problems: list[Problem] = []
    options: dict[str, Any] = {}
    for group in SINGLE:
        node = concrete.get(group)
        if not isinstance(node, dict):
            problems.append(Problem(group, node, f"must name one option of conf/{group}", f"see: train --help {group}"))
            continue
        file = f"conf/{group}/{choices[group]}.yaml" if group in choices else ""
        options[group], errors = instantiate(node, group, file)
        problems += errors
    for group in LISTS:
        options[group] = {}
        for name, node in (concrete.get(group) or {}).items():
            if not isinstance(node, dict):
                problems.append(_not_an_option(group, name, node, concrete[group]))
                continue
            options[group][name], errors = instantiate(node, f"{group}.{name}", f"conf/{group}/{name}.yaml")
            problems += errors
    scalars = {k: v for k, v in concrete.items() if k not in (*SINGLE, *LISTS)}
    target = f"{Settings.__module__}.{Settings.__name__}"
    settings, errors = instantiate({"_target_": target, **scalars}, "", "conf/train.yaml")
    problems += errors
    if problems:
        raise ConfigError(*problems)
    return Config(
        **vars(settings),
        **options,
        tree=values,
        auto_keys=auto_keys,
        notes=tuple(command.notes),
        config_dirs=tuple(files.directories[1:]),
    )


def _not_an_option(group: str, name: str, node: Any, enabled: dict[str, Any]) -> Problem:
    hint = f"enabled: {', '.join(enabled) or 'none'}"
    if name == "_target_":
        hint = f"an option file of {group} holds its keys under its own name, as in conf/{group}"
    return Problem(f"{group}.{name}", node, "is not an option with a _target_", hint)


def config_from_tree(tree: dict[str, Any]) -> Config:
    """Return the config of a saved tree, such as a member of an ensemble has."""
    files = OptionFiles()
    return _instantiate(renamed.tree(tree), {}, files, Command(files, [], None))


def plain(tree: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return a config as plain values, interpolations resolved; ``???`` stays, to be reported as missing."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(tree, dict):
        return dict(tree)
    try:
        values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        problem = Problem(str(error.full_key or ""), str(error.msg).split("\n")[0], "cannot be resolved")
        raise ConfigError(problem) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def resolve_auto(tree: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the config with preliminary values for keys that are ``auto``, and these keys.

    >>> resolve_auto({"optimizer": {"lr": "auto"}, "seed": 0})
    ({'optimizer': {'lr': 0.001}, 'seed': 0}, ('optimizer.lr',))
    """
    keys = []
    for key, value in AUTO.items():
        node: Any = tree
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node == "auto":
            keys.append(key)
            tree = with_value(tree, key, value)
    return tree, tuple(keys)


def with_value(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of the config with another value of a dotted key.

    >>> with_value({"optimizer": {"lr": 1.0}, "seed": 0}, "optimizer.lr", 2.0)
    {'optimizer': {'lr': 2.0}, 'seed': 0}
    """
    first, _, rest = key.partition(".")
    return {**tree, first: with_value(tree[first], rest, value) if rest else value}
