"""The scores of runs by dotted names such as ``test.accuracy``, and the one that they are compared by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from trainer.columns import TaskColumns, split_and_metric, tasks_of
from trainer.tree import value_at

SPLITS = ("test", "validation", "train")
Scores = dict[str, float]


def scores_of(result: Mapping[str, object]) -> Scores:
    """Return the finite numbers of a result by their dotted names.

    >>> scores_of({"steps": 3, "test": {"accuracy": 0.9, "loss": float("nan")}, "status": "finished"})
    {'steps': 3.0, 'test.accuracy': 0.9}
    """
    return dict(_numbers(result, ""))


def _numbers(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(cast("Mapping[str, object]", value), f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield prefix + key, float(value)


def tasks_of_result(result: Mapping[str, object]) -> list[TaskColumns]:
    """Return the tasks of a run from the names of its scores."""
    names = scores_of({split: value_at(result, split) for split in SPLITS})
    return tasks_of(name.partition(".")[2] for name in names)


def own_score(results: Sequence[Mapping[str, object]]) -> tuple[str, list[bool]]:
    """Return the score of the runs' own metric, that of most runs, on test images if there are any; and which runs have it.

    A run of other tasks has no score: the sum of several losses is not comparable with one of them.

    >>> own_score([{"metric": "validation_mae", "test": {"loss": 1.0, "mae": 0.2}}, {"metric": "validation_loss"}])
    ('test.mae', [True, False])
    """
    metrics = [str(result.get("metric") or "validation_accuracy") for result in results]
    common = Counter(m for m, result in zip(metrics, results, strict=True) if scores_of(result)).most_common(1)
    metric = common[0][0] if common else metrics[0]
    split, name = split_and_metric(metric)
    prefix = "averaged." if split == "averaged" else ""
    own = tasks_of_result(results[metrics.index(metric)])
    comparable = [not (tasks := tasks_of_result(result)) or tasks == own for result in results]
    candidates = [f"{prefix}{split}.{name}" for split in SPLITS]
    known = [scores_of(result) for result, same in zip(results, comparable, strict=True) if same]
    score = next((c for c in candidates if any(c in scores for scores in known)), candidates[0])
    return score, [same and score in scores_of(result) for result, same in zip(results, comparable, strict=True)]
