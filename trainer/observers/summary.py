"""How a run ended, as lines of the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from itertools import pairwise
from shlex import quote

from trainer.analysis.diagnosis.advice import suggested
from trainer.columns import TaskColumns, shown, split_and_metric, tasks_of
from trainer.engine.view import RunView
from trainer.errors import shrunk_text
from trainer.formats import Result
from trainer.observers.epoch_table import PIPE_WIDTH, rounded
from trainer.tree import number_at, value_at

ENOUGH_SECONDS = 10.0  # of training, for the fraction of the time that observers take


def sparkline(values: list[float], width: int) -> str:
    """The trend of the values in at most ``width`` characters, each the mean of its part; empty for fewer than two values.

    >>> sparkline([3.0, 2.0, 1.0, 0.0], 8), sparkline([1.0], 8)
    ('█▆▃▁', '')
    """
    values = [v for v in values if v is not None and math.isfinite(v)]
    if len(values) < 2:
        return ""
    width = min(width, len(values))
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (m - low) / (high - low or 1))] for m in means)


def trends(view: RunView, width: int = PIPE_WIDTH) -> list[str]:
    """The trends of loss and main metrics over the epochs, in one line, or in a line each, where they are wider or of several
    tasks; none if the terminal cannot show the characters.
    """
    split = "validation" if view.validation is not None else "train"
    tasks = tasks_of(view.task.history_columns(averaged=False))
    names = ["loss", *(task.main if split == "validation" else task.column(task.running) for task in tasks)]
    texts = []
    for name in names:
        values = view.history.column(f"{split}_{name}")
        if trend := sparkline(values, 30):
            texts.append(f"{split} {name} {shown(name, values[0])} {trend} {shown(name, values[-1])}")
    try:
        "".join(texts).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return []
    line = "   ".join(texts)
    return [line] if line and view.task.option is None and len(line) <= width else texts


def summary_lines(view: RunView, result: Result, width: int = PIPE_WIDTH) -> list[str]:
    """How the run ended, its metrics and findings, and how to resume it, for a terminal of ``width`` characters."""
    seconds, fraction = result.get("observer_seconds"), result.get("observer_fraction", 0.0)
    cost = "" if seconds is None else f"; observers took {seconds:.1f} s"
    if result.get("seconds", 0.0) >= ENOUGH_SECONDS:  # in a short run, their first steps are most of it
        cost += f", {100 * fraction:.1f} %"
    lines = [
        f"{result.get('stop_reason')}, after {result.get('seconds', 0.0):.1f} s of training{cost}",
        *trends(view, width),
    ]
    lines += score_lines(
        result, tasks_of(view.task.history_columns(averaged=False)), view.metric, view.validation is not None
    )
    values = view.history.column(view.metric)
    if values and all(map(math.isnan, values)):
        lines.append(f"{view.metric} was NaN in every epoch: the last weights count as the best")
    if "micro_batch" in result:
        lines.append(shrunk_text(result["micro_batch"]))
    for finding in result.get("findings") or []:
        lines.append(f"{finding['name']}: {finding['evidence']}")
        lines.append(f"  {finding['meaning']}")
        if finding["attempt"]:
            lines.append(f"  {suggested(finding['attempt'])}")
    if result.get("findings") == [] and result.get("status") == "finished":
        lines.append("diagnosis: no findings")
    if result.get("status") == "diverged":
        files = "best.pt and last.pt hold" if view.best else "last.pt holds"
        lines.append(
            f"{files} the weights of before; engine.on_nan=rewind continues from them with a lower learning rate"
        )
    if result.get("status") == "interrupted" and view.folder is not None:
        lines.append(f"resume with: train {quote(f'resume={view.folder}')}")
    return lines


def score_lines(result: Result, tasks: list[TaskColumns], metric: str, chosen: bool = True) -> list[str]:
    """The scores of the best weights on validation and test images: loss, main metrics, and the metric that decides.

    Args:
        result: The result of the run.
        tasks: Its tasks.
        metric: The metric that decides.
        chosen: Whether validation images have chosen the best epoch; otherwise it is the last one.
    """
    epoch = f"{'best' if chosen else 'last'} epoch {rounded(result['best_epoch'])}" if "best_epoch" in result else "now"
    decisive, lines = split_and_metric(metric)[1], []
    for split in ("validation", "test"):
        scores, averaged = value_at(result, split), value_at(result, "averaged", split)
        if not isinstance(scores, Mapping):
            continue
        averaged = averaged if isinstance(averaged, Mapping) else {}
        alone = len(tasks) == 1 or "loss" not in scores  # the main task of several, on the test images
        of_sum = [] if alone else [score_line(split, ["loss"], scores, averaged, epoch)]
        for task in tasks:
            title = f"{split} {task.name}".rstrip() if alone else f"  {task.name}"
            extra = [decisive] if belongs(decisive, task, tasks) and decisive not in (task.main, task.loss) else []
            of_sum.append(
                score_line(title, [task.main, *extra, task.loss], scores, averaged, epoch if alone else "", task.name)
            )
        lines += [line for line in of_sum if line]
    return lines


def belongs(metric: str, task: TaskColumns, tasks: list[TaskColumns]) -> bool:
    """Whether a metric is one of a task: the one with the longest name that the metric begins with."""
    names = [t.name for t in tasks if not t.name or metric.startswith(f"{t.name}_")]
    return bool(names) and task.name == max(names, key=len)


def score_line(
    title: str, names: list[str], scores: Mapping[str, float], averaged: Mapping[str, float], epoch: str, task: str = ""
) -> str:
    """Some scores as a line: those of the best weights, and the first of them of the averaged weights; empty without them."""
    values = {name: number_at(scores, name) for name in names}
    texts = [f"{name.removeprefix(f'{task}_')} {shown(name, v)}" for name, v in values.items() if v is not None]
    if len(texts) < 2 and len(names) > 1:
        return ""
    own = number_at(averaged, names[0])
    more = f" · averaged weights {shown(names[0], own)}" if own is not None else ""
    return f"{title}: {', '.join(texts)}{f' ({epoch})' if epoch else ''}{more}"
