"""Experiments: files that choose options and set keys of several groups, expanded into overrides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config.options import LISTS, SINGLE, OptionFiles, names
from trainer.config.overrides import Override, override
from trainer.errors import ConfigError, Problem

# The keys of these groups mean the same whatever the option, so another option keeps those that it has.
SHARED = ("job", "data", "engine")
Options = dict[str, list[str]]  # the options of each group


@dataclass
class Layer:
    """What one experiment file sets, without what it inherits.

    Attributes:
        options: The options of every group once this layer is applied; its keys are meant for these.
        keys: Dotted keys and their values.
        shared: Groups whose keys are kept by whichever option has them.
    """

    name: str
    options: Options
    keys: dict[str, Any]
    shared: tuple[str, ...] = SHARED


@dataclass
class Expansion:
    """Overrides that stand in front of the user's, and notes on what was left out."""

    overrides: list[Override] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def expand(layers: list[Layer], typed: list[Override], files: OptionFiles) -> Expansion:
    """Return the overrides of experiments, without those whose option the user chose differently.

    ``experiment=cifar10_fast optimizer=adam`` leaves out the learning rate, which is meant for ``nesterov``. Keys of
    ``job``, ``data`` and ``engine`` stay where the chosen option has them.

    Args:
        layers: The experiment and those it inherits from, the base first.
        typed: The user's overrides.
        files: The option files.
    """
    if not layers:
        return Expansion()
    final = layers[-1].options | chosen_options(typed, files)
    result = Expansion()
    for group, options in layers[-1].options.items():
        if final[group] == options and options != files.defaults.get(group):
            value = options[0] if group not in LISTS else options
            result.overrides.append(override(group, value, source=layers[-1].name))
    added = {o.key for o in typed if o.kind in ("+", "++")}
    for layer in layers:
        unused: dict[str, list[str]] = {}
        for key, value in layer.keys.items():
            if reason := _unused(key, layer, final, files, added):
                unused.setdefault(reason, []).append(key)
            else:
                result.overrides.append(override(key, value, "++", source=layer.name))
        result.notes += [f"{layer.name}: {', '.join(keys)} {reason}" for reason, keys in unused.items()]
    return result


def _unused(key: str, layer: Layer, final: Options, files: OptionFiles, added: set[str]) -> str:
    """Why a key of an experiment has no place among the options chosen; empty where it has."""
    group, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    options = [option for option in final.get(group, []) if option in files.groups.get(group, {})]
    if group in LISTS:
        enabled = name in files.keys(group, options) or any(a.startswith(f"{group}.{name}") for a in added)
        return "" if enabled or name not in files.groups[group] else f"not used: {name} is not enabled"
    if group not in SINGLE or layer.options[group] == final[group]:
        return ""
    if group in layer.shared and name in files.keys(group, options):
        return ""
    return f"not used: set for {group}={layer.options[group][0]}"


def chosen_options(overrides: list[Override], files: OptionFiles) -> Options:
    """Return the options that overrides choose, by group; a sweep chooses several."""
    chosen = {}
    for item in overrides:
        if item.key in files.groups and not isinstance(item.value, dict) and item.kind != "~":
            chosen[item.key] = option_names(item, files)
    return chosen


def option_names(item: Override, files: OptionFiles) -> list[str]:
    """Return the options an override of a group names, those of a sweep and of a glob included."""
    if hasattr(item.value, "filter"):  # Hydra's glob
        return list(item.value.filter(list(files.groups[item.key])))
    return names(item.value)


def load_experiment(name: str, files: OptionFiles) -> list[Layer]:
    """Return an experiment and those it inherits from, the base first; ConfigError where a file is not one."""
    return _lineage(name, files, files.defaults, ())


def _lineage(name: str, files: OptionFiles, defaults: Options, path: tuple[str, ...]) -> list[Layer]:
    file = files.groups["experiment"][name]
    if name in path:
        text = f"inherits from itself: {' -> '.join([*path, name])}"
        raise ConfigError(Problem("experiment", name, text, where=str(file)))
    if not re.match(r"(#.*\n)*# @package _global_\s*\n", file.read_text()):
        text = "the file must begin with the line '# @package _global_'"
        raise ConfigError(Problem("experiment", name, text, where=str(file)))
    content = files.load(file)
    layers: list[Layer] = []
    options = dict(defaults)
    for entry in content.get("defaults", []):
        parent, chosen = _entry(entry, name, files, file)
        if parent:
            layers += _lineage(parent, files, options, (*path, name))
            options = dict(layers[-1].options)
        options |= chosen
    keys = _flat({k: v for k, v in content.items() if k != "defaults"}, [*SINGLE, *LISTS])
    return [*layers, Layer(f"experiment={name}", options, keys)]


def _entry(entry: Any, name: str, files: OptionFiles, file: Path) -> tuple[str, Options]:
    """An entry of an experiment's defaults: the experiment it inherits from, or the option it chooses."""
    if isinstance(entry, str):
        parent = entry.removeprefix("/").removeprefix("experiment/")
        if parent == "_self_" or parent in files.groups["experiment"]:
            return ("" if parent == "_self_" else parent), {}
    if isinstance(entry, dict) and len(entry) == 1:
        ((key, value),) = entry.items()
        group = str(key).removeprefix("override ").strip().removeprefix("/")
        if group == "experiment" and str(value) in files.groups["experiment"]:
            return str(value), {}
        if group in (*SINGLE, *LISTS):
            options = names(value)
            if (options and all(option in files.groups[group] for option in options)) or (
                group in LISTS and not options
            ):
                return "", {group: options}
            group_files = ", ".join(files.groups[group])
            raise ConfigError(
                Problem(f"experiment={name}", entry, f"{group} must be one of {group_files}", where=str(file))
            )
    text = "must be an experiment, or 'override /<group>: <option>'"
    raise ConfigError(Problem(f"experiment={name}", entry, text, where=str(file)))


def _flat(content: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    """Dotted keys: of a group, the keys of its option; of a list group, those of each of its options."""
    keys: dict[str, Any] = {}
    for key, value in content.items():
        if key not in groups or not isinstance(value, dict):
            keys[key] = value
            continue
        for name, item in value.items():
            if key in LISTS and isinstance(item, dict):
                keys |= {f"{key}.{name}.{parameter}": v for parameter, v in item.items()}
            else:
                keys[f"{key}.{name}"] = item
    return keys
