"""The input and the output of the diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal, cast

from trainer.analysis.intervals import proportion_half_width
from trainer.columns import SPLITS
from trainer.formats import FindingContent, Row, Snapshot
from trainer.measurements import Branch, DatasetInfo, Probe, TaskInfo
from trainer.tree import value_at

IMAGES = 500  # of a split, on which a network is evaluated
BRIEF = 100  # steps; a shorter run is too short to be judged by more than that, or by short trainings
LONG = 150  # steps of a short training, unless those of the others are more than half as many
USUAL = 0.03  # update-to-weight ratio of the first step of healthy runs, at most
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
    def by_chance(self) -> float:
        """Accuracy that predictions without any relation to the images hardly exceed on those that are held out."""
        n = self.dataset_info.get("validation") or self.dataset_info.get("train") or 1000
        return self.majority + 2 * proportion_half_width(self.majority, n)

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, their numbers if they have none."""
        counts = self.dataset_info.get("class_counts") or []
        return self.dataset_info.get("classes") or [str(i) for i in range(len(counts))]

    @property
    def starts_trained(self) -> bool:
        """Whether the initial weights are those of a network that was trained before."""
        return bool(self.dataset_info.get("pretrained")) or starts_trained(self.dataset_info.get("config", {}))

    @property
    def lr(self) -> float:
        return float(self.dataset_info.get("lr") or 0.0)

    @property
    def lower_lr(self) -> str:
        """Override for a lower learning rate: one at which the loss was finite from the initial weights or, without such a short
        training, at which the first step would have changed the weights by less than ``USUAL``, at most a tenth; for a range test
        if there is none, or none below 10.
        """
        lower = {b["factor"]: b for b in self.branches("from_start").values() if b["factor"] < 1}
        if 0.1 in lower and not math.isfinite(number(lower[0.1]["loss"])):
            finite = [b for _, b in sorted(lower.items(), reverse=True) if math.isfinite(number(b["loss"]))]
            return f"optimizer.lr={short(finite[0]['lr'])}" if finite else "optimizer.lr=auto"
        ratio, factor = max(self.first_ratio, default=0.0), 0.1
        while 0.1 not in lower and math.isfinite(ratio) and ratio * factor > USUAL and factor > 1e-4:
            factor /= 10
        value = self.lr * factor
        return f"optimizer.lr={short(value)}" if value < 10 and (self.lr <= 10 or factor < 0.1) else "optimizer.lr=auto"

    @property
    def first_ratio(self) -> list[float]:
        """The update-to-weight ratio of the median layer at the first step, as a list of at most one value.

        A head that is trained alone first, and a step at less than half of the highest learning rate, do not count.
        """
        if self.first is None or self.first.get("phase") == "head":
            return []
        if self.first.get("lr", self.peak_lr) < self.peak_lr / 2:
            return []
        ratios = [number(layer["update_ratio"]) for layer in self.first["weights"]]
        return [median(ratios)] if ratios else []

    @property
    def higher_lr(self) -> str:
        """Override for ten times the learning rate."""
        return f"optimizer.lr={short(self.lr * 10)}"

    def epochs(self, factor: float) -> str:
        """Override for ``factor`` times the epochs of the run."""
        return f"epochs={short(factor * self.trained)}"

    @property
    def trained(self) -> float:
        """The epochs of the run, of all its phases together."""
        return sum({row.get("phase", ""): row["epoch"] for row in self.rows}.values())

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
        return min(losses) < 0.95 * self.chance_loss or max(accuracies) > self.by_chance

    @property
    def stuck(self) -> bool:
        """Whether the training loss is still above half of that of guessing."""
        losses = self.column("train_loss")
        return bool(losses) and self.chance_loss is not None and losses[-1] > 0.5 * self.chance_loss

    @property
    def diverged(self) -> bool:
        """Whether training ended because of a NaN or Inf."""
        return self.dataset_info.get("status") == "diverged"

    @property
    def probe(self) -> Probe | None:
        """What was measured after training; None if it was not."""
        return self.dataset_info.get("probe")

    @property
    def struggles(self) -> bool:
        """Whether the training images are not fitted: by the weights that are used, without augmentation, if they were probed."""
        if self.diverged or self.probe is None or self.chance_loss is None:
            return self.diverged or self.stuck or not self.learned
        used = self.probe["used"]
        accuracy = used["accuracy"]
        return number(used["loss"]) > 0.2 * self.chance_loss and (accuracy is None or accuracy < 0.95)

    @property
    def weak(self) -> bool:
        """Whether the network struggles, or its validation loss is not low."""
        validation = math.nan if self.probe is None else number(self.probe["used"].get("validation_loss"), math.nan)
        return self.struggles or validation > 0.15 * (self.chance_loss or math.inf)

    def branches(
        self,
        kind: Literal[
            "from_start",
            "from_used",
            "unregularized",
            "unregularized_start",
            "lower_start",
            "longer_used",
            "longer_start",
            "unregularized_longer_start",
            "unaugmented_start",
            "unaugmented",
            "unfrozen_start",
            "larger_batches",
            "one_batch",
        ],
    ) -> dict[float, Branch]:
        """The branches of the probe by their factor of the learning rate."""
        return {} if self.probe is None else {b["factor"]: b for b in self.probe.get(kind) or ()}

    @property
    def first(self) -> Snapshot | None:
        """The snapshot of the first step, if there is one."""
        return self.snapshots[0] if self.snapshots and self.snapshots[0]["step"] == 1 else None

    @property
    def peak_lr(self) -> float:
        """The highest learning rate of the history and the snapshots."""
        return max([row.get("lr") or 0.0 for row in self.rows] + [s.get("lr", 0.0) for s in self.snapshots] + [0.0])

    @property
    def mean_lr(self) -> float:
        """The mean learning rate of the epochs; ``optimizer.lr`` where the history lacks it."""
        rates = [rate for row in self.rows if (rate := row.get("mean_lr", row.get("lr"))) is not None]
        return sum(rates) / len(rates) if rates else self.lr

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.rows[-1]["step"] if self.rows and "step" in self.rows[-1] else 0

    @property
    def frozen(self) -> int:
        """Layers with weights that were not trained at the end."""
        return self.snapshots[-1].get("frozen", 0) if self.snapshots else 0

    @property
    def widths(self) -> list[int]:
        """The widths of the network, if its config has any."""
        widths = self.setting("architecture", "widths")
        return [w for w in cast(list[object], widths) if isinstance(w, int)] if isinstance(widths, list) else []

    def setting(self, *path: str) -> object:
        """The value of a key of the config; None if it is unknown."""
        return value_at(self.dataset_info.get("config") or {}, *path)

    @property
    def regularizers(self) -> list[str]:
        """The names of those enabled; none without a config."""
        enabled = self.setting("regularizer")
        return [str(name) for name in cast(Mapping[str, object], enabled)] if isinstance(enabled, Mapping) else []


def starts_trained(config: Mapping[str, object]) -> bool:
    """Whether a config loads weights that were trained before."""
    return any(value_at(config, *path) for path in (("architecture", "weights"), ("initialization", "path")))


def number(value: float | None, missing: float = math.inf) -> float:
    """Return a number that was not finite, and so is missing in a file, as ``missing``.

    >>> number(0.5), number(None)
    (0.5, inf)
    """
    return missing if value is None or not math.isfinite(value) else value


def _renamed(row: Row, prefixes: Mapping[str, str]) -> Row:
    """A row without the columns of all tasks together, in which those of one task have the names of a single task's."""
    renamed: dict[str, object] = {}
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
