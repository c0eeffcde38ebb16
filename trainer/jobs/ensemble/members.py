"""The members of an ensemble: trained here, or the weights of given runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.builder import restored_task
from trainer.checkpoint_data import check_targets
from trainer.config.load import config_from_tree
from trainer.data import Splits
from trainer.data.folds import fold
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Member, saved_info
from trainer.engine.run import Run
from trainer.engine.state import StateDict, snapshot
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem
from trainer.files import atomic_path
from trainer.formats import JsonObject, Row
from trainer.inference import plain_weights, use_averaged
from trainer.jobs.run_paths import find_runs
from trainer.jobs.several import train
from trainer.literal import print_literal
from trainer.observers import Observer
from trainer.records import read_result
from trainer.tasks.restrict import main_only
from trainer.tasks.task import Thresholds
from trainer.tree import table, with_value
from trainer.weight_files import read_weight_file

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.combined_options import Ensemble


def train_seeds(option: Ensemble, config: Config, splits: Splits, run_dir: Path) -> list[Member] | None:
    """Train members that differ in the seed; None if interrupted."""

    def member(i: int) -> tuple[JsonObject, Splits]:
        return with_value(config.tree, "seed", config.seed + i), splits

    return train_members(option.models, member, lambda i: f"seed {config.seed + i}", run_dir)


def train_folds(option: Ensemble, config: Config, splits: Splits, run_dir: Path) -> list[Member] | None:
    """Train a member per fold, validated on its fold; None if interrupted."""
    folds = fold(splits, option.models, config.data.split_seed)
    return train_members(option.models, lambda i: (config.tree, folds[i]), lambda i: f"fold {i}", run_dir)


def train_members(
    count: int, member: Callable[[int], tuple[JsonObject, Splits]], name: Callable[[int], str], run_dir: Path
) -> list[Member] | None:
    """Train each member, given by its config and splits, in a run directory of its own; None if interrupted."""
    contents = []
    for i in range(count):
        tree, splits = member(i)
        print_literal(f"member {i + 1} of {count}: {name(i)}")
        run, result = train(tree, splits, run_dir / f"member_{i}")
        if result.get("status") == "interrupted":
            return None
        weights = run.best["model"] if run.best else run.model.state_dict()
        row = run.history[run.best["row"]] if run.best else {}
        thresholds = run.best.get("thresholds", {}) if run.best else run.task.thresholds
        contents.append(member_content(run, weights, thresholds, name(i), result.get("seconds", 0.0), row))
    return contents


def train_snapshots(
    option: Ensemble, config: Config, splits: Splits, run_dir: Path, ends: list[float]
) -> list[Member] | None:
    """Train one network; its weights at the ends of the last cycles are the members. None if interrupted."""
    collector = SnapshotCollector(ends, run_dir / "run" / "checkpoints")
    regularizers = {k: v for k, v in table(config.tree.get("regularizer")).items() if k != "early_stopping"}
    run, result = train({**config.tree, "regularizer": regularizers}, splits, run_dir / "run", [collector])
    if result.get("status") == "interrupted":
        return None
    seconds = result.get("seconds", 0.0) / config.epochs  # per epoch: a member costs the training up to its end
    return [
        member_content(run, weights, run.task.thresholds, f"epoch {end:g}", end * seconds, {})
        for end, weights in collector.read()[-option.models :]
    ]


class SnapshotCollector(Observer):
    """Writes the weights at the end of every cycle to ``cycle_<number>.pt``, so that a run that is resumed has all of them.

    Args:
        ends: Of the cycles, in epochs.
        folder: Where the files are written.
    """

    def __init__(self, ends: list[float], folder: Path) -> None:
        self.ends, self.folder, self.next = list(ends), folder, 0

    def on_fit_start(self, view: RunView) -> None:
        self.next = sum(end < view.time - 1e-9 for end in self.ends)
        self.on_step_end(view)  # killed at the end of a cycle, after a checkpoint and before the file was written

    def on_step_end(self, view: RunView) -> None:
        if self.next < len(self.ends) and view.time >= self.ends[self.next] - 1e-9:
            with atomic_path(self.folder / f"cycle_{self.next}.pt") as temporary:
                torch.save(snapshot(view.model), temporary)
            self.next += 1

    def read(self) -> list[tuple[float, StateDict]]:
        """Return the end of each cycle and the weights at it."""
        return [(end, read_weight_file(self.folder / f"cycle_{i}.pt", "job")) for i, end in enumerate(self.ends)]


def member_content(
    run: Run, weights: StateDict, thresholds: Thresholds, name: str, seconds: float, row: Row | dict[str, float]
) -> Member:
    """Return the entry of a member in the ensemble's checkpoint; ``row`` is the history row of its weights."""
    return {
        "info": saved_info(run.info),
        "model": copy.deepcopy(weights),
        "name": name,
        "seconds": seconds,
        "row": row,
        "thresholds": copy.deepcopy(thresholds.get("model", {})),
    }


