"""The input and the output of the diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from trainer.analysis.intervals import proportion_half_width
from trainer.columns import SPLITS
from trainer.formats import DatasetInfo, FindingContent, Row, Snapshot, TaskInfo

Rows = Sequence[Row]
Snapshots = Sequence[Snapshot]


@dataclass(frozen=True)
class Finding:
    """A failure mode that was recognized, or that the run is fine.

    Attributes:
        name: Name of the failure mode.
        evidence: The numbers it was recognized by.
        meaning: What they mean.
        attempt: Overrides to try.
        kind: ``urgent`` is reported during the run; the others are ``warning``, ``hint`` and ``good``.
    """

    name: str
    evidence: str
    meaning: str
    attempt: tuple[str, ...] = ()
    kind: str = "warning"

    def as_dict(self) -> FindingContent:
        return FindingContent(**asdict(self))


@dataclass(frozen=True)
class Record:
    """The recorded data of a run, and quantities derived from it that several checks use.

    Attributes:
        rows: The history.
        snapshots: Layer statistics (``layers.jsonl``).
        dataset_info: Properties of data and config (``dataset_info.json``).
    """

    rows: Rows
    snapshots: Snapshots
    dataset_info: DatasetInfo

    def column(self, name: str) -> list[float]:
        """Values of a history column; empty if an epoch has none or one that is not finite."""
        values = [row.get(name) for row in self.rows]
        finite = [float(v) for v in values if v is not None and math.isfinite(v)]
        return finite if len(finite) == len(values) else []

    @property
    def tasks(self) -> Sequence[TaskInfo]:
        """Several tasks that are learned at once; empty for a single one."""
        return [task for task in self.dataset_info.get("tasks") or () if task.get("name")]

    def of(self, task: TaskInfo) -> Record:
        """The record of one of several tasks, as if it were the only one."""
        prefixes = {f"{split}_{task.get('name')}_": f"{split}_" for split in SPLITS}
        rows = [_renamed(row, prefixes) for row in self.rows]
        # The loss of a batch is that of all tasks together.
        snapshots = [{**s, "batch_loss": None, "batch_loss_std": None} for s in self.snapshots]
        return Record(rows, cast(Snapshots, snapshots), cast(DatasetInfo, {**self.dataset_info, **task, "tasks": []}))

    @property
    def classifies(self) -> bool:
        """Whether the task is one of classes."""
        return self.dataset_info.get("kind", "classification") == "classification"

    @property
    def chance_loss(self) -> float | None:
        """Loss of the best prediction that does not depend on the image; of classes, the entropy of their frequencies."""
        return self.dataset_info.get("guessing_loss", self.dataset_info.get("prior_entropy"))

    @property
    def majority(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        counts = self.dataset_info.get("class_counts") or [1]
        return max(counts) / max(sum(counts), 1)

    @property
    def lr(self) -> float:
        return float(self.dataset_info.get("lr") or 0.0)

    @property
    def lower_lr(self) -> str:
        """Override for a tenth of the learning rate; for an LR range test if the learning rate is above 10."""
        return f"optimizer.lr={short(self.lr / 10)}" if self.lr <= 10 else "optimizer.lr=auto"

    @property
    def higher_lr(self) -> str:
        """Override for ten times the learning rate."""
        return f"optimizer.lr={short(self.lr * 10)}"

    def epochs(self, factor: float) -> str:
        """Override for ``factor`` times the epochs of the run."""
        return f"epochs={short(factor * self.rows[-1]['epoch'])}"

    @property
    def learned(self) -> bool:
        """Whether the network is better than chance, on validation images if there are any."""
        losses = self.column("validation_loss") or self.column("train_loss")
        accuracies = self.column("validation_accuracy") or self.column("train_accuracy")
        if not losses or self.chance_loss is None or (self.classifies and not accuracies):
            return True
        if not self.classifies:
            # A validation split may happen to be easier for a constant than the training images.
            train = [] if self.dataset_info.get("mixed") else self.column("train_loss")
            return max(min(losses), min(train, default=0.0)) < 0.98 * self.chance_loss
        if min(losses) < 0.95 * self.chance_loss:
            return True
        n = self.dataset_info.get("validation") or self.dataset_info.get("train") or 1000
        return max(accuracies) > self.majority + 2 * proportion_half_width(self.majority, n)

    @property
    def stuck(self) -> bool:
        """Whether the training loss is still above half of that of guessing."""
        losses = self.column("train_loss")
        return bool(losses) and self.chance_loss is not None and losses[-1] > 0.5 * self.chance_loss


def _renamed(row: Row, prefixes: Mapping[str, str]) -> Row:
    """A row without the columns of all tasks together, in which those of one task have the names of a single task's."""
    renamed: dict[str, Any] = {}
    for name, value in row.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            renamed[prefixes[prefix] + name.removeprefix(prefix)] = value
        elif not name.startswith(tuple(prefixes.values())):
            renamed[name] = value
    return cast(Row, renamed)


def short(value: float) -> str:
    """Return a number as one types it.

    >>> short(0.005), short(30.0), short(1 / 3)
    ('0.005', '30', '0.33')
    """
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
