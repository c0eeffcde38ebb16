"""What a diagnosis is made from, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.analysis.intervals import proportion_half_width

Rows = Sequence[dict[str, Any]]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What was found: the ``evidence`` in numbers, its ``meaning``, overrides to ``attempt``; ``urgent`` cannot wait."""

    name: str
    evidence: str
    meaning: str
    attempt: tuple[str, ...] = ()
    kind: str = "warning"  # urgent | warning | hint | good

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Record:
    """What a diagnosis is made from, with the questions that several checks ask of it."""

    rows: Rows
    snapshots: Rows
    facts: Facts

    def column(self, name: str) -> list[float]:
        """A column's values of all epochs; empty where an epoch has none or one that is no finite number."""
        values = [row.get(name) for row in self.rows]
        return (
            []
            if any(v is None or not math.isfinite(v) for v in values)
            else [float(v) for v in values if v is not None]
        )

    @property
    def chance(self) -> float | None:
        """The loss of who knows only how frequent the classes are, in nats."""
        return self.facts.get("prior_entropy")

    @property
    def majority(self) -> float:
        """The accuracy of who always says the most frequent class."""
        counts = self.facts.get("class_counts") or [1]
        return max(counts) / max(sum(counts), 1)

    @property
    def lr(self) -> float:
        return float(self.facts.get("lr") or 0.0)

    @property
    def lower_rate(self) -> str:
        """A tenth of the rate as an override; where that would still be no rate, a range test."""
        return f"optimizer.lr={short(self.lr / 10)}" if self.lr <= 10 else "optimizer.lr=auto"

    def learned(self) -> bool:
        """Whether the network knows more than chance, on the cleanest pictures there are."""
        losses = self.column("validation_loss") or self.column("train_loss")
        accuracies = self.column("validation_accuracy") or self.column("train_accuracy")
        n = self.facts.get("validation") or self.facts.get("train") or 1000
        noise = 2 * proportion_half_width(self.majority, n)
        if not losses or not accuracies or self.chance is None:
            return True
        return max(accuracies) > self.majority + noise or min(losses) < 0.95 * self.chance


def short(value: float) -> str:
    """A number as one types it.

    >>> short(0.005), short(30.0), short(1 / 3)
    ('0.005', '30', '0.33')
    """
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
