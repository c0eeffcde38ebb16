"""The scores of an ensemble and of its members, and what it costs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from typing_extensions import TypedDict

from trainer.architectures.ensemble import average_outputs
from trainer.builder import compute, to_device
from trainer.data import Splits
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content
from trainer.engine.info import Info
from trainer.history import better_is
from trainer.inference import TrainedModel, links, member_of, metric_of_run
from trainer.jobs.evaluate.scores import SPLITS, TEXTS, collect_outputs, scores, shown_value
from trainer.tasks.restrict import for_images, main_only
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.config.schema import Config


class MemberScores(TypedDict, extra_items=float):
    """The scores of a member or, with the name ``ensemble`` or ``mean member``, of several, by the name of the metric."""

    name: str
    seconds: float  # of training


def score_rows(config: Config, splits: Splits, task: Task, content: Content) -> tuple[str, list[MemberScores]]:
    """Return the split evaluated on, and scores and cost of each member and, last, of the ensemble."""
    split = next(name for name in SPLITS if name in splits.by_name)
    assert "members" in content
    assert "average" in content
    info, precision = checkpoint.info_of(content), compute(config)
    splits = dataclasses.replace(splits, mean=info.mean, std=info.std)
    outputs: list[Tensor] = []
    targets: list[Tensor] = []  # the same for all members
    rows: list[MemberScores] = []
    for member in content["members"]:
        network = to_device(member_of(info, task, member).eval(), precision)
        task.thresholds = {"model": member.get("thresholds", {})}
        task.use_thresholds("model")
        model = TrainedModel(network, precision, info, Path(), "model", main_only(task))
        own, predictions, y = collect_outputs(config, model, splits, [split])
        outputs.append(predictions)
        targets.append(y)
        rows.append(MemberScores(name=member["name"], **scores(own, predictions, y, 1), seconds=member["seconds"]))
    task.thresholds = checkpoint.thresholds_of(content)
    task.use_thresholds("model")
    own = for_images(main_only(task), splits.targets, [splits.by_name[split]])
    whole = scores(own, average_outputs(outputs, links(own), content["average"]), targets[0], 1)
    seconds = [row["seconds"] for row in rows]
    cost = max(seconds) if content.get("one_run") else sum(seconds)
    return split, [*rows, MemberScores(name="ensemble", **whole, seconds=cost)]


def shown_metric(info: Info, task: Task) -> str:
    """The metric in which the gain is counted: that of the run; accuracy of a single classification task."""
    own = main_only(task)
    if own.option is None and own.parts[0].spec.kind == "classification":
        return "accuracy"
    metric = main_only(task).main_metric if task.main is not None else metric_of_run(info, task)
    return metric.removeprefix("validation_")


def gain(rows: list[MemberScores], metric: str) -> float:
    """Return by how much the ensemble, the last row, is better than the mean of its members."""
    difference = rows[-1][metric] - mean(rows[:-1], metric)
    return -difference if better_is(metric) == "min" else difference


def mean(rows: list[MemberScores], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def page(split: str, rows: list[MemberScores], one_run: bool = False, metric: str = "accuracy") -> str:
    """Return the scores as Markdown; the members of ``one_run`` are its stages, which need no training of their own."""
    *members, whole = rows
    columns = list(dict.fromkeys([metric, "loss", *(k for k in whole if k not in ("name", "seconds"))]))
    average = MemberScores(name="mean member", **{k: mean(members, k) for k in [*columns, "seconds"]})
    heads = [TEXTS.get(name, name) for name in columns]
    lines = [f"| {split} | {' | '.join(heads)} | seconds of training |", "|---" * (len(columns) + 2) + "|"]
    for row in [*members, average, whole]:
        texts = " | ".join(shown_value(name, row[name]) for name in columns)
        lines.append(f"| {row['name']} | {texts} | {row['seconds']:.1f} |")
    better = gain(rows, metric)
    summary = f"The ensemble gains {better:+.4g} {metric} over the mean member"
    if metric == "accuracy":
        error = 1 - average["accuracy"]
        relative = f", {100 * better / error:.0f} % of its errors" if error > 0 else ""
        summary = f"The ensemble gains {100 * better:+.2f} percentage points over the mean member{relative}"
    factor = whole["seconds"] / average["seconds"] if average["seconds"] else math.nan
    cost = f"{factor:.1f} times the training and " if math.isfinite(factor) else ""
    if one_run:
        cost = "no training beyond its last member's and "
    lines += ["", f"{summary}; it costs {cost}{len(members)} times the inference."]
    return "\n".join(lines) + "\n"
