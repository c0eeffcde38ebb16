"""Experiments: files that set keys of several groups at once, and what becomes of them where another option is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

# The keys of these mean the same whatever the option, so that another one keeps those it has.
SHARED = ("job", "data", "engine")


def fit(cfg: Any, choices: dict[str, Any], overrides: list[Any], compose: Callable[[list[str]], Any]) -> list[str]:
    """Take out of the config what its experiment says of options that were not taken; a note on each.

    ``choices`` is Hydra's, ``overrides`` are those of the command as parsed, ``compose`` composes others, Hydra's own node
    included, and raises where it cannot. The rate of ``experiment=cifar10_fast`` is for ``nesterov`` and none for
    ``optimizer=adam``: an option that the command names goes by its own file and by the command. Keys of ``job``, ``data`` and
    ``engine`` stay where the option has them.
    """
    name = choices.get("experiment")
    if not isinstance(name, str):
        return []
    OmegaConf.set_struct(cfg, False)
    alone = compose([f"experiment={name}"])
    meant, notes = alone.hydra.runtime.choices, []
    for group, option in choices.items():
        single = "_target_" in (cfg.get(group) or {})  # a list group holds options, each with its own
        if single and option != meant.get(group, option):
            typed = [o for o in overrides if o.key_or_group.startswith(f"{group}.")]
            own = compose([f"{group}={option}", *(o.input_line for o in typed if not o.is_delete())])[group]
            deleted = {o.key_or_group.partition(".")[2] for o in typed if o.is_delete()}
            lost = _replace(cfg, group, {k: own._get_node(k) for k in own if k not in deleted})
            if lost:
                verb = "is" if len(lost) == 1 else "are"
                notes.append(
                    f"experiment={name}: {group}.{', '.join(lost)} {verb} for {meant[group]}, not for {option}"
                )
    for group, node in alone.items():
        if unused := _unused(cfg, group, node):
            # Raises where a key of them was typed, which is a mistake and no rest of the experiment.
            compose([o.input_line for o in overrides if o.key_or_group.partition(".")[0] == group])
            notes += [f"experiment={name}: {group}.{option} is not in use" for option in unused]
            for option in unused:
                del cfg[group][option]
    return notes


def _replace(cfg: Any, group: str, own: dict[str, Any]) -> list[str]:
    """Put the keys of an option in the place of those composed; which of these were lost."""
    composed = {k: cfg[group]._get_node(k) for k in cfg[group]}
    kept = {k: v for k, v in composed.items() if group in SHARED and k in own}
    cfg[group] = own | kept
    return [str(k) for k, v in composed.items() if k not in kept and (k not in own or own[k] != v)]


def _unused(cfg: Any, group: Any, node: Any) -> list[str]:
    """Options of a list group of which only keys are left: the experiment has them, the command took others."""
    if group == "hydra" or not hasattr(node, "keys"):
        return []
    names = [k for k in node if hasattr(node._get_node(k), "keys") and "_target_" in node._get_node(k)]
    return [k for k in names if k in (cfg.get(group) or {}) and "_target_" not in cfg[group][k]]
