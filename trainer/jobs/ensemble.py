"""``job=ensemble``: several networks whose predictions are averaged, saved as one checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from typing_extensions import TypedDict

from trainer.architectures.ensemble import Average, average_logits
from trainer.builder import build, compute, load_splits, restored_task, to_device
from trainer.config.load import config_from_tree
from trainer.config.tree import with_value
from trainer.data import Splits
from trainer.data.folds import fold
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content, Member, saved_info
from trainer.engine.run import Run, snapshot
from trainer.engine.state import StateDict
from trainer.engine.view import RunView
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import INTERRUPTED
from trainer.files import write_text
from trainer.formats import JsonObject, Result, Row
from trainer.inference import TrainedModel, member_of, plain_weights, use_averaged
from trainer.jobs.compare import find_runs
from trainer.jobs.evaluate import SPLITS, collect_outputs, compute_scores
from trainer.jobs.fit import train_and_evaluate
from trainer.observers import Observer
from trainer.run_dir import check_available, create_run_dir, read_result, write_json
from trainer.schedules import Product

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Ensemble


def ensemble(option: Ensemble, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Ensemble``."""
    check_available(run_dir)
    if option.kind != "runs" and config.runs is not None:
        raise ConfigError(Problem("runs", config.runs, "has an effect only with job.kind=runs", "job.kind=runs"))
    splits = load_splits(config)
    precision = compute(config)
    # Wrong runs or a wrong schedule are errors before the run directory exists.
    members = read_members(config, splits) if option.kind == "runs" else None
    ends = cycle_ends(option, config) if option.kind == "snapshots" else []
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    if option.kind == "seeds":
        members = train_seeds(option, config, splits, run_dir)
    elif option.kind == "folds":
        members = train_folds(option, config, splits, run_dir)
    elif option.kind == "snapshots":
        members = train_snapshots(option, config, splits, run_dir, ends)
    if members is None:
        write_json(run_dir / "result.json", {"status": "interrupted", "stop_reason": "interrupted", "seconds": 0.0})
        return INTERRUPTED
    members = select_best(members, option.top)
    one_run = option.kind == "snapshots"
    checkpoint.save(joined(members, option.average, one_run), run_dir / "checkpoints" / "best.pt")
    split, rows = score_rows(config, splits, members, option.average, one_run)
    result = {
        "status": "finished",
        "stop_reason": "joined",
        "kind": option.kind,
        "average": option.average,
        "members": rows[:-1],
        "gain": rows[-1]["accuracy"] - mean(rows[:-1], "accuracy"),
        split: rows[-1],
        "seconds": rows[-1]["seconds"],
    }
    write_json(run_dir / "result.json", result)
    text = page(split, rows, one_run)
    write_text(run_dir / "ensemble.md", text)
    print(f"{text}\nfor job=evaluate, predict and export: checkpoint={run_dir}")
    return 0


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
        print(f"member {i + 1} of {count}: {name(i)}", flush=True)
        run, result = train(tree, splits, run_dir / f"member_{i}")
        if result.get("status") == "interrupted":
            return None
        weights = run.best["model"] if run.best else run.model.state_dict()
        row = run.history[run.best["row"]] if run.best else {}
        contents.append(member_content(run, weights, name(i), result.get("seconds", 0.0), row))
    return contents


def cycle_ends(option: Ensemble, config: Config) -> list[float]:
    """Return the ends of the schedule's cycles, in epochs; ConfigError if there are fewer than two."""
    ends = Product(tuple(config.schedule.values())).over(config.epochs).cycle_ends(config.epochs)
    if len(ends) < 2:
        text = f"has {len(ends)} cycles in {config.epochs:g} epochs; snapshots need at least two"
        hint = f"schedule=warm_restarts schedule.warm_restarts.cycle={max(config.epochs / option.models, 0.1):g}"
        raise ConfigError(Problem("schedule", list(config.schedule), text, hint))
    if len(config.recipe.phases(config.epochs, Product(()))) > 1:
        raise ConfigError(Problem("job.kind", "snapshots", "needs a recipe with a single phase", "recipe=scratch"))
    return ends


def train_snapshots(
    option: Ensemble, config: Config, splits: Splits, run_dir: Path, ends: list[float]
) -> list[Member] | None:
    """Train one network; its weights at the ends of the last cycles are the members. None if interrupted."""
    collector = SnapshotCollector(ends)
    regularizers = {k: v for k, v in (config.tree.get("regularizer") or {}).items() if k != "early_stopping"}
    run, result = train({**config.tree, "regularizer": regularizers}, splits, run_dir / "run", [collector])
    if result.get("status") == "interrupted":
        return None
    seconds = result.get("seconds", 0.0) / config.epochs  # per epoch: a member costs the training up to its end
    return [
        member_content(run, weights, f"epoch {end:g}", end * seconds, {})
        for end, weights in collector.snapshots[-option.models :]
    ]


class SnapshotCollector(Observer):
    """Copies the weights at the end of every cycle.

    Attributes:
        snapshots: (End of the cycle in epochs, weights).
    """

    def __init__(self, ends: list[float]) -> None:
        self.ends = list(ends)
        self.snapshots: list[tuple[float, StateDict]] = []

    def on_step_end(self, view: RunView) -> None:
        if self.ends and view.time >= self.ends[0] - 1e-9:
            self.snapshots.append((self.ends.pop(0), snapshot(view.model)))


def train(
    tree: JsonObject, splits: Splits, run_dir: Path, observers: list[Observer] | None = None
) -> tuple[Run, Result]:
    """Train one member; return its run and result."""
    config = config_from_tree(with_value(tree, "job", {"_target_": "trainer.jobs.Fit"}))
    run = build(config, run_dir, splits)
    create_run_dir(run_dir, config.tree, [], run.notes[0])
    return run, train_and_evaluate(run, [*config.observer.values(), *(observers or [])])


