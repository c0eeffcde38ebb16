"""Experiments: files that set keys of several groups at once, and what becomes of them where another option is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# The keys of these mean the same whatever the option, so that another one keeps those it has.
SHARED = ("job", "data", "engine")
Compose = Callable[[list[str]], tuple[Any, dict[str, Any]]]


@dataclass(frozen=True)
class Experiment:
    """An experiment's name, the keys of its own file, and the option of each group that it takes alone."""

    name: str
    keys: DictConfig
    takes: dict[str, Any]

    def sets(self, group: str) -> dict[str, Any]:
        """The keys of a group that its file sets, with their nodes: what is to be resolved is resolved later."""
        node = self.keys.get(group)
        return {str(k): node._get_node(k) for k in node} if isinstance(node, DictConfig) else {}


def lineage(name: str, files: dict[str, Path], compose: Compose) -> list[Experiment]:
    """An experiment and those it builds on, the eldest first."""
    loaded = OmegaConf.load(files[name])
    keys = loaded if isinstance(loaded, DictConfig) else DictConfig({})
    parents = [d.removeprefix("/experiment/") for d in keys.get("defaults") or [] if isinstance(d, str)]
    elder = [e for parent in parents if parent in files for e in lineage(parent, files, compose)]
    return [*elder, Experiment(name, keys, compose([f"experiment={name}"])[1])]


def fit(cfg: Any, choices: dict[str, Any], overrides: list[Any], files: dict[str, Path], compose: Compose) -> list[str]:
    """Take out of the config what its experiment, and those this builds on, say of options that were not taken; a note on each.

    ``choices`` is Hydra's, ``overrides`` are those of the command as parsed, ``files`` are those of all experiments, ``compose``
    composes others and raises where it cannot. The rate of ``experiment=cifar10_fast`` is for ``nesterov`` and none for
    ``optimizer=adam``: an option that the command names goes by its own file and by the command. Keys of ``job``, ``data`` and
    ``engine`` stay where the option has them.
    """
    name = choices.get("experiment")
    if not isinstance(name, str):
        return []
    OmegaConf.set_struct(cfg, False)
    line = lineage(name, files, compose)
    notes = []
    for group, option in choices.items():
        single = isinstance(cfg.get(group), DictConfig) and "_target_" in cfg[group]  # list groups have options inside
        if single and any(e.takes.get(group) not in (None, option) for e in line):
            typed = [o for o in overrides if o.key_or_group.startswith(f"{group}.")]
            # optimizer={lr:0.1}
            whole = [o for o in overrides if o.key_or_group == group and isinstance(o.value(), dict)]
            kept = [o.input_line for o in [*whole, *typed] if not o.is_delete()]
            own = compose([f"{group}={option}", *kept])[0][group]
            keys = {str(k): o for o in whole for k in o.value()} | {o.key_or_group.split(".")[1]: o for o in typed}
            notes += _refit(cfg, group, option, own, keys, line)
    added = {".".join(o.key_or_group.split(".")[:2]) for o in overrides if o.is_add() or o.is_force_add()}
    for group in [g for g in cfg if isinstance(cfg.get(g), DictConfig) and "_target_" not in cfg[g]]:
        if unused := [o for o in _unused(cfg[group], group, line) if f"{group}.{o}" not in added]:
            # Raises where a key of them was typed, which is a mistake and no rest of the experiment.
            compose([o.input_line for o in overrides if o.key_or_group.partition(".")[0] == group])
            notes += [f"experiment={name}: {group}.{option} is not in use" for option in unused]
            for option in unused:
                del cfg[group][option]
    return notes


def _refit(
    cfg: Any, group: str, option: str, own: DictConfig, typed: dict[str, Any], line: list[Experiment]
) -> list[str]:
    """Put an option's own keys, those that experiments set for it, and the typed ones in the place of what was composed."""
    nodes = {k: own._get_node(k) for k in own if k not in typed or not typed[k].is_delete()}
    notes = []
    for experiment in line:
        sets = {k: v for k, v in experiment.sets(group).items() if k not in typed}
        meant = experiment.takes.get(group)
        kept = sets if option == meant else {k: v for k, v in sets.items() if group in SHARED and k in own}
        nodes |= kept
        if lost := [k for k in sets if k not in kept]:
            verb = "is" if len(lost) == 1 else "are"
            notes.append(
                f"experiment={experiment.name}: {group}.{', '.join(lost)} {verb} for {meant}, not for {option}"
            )
    cfg[group] = nodes
    return notes


def _unused(node: DictConfig, group: Any, line: list[Experiment]) -> list[str]:
    """Options of a list group of which only an experiment's keys are left, because others were taken."""
    bare = [str(k) for k in node if isinstance(node.get(k), DictConfig) and "_target_" not in node[k]]
    return [k for k in bare if any(k in e.sets(group) for e in line)]
