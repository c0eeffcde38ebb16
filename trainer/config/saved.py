"""Saved configs, of a run directory or a checkpoint: what ``resume=`` and ``checkpoint=`` start from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer import renamed
from trainer.config.options import LISTS, SINGLE, OptionFiles, names
from trainer.config.overrides import Override
from trainer.config.schema import Job
from trainer.construct import locate
from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject
from trainer.instantiate import instantiate
from trainer.places import check_resumable, not_replaced
from trainer.run_dir import find_checkpoint, find_run_dir, read_config
from trainer.tree import is_table, table
from trainer.trust import resolvers

RESOLVED = "would be looked up on this computer; a saved config holds values"
GROUPS = (*SINGLE, *LISTS, "experiment")
# What can be changed: groups of which another option may be chosen, and settings.
FREE = {"resume": ("engine", "observer"), "checkpoint": ("job", "data", "engine", "observer")}
SETTINGS_ON_CHECKPOINT = ("device", "precision", "output", "checkpoint")
# How training was distributed says nothing about a job on the weights, which runs in one process.
ONE_PROCESS = {"distributed": "none", "sync_batch_norm": False}


@dataclass
class Saved:
    """A saved config.

    Attributes:
        key: ``resume`` or ``checkpoint``.
        path: The run directory or checkpoint.
        tree: The config with today's names; of a checkpoint, without the job.
    """

    key: str
    path: str
    tree: JsonObject

    def problem(self, item: Override) -> Problem | None:
        """Return why an override cannot be applied to the saved config."""
        free = FREE[self.key]
        if item.kind == "~":
            return Problem(item.key, None, f"cannot be removed from the saved config of {self.key}={self.path}")
        if self.key == "resume" and item.key == "output":
            return Problem("output", item.value, "a resumed run continues in its own directory: leave it out")
        if item.key in GROUPS and item.key not in free and not is_table(item.value):
            text = f"cannot be replaced: it comes from {self.key}={self.path}; {', '.join(free)} can"
            hint = "the values of its keys can be changed" if self.key == "resume" else "leave it out"
            if (self.key, item.key) == ("resume", "job"):
                return not_replaced(self.path, str(item.shown))
            return Problem(item.key, item.shown, text, hint)
        if self.key == "checkpoint" and item.group not in (*free, *SETTINGS_ON_CHECKPOINT):
            text = "cannot be changed for a checkpoint; job, data, engine, observer, device, precision and output can"
            return Problem(item.key, item.shown, text, "leave it out")
        return None

    def repeats(self, item: Override, files: OptionFiles) -> bool:
        """Return whether an override chooses the options that the saved config has anyway."""
        node = table(self.tree.get(item.key))
        own = [files.option_name(item.key, node)] if "_target_" in node else [*node]
        fixed = item.key in (*SINGLE, *LISTS) and item.key not in FREE[self.key]
        return fixed and not item.kind and not is_table(item.value) and names(item.value) == own


def load_saved(typed: list[Override], files: OptionFiles) -> Saved | None:
    """Return the config that ``resume=`` or ``checkpoint=`` names; None without one of them."""
    resume, checkpoint = _last(typed, "resume"), _last(typed, "checkpoint")
    if resume is not None:
        directory = find_run_dir("resume", str(resume))
        saved = _saved("resume", str(directory), read_config(directory, "resume"))
        node = table(saved.tree.get("job"))
        if job := _job(node):
            check_resumable(directory, files.option_name("job", node), job.trains or job.continues)
        return saved
    name = (names(_last(typed, "job")) or files.defaults["job"])[-1]
    if checkpoint is None or "${" in str(checkpoint) or name not in files.groups["job"]:
        return None
    keys = files.keys("job", [name])
    if not (job := _job(keys)) or not job.needs_checkpoint:
        return None  # instantiate.py or constraints.py reports it
    prefer = _last(typed, "job.prefer") or keys.get("prefer", "best")
    file = find_checkpoint(str(checkpoint), str(prefer))
    given = {o.key.removeprefix("job."): o.value for o in typed if o.key.startswith("job.")}
    option, problems = instantiate(keys | given, "job")
    if problems or option.own_problems():
        raise ConfigError  # without reading the checkpoint, which imports torch: they are reported with the job
    from trainer.engine.checkpoint import load  # imports torch, once there is something to read

    tree: JsonObject = {k: v for k, v in load(file)["info"]["config"].items() if k != "job"}
    engine = table(tree["engine"])
    tree["engine"] = engine | {k: v for k, v in ONE_PROCESS.items() if k in engine}
    return _saved("checkpoint", str(Path(str(checkpoint)).expanduser()), tree)


def _job(node: JsonObject) -> type[Job] | None:
    """The class of a job; None where there is none."""
    with suppress(ImportError, KeyError):
        return locate(node["_target_"], "job")
    return None


def _saved(key: str, path: str, tree: JsonObject) -> Saved:
    if problems := [Problem(k, text, RESOLVED, f"{k}=... with a value") for k, text in resolvers(tree)]:
        raise ConfigError(*problems)
    tree = renamed.tree(tree) | {"resume": None, "checkpoint": None, "output": None, key: path}
    return Saved(key, path, {k: {} if v is None and k in LISTS else v for k, v in tree.items() if k != "experiment"})


def _last(typed: list[Override], key: str) -> object:
    return next((o.value for o in reversed(typed) if o.key == key), None)
