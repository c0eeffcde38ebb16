"""Going on from what was saved: the config of a run folder or of a checkpoint, with the overrides that may change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from trainer.config.compose import compose
from trainer.config.instantiate import instantiate
from trainer.config.options import options
from trainer.config.overrides import parse
from trainer.config.schema import plain
from trainer.errors import ConfigError, Problem, nearest

FREE = ("engine", "observer")  # groups that change how a run goes, not what it computes
ON_CHECKPOINT = ("job", "data", *FREE)
NOT_SAVED = ("resume", "output", "checkpoint")


def resumed(overrides: list[str], folders: list[Path]) -> tuple[DictConfig, Path]:
    """The config of ``resume=<run folder>`` with the other overrides in it, and the folder.

    Values may change (``epochs=20``); of groups only ``engine`` and ``observer`` may, because the checkpoint holds the
    state of what the others built.
    """
    parsed, problems = parse(overrides)
    if problems:
        raise ConfigError(*problems)
    given = {o.key_or_group: o for o in parsed}
    folder = Path(str(given.pop("resume").value())).expanduser()
    tree = saved_config(folder)
    if "output" in given:
        raise ConfigError(
            Problem("output", str(given["output"].value()), "a resumed run goes on in its own folder: leave it out")
        )
    apply(tree, list(given.values()), folders, FREE, "resume")
    tree.resume, tree.output = str(folder), None
    return tree, folder


def saved_config(folder: Path) -> DictConfig:
    """The config a run folder holds; ConfigError where the folder is none."""
    if not folder.exists():
        raise ConfigError(Problem("resume", str(folder), "there is no such folder"))
    if not (folder / "config.yaml").is_file():
        inside = sorted(p.parent.name for p in folder.glob("*/config.yaml")) if folder.is_dir() else []
        hint = f"it holds the runs {', '.join(inside)}" if inside else "a run folder holds config.yaml and checkpoints/"
        raise ConfigError(Problem("resume", str(folder), "is no run folder", hint))
    try:
        loaded = OmegaConf.load(folder / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(Problem("resume", str(folder), f"its config.yaml cannot be read: {reason}")) from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(Problem("resume", str(folder), "its config.yaml is no config"))
    return loaded


def on_checkpoint(cfg: DictConfig, overrides: list[str], folders: list[Path]) -> DictConfig:
    """The config inside a checkpoint, its job replaced by the one asked for, with the other overrides in it."""
    values = plain(cfg)  # tells what cannot be resolved
    place = Path(str(values["checkpoint"])).expanduser()
    wrong = instantiate(values["job"], "job", "")[1]
    if not place.exists():
        wrong.append(Problem("checkpoint", str(place), "there is no such file or folder"))
    if wrong:
        raise ConfigError(*wrong)
    if "prefer" not in cfg.job:
        text = "is for jobs that start from one: job=evaluate checkpoint=..."
        raise ConfigError(Problem("checkpoint", str(place), text, "to go on training: resume=<run folder>"))
    from trainer.engine import checkpoint  # imports torch: only once there is something to read

    content = checkpoint.load(checkpoint.find(place, cfg.job.prefer))
    tree = DictConfig(content["info"]["config"])
    tree.job, tree.resume, tree.output = cfg.job, None, None
    given = [o for o in parse(overrides)[0] if o.key_or_group not in ("job", "checkpoint")]
    given = [o for o in given if not o.key_or_group.startswith("job.")]
    for override in given:
        if override.key_or_group.split(".")[0] not in (*ON_CHECKPOINT, "device", "precision", "output"):
            text = "has no effect on a trained network: job, data, engine, observer, device, precision can be given"
            raise ConfigError(Problem(override.key_or_group, override.get_value_element_as_str(), text, "leave it out"))
    apply(tree, given, folders, ON_CHECKPOINT, "checkpoint")
    tree.checkpoint = str(place)
    return tree


def apply(tree: DictConfig, given: list[Any], folders: list[Path], free: tuple[str, ...], source: str) -> None:
    """Put overrides into a saved config: values where the key is there, groups where they are ``free``."""
    groups = options(folders)
    problems = [
        Problem(o.key_or_group, None, f"cannot be taken out of what the {source} holds") for o in given if o.is_delete()
    ]
    if problems:
        raise ConfigError(*problems)
    chosen = [o for o in given if o.key_or_group in groups]
    for override in chosen:
        if override.key_or_group not in free:
            text = f"cannot be another one than what the {source} holds; {', '.join(free)} can"
            problems.append(
                Problem(override.key_or_group, override.get_value_element_as_str(), text, "values of it can change")
            )
    if problems:
        raise ConfigError(*problems)
    if chosen:
        # Their values come along, so that data=folder data.root=... is complete.
        mine = [o.input_line for o in given if o.key_or_group.split(".")[0] in {c.key_or_group for c in chosen}]
        fresh = compose(mine, folders)
        for override in chosen:
            tree[override.key_or_group] = fresh[override.key_or_group]
    for override in given:
        key = override.key_or_group
        if key in groups:
            continue
        if override.is_sweep_override():
            raise ConfigError(Problem(key, override.input_line, f"one value at a time goes with {source}=..."))
        problem = _set(tree, key, override)
        if problem:
            problems.append(problem)
    if problems:
        raise ConfigError(*problems)


def _set(tree: DictConfig, key: str, override: Any) -> Problem | None:
    """Set one dotted key, or say why it cannot be."""
    node: Any = tree
    *path, last = key.split(".")
    for part in path:
        node = node.get(part) if isinstance(node, DictConfig) and part in node else None
    if not isinstance(node, DictConfig) or last not in node:
        names = [str(k) for k in node if k != "_target_"] if isinstance(node, DictConfig) else []
        hint = nearest(last, names) or f"there are: {', '.join(names) or 'none'}"
        return Problem(key, override.get_value_element_as_str(), "there is no such key in the saved config", hint)
    node[last] = override.value()
    return None