def read_members(config: Config, splits: Splits, paths: Sequence[Path] | None = None) -> list[Member]:
    """Return the weights in checkpoints; by default the best ones of the runs ``runs=[a,b,...]``."""
    members = []
    for path in find_runs(config.runs) if paths is None else paths:
        content = checkpoint.load_network(str(path), "best", "runs")
        own = checkpoint.info_of(content)
        averaged = use_averaged(content, restored_task(config_from_tree(own.config), own), "auto")
        row = content.get("row") or {}
        if averaged:  # the columns of validation images are those of the weights that are taken
            prefix = "averaged_"
            row = {**row, **{f"validation_{k.removeprefix(prefix)}": v for k, v in row.items() if k.startswith(prefix)}}
        members.append(
            {
                "info": content["info"],
                "model": plain_weights(content, averaged),
                "name": path.name if path.is_dir() else f"{path.parents[1].name}/{path.stem}",
                "seconds": read_result(path).get("seconds", 0.0),
                "row": row,
                "thresholds": checkpoint.thresholds_of(content).get("averaged" if averaged else "model", {}),
            }
        )
    check_same_data(config, members, splits)
    return members


def check_same_data(config: Config, members: list[Member], splits: Splits) -> None:
    """Raise ConfigError if targets or image shapes differ between members, or from those of the data."""
    first = targets_of(members[0])
    for member in members[1:]:
        for own, others, what in zip(
            targets_of(member), first, ("other classes", "images of another shape"), strict=True
        ):
            if own != others:
                text = f"was trained on {what} than {members[0]['name']}: {own} instead of {others}"
                hint = "the members of an ensemble need the same targets, classes and image shape"
                raise ConfigError(Problem("runs", member["name"], text, hint))
    info, name, reasons = checkpoint.info_of(members[0]), config.name("data"), list[str]()
    try:
        check_targets(splits, main_only(restored_task(config_from_tree(info.config), info)), name)
    except ConfigError as error:
        reasons = [f"it {problem.text}" for problem in error.problems]
    if tuple(info.shape) != tuple(splits.shape):
        reasons.append(f"images of {tuple(splits.shape)} instead of {tuple(info.shape)}")
    if reasons:
        text = f"differs from the data of the runs: {'; '.join(reasons)}"
        raise ConfigError(Problem("data", name, text, "give the runs' data=... too"))


def targets_of(member: Member) -> tuple[str, str]:
    """Return the targets that a member predicts with their classes, and the shape of its images, as text."""
    info = checkpoint.info_of(member)
    task = main_only(restored_task(config_from_tree(info.config), info))
    classes = ", ".join(task.classes)
    if task.option is not None or not task.parts[0].has_classes:
        texts = (f"{p.name or p.spec.target} ({p.spec.kind}: {', '.join(p.classes)})" for p in task.parts)
        classes = "; ".join(texts)
    return classes, str(tuple(info.shape))
