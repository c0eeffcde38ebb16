"""Transfer between tasks: whether a task that is learned with others does better or worse than alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.analysis.comparison import Group, format_value, significant
from trainer.analysis.intervals import Interval, difference, interval
from trainer.columns import TaskColumns, tasks_of
from trainer.history import better_is

IGNORED = ("task", "metric")  # settings that differ between a task alone and with others


@dataclass(frozen=True)
class Transfer:
    """One task alone and with others, on the same split.

    Attributes:
        target: Name of its target.
        metric: Its main metric.
        setting: What the runs of several tasks have in common.
        alone: Mean over the runs of this task alone.
        together: Mean over the runs of several tasks.
        difference: Together minus alone, with Welch's interval.
    """

    target: str
    metric: str
    setting: str
    alone: Interval
    together: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """Whether it does better alone (negative transfer) or with the others."""
        decided = significant(self.difference)
        if decided is None:
            return "unknown: single run"
        if not decided:
            return "no significant difference"
        better = (self.difference.mean > 0) == (better_is(self.metric) == "max")
        return "better with others" if better else "better alone"


def transfers(groups: Sequence[Group], confidence: float = 0.95) -> list[Transfer]:
    """Return for each task with runs of its own how it does with others, where all settings but those of the task are equal."""
    found: list[Transfer] = []
    for alone in groups:
        target = alone.settings.get("task.target", _common(alone, "task.target"))
        single = _tasks(alone)
        if len(single) != 1 or single[0].name or target is None:
            continue
        for together in groups:
            task = _task_of_target(together, str(target))
            if task is None or _others(alone) != _others(together) or task.metric != single[0].metric:
                continue
            for split in ("test", "validation"):
                a = _values(alone, f"{split}.{single[0].main}")
                b = _values(together, f"{split}.{task.main}")
                if a and b:
                    intervals = (interval(a, confidence), interval(b, confidence), difference(a, b, confidence))
                    found.append(Transfer(str(target), f"{split}.{task.metric}", _setting(together), *intervals))
                    break
    return found


def _common(group: Group, key: str) -> object:
    """The value of a setting that does not vary."""
    return group.runs[0].settings.get(key)


def _tasks(group: Group) -> list[TaskColumns]:
    run = next((run for run in group.runs if run.scores), None)
    names = (
        []
        if run is None
        else [name.partition(".")[2] for name in run.scores if name.startswith(("test.", "validation."))]
    )
    return tasks_of(names)


def _task_of_target(group: Group, target: str) -> TaskColumns | None:
    """The task among several that has a target."""
    for task in _tasks(group):
        if task.name and (_common(group, f"task.tasks.{task.name}.target") or task.name) == target:
            return task
    return None


def _others(group: Group) -> dict[str, str]:
    """The settings that must be equal."""
    return {k: format_value(v) for k, v in group.settings.items() if k.partition(".")[0] not in IGNORED}


def _setting(group: Group) -> str:
    """The settings of the runs of several tasks."""
    return " ".join(f"{k}={format_value(v)}" for k, v in group.settings.items() if v is not None)


def _values(group: Group, score: str) -> list[float]:
    return [run.scores[score] for run in group.runs if score in run.scores]
