"""``job=ensemble``: several networks whose predictions are averaged, saved as one."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.engine.observer import Observer
from trainer.errors import ConfigError, Problem, check
from trainer.exit_codes import INTERRUPTED
from trainer.jobs.fit import train_and_evaluate
from trainer.run_dir import check_available, create_run_dir, write, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.engine.run import Run
    from trainer.engine.view import RunView

Content = dict[str, Any]  # of a checkpoint


@dataclass(frozen=True)
class Ensemble:
    """Average the predictions of several networks; the gain stands in a table beside the cost.

    ``kind`` seeds trains ``models`` networks that differ in the seed; folds, one a fold of the pictures that are not for the
    test, each validated on its fold; snapshots, one whose schedule has cycles, a member at the end of each of the last
    ``models`` cycles (Huang et al. 2017, arXiv:1704.00109); runs takes the run folders ``runs=[a,b,...]``. ``top`` keeps the best
    on their validation pictures. ``average`` probabilities is a mean of opinions, logits a product (geometric mean).
    """

    kind: Literal["seeds", "folds", "snapshots", "runs"] = "seeds"
    models: int = 5
    top: int | None = None
    average: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self) -> None:
        check(
            self,
            models=(self.models >= 2, "must be >= 2"),
            top=(self.top is None or self.top >= 2, "must be >= 2, or null for all"),
        )

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.build import compute, load_splits

        if self.kind != "runs" and config.runs is not None:
            raise ConfigError(Problem("runs", config.runs, "goes with job.kind=runs", "job.kind=runs"))
        splits = load_splits(config)
        precision = compute(config)
        work = {"seeds": self._seeds, "folds": self._folds, "snapshots": self._snapshots}.get(self.kind)
        made = self._runs(config, splits) if work is None else None
        create_run_dir(folder, config.tree, overrides, f"{precision.device}, {precision.name}")
        members = made or work(config, splits, folder)  # pyright: ignore[reportOptionalCall]
        if members is None:
            write_json(folder / "result.json", {"status": "interrupted", "stop_reason": "interrupted", "seconds": 0.0})
            return INTERRUPTED
        members = best_of(members, self.top)
        content = joined(members, self.average) | {"one_run": self.kind == "snapshots"}
        from trainer.engine import checkpoint

        checkpoint.save(content, folder / "checkpoints" / "best.pt")
        split, rows = table_of(config, splits, content)
        result = {"status": "finished", "stop_reason": "joined", "kind": self.kind, "average": self.average}
        result |= {"members": rows[:-1], "gain": rows[-1]["accuracy"] - mean(rows[:-1], "accuracy"), split: rows[-1]}
        result |= {"seconds": rows[-1]["seconds"]}
        write_json(folder / "result.json", result)
        text = page(split, rows, content["one_run"])
        write(folder / "ensemble.md", text)
        print(f"{text}\nevaluate, predict and export take it: checkpoint={folder}")
        return 0

    def _seeds(self, config: Config, splits: Splits, folder: Path) -> list[Content] | None:
        from trainer.config.load import with_value

        def prepared(i: int) -> tuple[Any, Splits]:
            return with_value(config.tree, "seed", config.seed + i), splits

        return self._trained(prepared, folder, lambda i: f"seed {config.seed + i}")

    def _folds(self, config: Config, splits: Splits, folder: Path) -> list[Content] | None:
        from trainer.data.folds import fold

        parts = fold(splits, self.models, config.data.split_seed)
        return self._trained(lambda i: (config.tree, parts[i]), folder, lambda i: f"fold {i}")

    def _trained(
        self, prepared: Callable[[int], tuple[Any, Splits]], folder: Path, name: Callable[[int], str]
    ) -> list[Content] | None:
        """Train each member in a run folder of its own; None where somebody interrupted."""
        found = []
        for i in range(self.models):
            tree, splits = prepared(i)
            print(f"member {i + 1} of {self.models}: {name(i)}", flush=True)
            run, result = train(tree, splits, folder / f"member_{i}")
            if result["status"] == "interrupted":
                return None
            found.append(content_of(run, run.best["model"] if run.best else run.model.state_dict(), name(i), result))
        return found

    def _snapshots(self, config: Config, splits: Splits, folder: Path) -> list[Content] | None:
        from trainer.schedules import Product

        ends = Product(tuple(config.schedule.values())).over(config.epochs).cycle_ends(config.epochs)
        if len(ends) < 2:
            text = f"gives {len(ends)} cycles in {config.epochs:g} epochs; snapshots need two at least"
            hint = f"schedule=warm_restarts schedule.warm_restarts.cycle={max(config.epochs / self.models, 0.1):g}"
            raise ConfigError(Problem("schedule", list(config.schedule), text, hint))
        if len(config.recipe.phases(config.epochs, Product(()))) > 1:
            raise ConfigError(Problem("job.kind", "snapshots", "goes with one phase", "recipe=scratch"))
        keeper = SnapshotCollector(ends)
        tree = {
            **config.tree,
            "regularizer": {k: v for k, v in (config.tree.get("regularizer") or {}).items() if k != "early_stopping"},
        }
        run, result = train(tree, splits, folder / "run", [keeper])
        if result["status"] == "interrupted":
            return None
        kept = keeper.kept[-self.models :]
        speed = result["seconds"] / config.epochs  # a later member has the training of the earlier ones behind it
        return [content_of(run, w, f"epoch {t:g}", {**result, "seconds": t * speed}, row) for t, w, row in kept]

    def _runs(self, config: Config, splits: Splits) -> list[Content]:
        from trainer.engine import checkpoint
        from trainer.inference import plain_weights, use_averaged
        from trainer.jobs.compare import run_folders
        from trainer.report import json_of

        found = []
        for path in run_folders(config.runs):
            content = checkpoint.load_network(str(path), "best", "runs")
            seconds = (json_of(path / "result.json") or {}).get("seconds", 0.0)
            weights = plain_weights(content, use_averaged(content, "auto"))
            row = content.get("row") or {}
            found.append({"info": content["info"], "model": weights, "name": path.name, "seconds": seconds, "row": row})
        alike(found, splits)
        return found


def train(
    tree: dict[str, Any], splits: Splits, folder: Path, more: list[Any] | None = None
) -> tuple[Run, dict[str, Any]]:
    """One member: its run and how it ended."""
    from trainer.build import build
    from trainer.config.load import config_from_tree, with_value

    own = config_from_tree(with_value(tree, "job", {"_target_": "trainer.jobs.fit.Fit"}))
    run = build(own, folder, splits)
    create_run_dir(folder, own.tree, [], run.notes[0])
    return run, train_and_evaluate(run, [*own.observer.values(), *(more or [])])


def content_of(
    run: Run, weights: dict[str, Any], name: str, result: dict[str, Any], row: dict[str, Any] | None = None
) -> Content:
    """What is kept of a member."""
    best = run.history[run.best["row"]] if run.best and row is None else row or {}
    info = dataclasses.asdict(run.info)
    return {"info": info, "model": copy.deepcopy(weights), "name": name, "seconds": result["seconds"], "row": best}


class SnapshotCollector(Observer):
    """Copies the weights at the end of every cycle."""

    def __init__(self, ends: list[float]) -> None:
        self.ends, self.kept = list(ends), []

    def on_step_end(self, run: RunView) -> None:
        from trainer.engine.run import snapshot

        if self.ends and run.time >= self.ends[0] - 1e-9:
            end = self.ends.pop(0)
            self.kept.append((end, snapshot(run.model), {}))


def alike(members: list[Content], splits: Splits) -> None:
    """ConfigError where members know other classes or take other pictures than the first, or than the data has."""
    first = members[0]["info"]
    for member in members[1:]:
        for key, what in (("classes", "other classes"), ("shape", "pictures of another shape")):
            if list(member["info"][key]) != list(first[key]):
                there, here = (", ".join(map(str, i[key])) for i in (first, member["info"]))
                text = f"was trained on {what} than {members[0]['name']}: {here}; there {there}"
                raise ConfigError(Problem("runs", member["name"], text, "an ensemble is of networks for the same data"))
    if list(first["classes"]) != list(splits.classes) or tuple(first["shape"]) != tuple(splits.shape):
        text = f"are other pictures than those of the runs: {len(first['classes'])} classes, {tuple(first['shape'])}"
        there = f"the data has {len(splits.classes)} classes, {tuple(splits.shape)}"
        raise ConfigError(Problem("data", there, text, "give the runs' data=... too"))


def best_of(members: list[Content], top: int | None) -> list[Content]:
    """The ``top`` members by the accuracy on their validation pictures."""
    if top is None or top >= len(members):
        return members
    known = [m["row"].get("validation_accuracy") for m in members]
    if any(v is None for v in known):
        raise ConfigError(Problem("job.top", top, "needs validation pictures to choose by", "job.top=null"))
    order = sorted(range(len(members)), key=lambda i: -known[i])[:top]
    return [members[i] for i in sorted(order)]


def joined(members: list[Content], average: str) -> Content:
    """The checkpoint of an ensemble: the first member's knowledge of the data, and all members' weights."""
    from trainer.engine.checkpoint import FORMAT

    return {"format": FORMAT, "info": members[0]["info"], "average": average, "members": members, "row": {}}


def table_of(config: Config, splits: Splits, content: Content) -> tuple[str, list[dict[str, Any]]]:
    """The part of the data that was looked at, and accuracy, loss, calibration error and cost of each member and of all."""
    from trainer.architectures.ensemble import average_logits
    from trainer.build import compute, to_device
    from trainer.engine import checkpoint
    from trainer.inference import TrainedModel, member_of
    from trainer.jobs.evaluate import collect_outputs, compute_scores

    split = next(name for name in ("test", "validation", "train") if getattr(splits, name) is not None)
    info, precision = checkpoint.info_of(content), compute(config)
    splits = dataclasses.replace(splits, mean=info.mean, std=info.std)
    found: list[Tensor] = []
    rows = []
    for member in content["members"]:
        model = to_device(member_of(info, member).eval(), precision)
        outputs, labels = collect_outputs(
            config, TrainedModel(model, precision, info, Path(), "model"), splits, [split]
        )
        found.append(outputs)
        rows.append({"name": member["name"], **compute_scores(outputs, labels, 1)[0], "seconds": member["seconds"]})
    all_reduced = compute_scores(average_logits(found, content["average"]), labels, 1)[0]
    cost = (max if content["one_run"] else sum)(row["seconds"] for row in rows)
    return split, [*rows, {"name": "ensemble", **all_reduced, "seconds": cost}]


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def page(split: str, rows: list[dict[str, Any]], one_run: bool = False) -> str:
    """The table as Markdown; the members of ``one_run`` are its stages, which cost no training of their own."""
    *members, all_reduced = rows
    keys = ("accuracy", "loss", "ece", "seconds")
    average = {"name": "mean member", **{k: mean(members, k) for k in keys}}
    lines = [f"| {split} | accuracy | loss | calibration error | seconds of training |", "|---|---|---|---|---|"]
    for row in [*members, average, all_reduced]:
        scores = f"{100 * row['accuracy']:.2f} % | {row['loss']:.4f} | {100 * row['ece']:.2f} % | {row['seconds']:.1f}"
        lines.append(f"| {row['name']} | {scores} |")
    gain = 100 * (all_reduced["accuracy"] - average["accuracy"])
    error = 1 - average["accuracy"]
    share = (
        f", {100 * (all_reduced['accuracy'] - average['accuracy']) / error:.0f} % of its errors" if error > 0 else ""
    )
    factor = all_reduced["seconds"] / average["seconds"] if average["seconds"] else math.nan
    cost = f"{factor:.1f} times the training and " if math.isfinite(factor) else ""
    if one_run:
        cost = "no training beyond its last member's and "
    lines += ["", f"The ensemble gains {gain:+.2f} points over the mean member{share}; it costs {cost}"
                  f"{len(members)} times the prediction."]  # fmt: skip
    return "\n".join(lines) + "\n"