def member_content(run: Run, weights: StateDict, name: str, seconds: float, row: Row | dict[str, float]) -> Member:
    """Return the entry of a member in the ensemble's checkpoint; ``row`` is the history row of its weights."""
    return {"info": saved_info(run.info), "model": copy.deepcopy(weights), "name": name, "seconds": seconds, "row": row}


def read_members(config: Config, splits: Splits) -> list[Member]:
    """Return the best weights of the runs ``runs=[a,b,...]``."""
    members = []
    for path in find_runs(config.runs):
        content = checkpoint.load_network(str(path), "best", "runs")
        weights = plain_weights(content, use_averaged(content, "auto"))
        members.append(
            {
                "info": content["info"],
                "model": weights,
                "name": path.name,
                "seconds": read_result(path).get("seconds", 0.0),
                "row": content.get("row") or {},
            }
        )
    check_same_data(members, splits)
    return members


def check_same_data(members: list[Member], splits: Splits) -> None:
    """Raise ConfigError if classes or image shapes differ between members, or from those of the data."""
    first = members[0]["info"]
    for member in members[1:]:
        for key, what in (("classes", "other classes"), ("shape", "images of another shape")):
            if list(member["info"][key]) != list(first[key]):
                own, others = (", ".join(map(str, info[key])) for info in (member["info"], first))
                text = f"was trained on {what} than {members[0]['name']}: {own} instead of {others}"
                hint = "the members of an ensemble need the same classes and image shape"
                raise ConfigError(Problem("runs", member["name"], text, hint))
    if list(first["classes"]) != list(splits.classes) or tuple(first["shape"]) != tuple(splits.shape):
        data = f"{len(splits.classes)} classes, {tuple(splits.shape)}"
        text = f"differs from the data of the runs: {len(first['classes'])} classes, {tuple(first['shape'])}"
        raise ConfigError(Problem("data", data, text, "give the runs' data=... too"))


def select_best(members: list[Member], top: int | None) -> list[Member]:
    """Return the ``top`` members by validation accuracy, in their order; all of them if None."""
    if top is None or top >= len(members):
        return members
    rows = (member["row"] for member in members)
    accuracies = [value for row in rows if (value := row.get("validation_accuracy")) is not None]
    if len(accuracies) < len(members):
        raise ConfigError(Problem("job.top", top, "needs validation images to choose by", "job.top=null"))
    order = sorted(range(len(members)), key=lambda i: -accuracies[i])[:top]
    return [members[i] for i in sorted(order)]


def joined(members: list[Member], average: Average, one_run: bool) -> Content:
    """Return the checkpoint of an ensemble: the members, with the first one's description of the data."""
    return {
        "format": checkpoint.FORMAT,
        "info": members[0]["info"],
        "average": average,
        "members": members,
        "row": {},
        "one_run": one_run,
    }


class MemberScores(TypedDict, extra_items=float):
    """The scores of a member or, with the name ``ensemble`` or ``mean member``, of several, by the name of the metric."""

    name: str
    seconds: float  # of training


def score_rows(
    config: Config, splits: Splits, members: list[Member], average: Average, one_run: bool
) -> tuple[str, list[MemberScores]]:
    """Return the split evaluated on, and scores and cost of each member and, last, of the ensemble."""
    split = next(name for name in SPLITS if getattr(splits, name) is not None)
    info, precision = checkpoint.info_of(members[0]), compute(config)
    splits = dataclasses.replace(splits, mean=info.mean, std=info.std)
    outputs: list[Tensor] = []
    rows: list[MemberScores] = []
    for member in members:
        network = to_device(member_of(info, member).eval(), precision)
        model = TrainedModel(network, precision, info, Path(), "model", restored_task(config, info, precision.device))
        logits, labels = collect_outputs(config, model, splits, [split])
        outputs.append(logits)
        rows.append(
            MemberScores(name=member["name"], **compute_scores(logits, labels, 1)[0], seconds=member["seconds"])
        )
    scores = compute_scores(average_logits(outputs, average), labels, 1)[0]
    seconds = [row["seconds"] for row in rows]
    cost = max(seconds) if one_run else sum(seconds)
    return split, [*rows, MemberScores(name="ensemble", **scores, seconds=cost)]


def mean(rows: list[MemberScores], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def page(split: str, rows: list[MemberScores], one_run: bool = False) -> str:
    """Return the scores as Markdown; the members of ``one_run`` are its stages, which need no training of their own."""
    *members, whole = rows
    means = {k: mean(members, k) for k in ("accuracy", "loss", "ece")}
    average = MemberScores(name="mean member", **means, seconds=mean(members, "seconds"))
    lines = [f"| {split} | accuracy | loss | calibration error | seconds of training |", "|---|---|---|---|---|"]
    for row in [*members, average, whole]:
        scores = f"{100 * row['accuracy']:.2f} % | {row['loss']:.4f} | {100 * row['ece']:.2f} % | {row['seconds']:.1f}"
        lines.append(f"| {row['name']} | {scores} |")
    gain, error = whole["accuracy"] - average["accuracy"], 1 - average["accuracy"]
    relative = f", {100 * gain / error:.0f} % of its errors" if error > 0 else ""
    factor = whole["seconds"] / average["seconds"] if average["seconds"] else math.nan
    cost = f"{factor:.1f} times the training and " if math.isfinite(factor) else ""
    if one_run:
        cost = "no training beyond its last member's and "
    summary = f"The ensemble gains {100 * gain:+.2f} percentage points over the mean member{relative}"
    lines += ["", f"{summary}; it costs {cost}{len(members)} times the inference."]
    return "\n".join(lines) + "\n"
