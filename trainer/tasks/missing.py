"""What cannot be learned or measured because labels are missing: stated before training, or refused."""

from __future__ import annotations

from trainer.data.splits import Splits
from trainer.data.targets import Target, is_missing
from trainer.errors import Problem
from trainer.tasks.part import Part
from trainer.tasks.task import Task


def unlabelled_notes(task: Task, splits: Splits) -> list[str]:
    """Return a line for each target without labels in a split, and for labels that no training image has."""
    notes: list[str] = []
    for part in task.parts:
        rare = [name for name, n in zip(part.classes, part.spec.counts, strict=False) if n == 0]
        if part.spec.kind == "multilabel" and rare:
            notes.append(f"warning: no training image has the labels {', '.join(rare)} of {part.spec.target}")
        for split in ("validation", "test"):
            if lacks_labels(part, splits, split):
                metrics = f"its {split} metrics are NaN"
                notes.append(f"warning: no {split} image has a label of {part.spec.target}: {metrics}")
    return notes


def undecidable(task: Task, splits: Splits, metric: str) -> list[Problem]:
    """Return why a column of the history cannot tell which epoch is the best: no validation image has a label for it."""
    if not metric.startswith("validation_"):
        return []
    parts = [part for part in task.parts if metric.startswith(f"validation_{part.column('')}")] or list(task.parts)
    if not all(lacks_labels(part, splits, "validation") for part in parts):
        return []
    targets = ", ".join(part.spec.target for part in parts)
    text = f"cannot be measured: no validation image has a label of {targets}"
    return [Problem("metric", metric, text, "metric=validation_<another task>_..., or validation images with labels")]


def lacks_labels(part: Part, splits: Splits, split: str) -> bool:
    """Return whether a split has images, and none with a label of the task."""
    images = splits.validation if split == "validation" else splits.test
    if images is None or not len(images):
        return False
    target = Target(part.spec.target, part.spec.kind, part.classes)
    return bool(is_missing(target, images.target(part.spec.target)).all())
