"""Saved configs, of a run directory or a checkpoint, as overrides: what ``resume=`` and ``checkpoint=`` start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import renamed
from trainer.config.instantiate import locate
from trainer.config.options import LISTS, SINGLE, OptionFiles, names
from trainer.config.overrides import Override, override
from trainer.errors import ConfigError, Problem
from trainer.run_dir import find_checkpoint, find_run_dir, read_config

FREE = ("engine", "observer")  # groups that change how a run proceeds, not what it computes
FREE_ON_CHECKPOINT = ("job", "data", *FREE)
SETTINGS_ON_CHECKPOINT = ("device", "precision", "output", "checkpoint")
# How training was distributed says nothing about a job on the weights, which runs in one process.
ONE_PROCESS = {"distributed": "none", "sync_batch_norm": False}


@dataclass
class Saved:
    """A saved config.

    Attributes:
        key: ``resume`` or ``checkpoint``.
        path: The run directory or checkpoint.
        tree: The config, keys renamed since then already replaced.
        free: Groups of which another option may be chosen.
    """

    key: str
    path: Path
    tree: dict[str, Any]
    free: tuple[str, ...]

    def overrides(self, typed: list[Override]) -> list[Override]:
        """Return the saved config as overrides of an empty one, without the groups of which another option is chosen."""
        chosen = {o.key for o in typed if o.key in self.free and not isinstance(o.value, dict)}
        tree = self.tree | {"resume": None, "checkpoint": None, "output": None, self.key: str(self.path)}
        kept = {k: v for k, v in tree.items() if k not in chosen and k != "experiment"}
        # A group without options is an empty table: null would be read as an option.
        return [override(k, {} if v is None and k in LISTS else v, "+", source="saved") for k, v in kept.items()]

    def problems(self, typed: list[Override]) -> list[Problem]:
        """Return what cannot be changed about a saved config."""
        problems = []
        for item in typed:
            problem = self._problem(item)
            if problem:
                problems.append(problem)
        return problems

    def _problem(self, item: Override) -> Problem | None:
        if item.kind == "~":
            return Problem(item.key, None, f"cannot be removed from the saved config of {self.key}={self.path}")
        if self.key == "resume" and item.key == "output":
            return Problem("output", item.value, "a resumed run continues in its own directory: leave it out")
        if self.key == "resume" and item.sweep:
            return Problem(item.key, item.shown, "resume=... takes one value at a time, without -m")
        if item.key in (*SINGLE, *LISTS) and item.key not in self.free and not isinstance(item.value, dict):
            text = f"cannot be replaced when the weights come from {self.key}=...; {', '.join(self.free)} can"
            return Problem(item.key, item.shown, text, "the values of its keys can be changed")
        if self.key == "checkpoint" and item.group not in (*self.free, *SETTINGS_ON_CHECKPOINT):
            text = "cannot be changed for a checkpoint; job, data, engine, observer, device, precision and output can"
            return Problem(item.key, item.shown, text, "leave it out")
        return None


def load_resumed(typed: list[Override]) -> Saved | None:
    """Return the config of the run that ``resume=`` names; None without that override."""
    value = _last(typed, "resume")
    if value is None:
        return None
    directory = find_run_dir("resume", str(value))
    return Saved("resume", directory, renamed.tree(read_config(directory, "resume")), FREE)


def load_checkpoint(typed: list[Override], files: OptionFiles) -> Saved | None:
    """Return the config inside the checkpoint that ``checkpoint=`` names; None without that override."""
    value = _last(typed, "checkpoint")
    if value is None or "${" in str(value):
        return None
    option = (names(_last(typed, "job")) or files.defaults["job"])[-1]
    if option not in files.groups["job"]:
        return None  # the unknown job is reported
    keys = files.keys("job", [option])
    if not locate(keys["_target_"]).needs_checkpoint:
        text = "is for jobs that start from one: job=evaluate checkpoint=..."
        raise ConfigError(Problem("checkpoint", str(value), text, "to continue training: resume=<run directory>"))
    prefer = _last(typed, "job.prefer") or keys.get("prefer", "best")
    file = find_checkpoint(str(value), str(prefer))
    from trainer.engine import checkpoint  # imports torch, once there is something to read

    content = checkpoint.load(file)
    tree = {k: v for k, v in content["info"]["config"].items() if k != "job"}
    engine = tree["engine"]
    assert isinstance(engine, dict)
    tree["engine"] = engine | {k: v for k, v in ONE_PROCESS.items() if k in engine}
    return Saved("checkpoint", Path(str(value)).expanduser(), renamed.tree(tree), FREE_ON_CHECKPOINT)


def _last(typed: list[Override], key: str) -> Any:
    return next((o.value for o in reversed(typed) if o.key == key and not o.sweep), None)
