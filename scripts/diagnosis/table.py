"""What the findings of all measured runs are worth: which condition was named, which healthy run was not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from diagnosis.conditions import CONDITIONS, GROUP_OF, GROUPS, NOTES
from diagnosis.measure import Case, control, score
from trainer.analysis.diagnosis import Finding, diagnose

HARM = 0.03  # loss of accuracy against the healthy control from which a fault counts
MIN_STEPS = 100  # of a run that is probed, as in the observer


@dataclass(frozen=True)
class Verdict:
    """A diagnosed run.

    Attributes:
        case: What was trained.
        effect: ``fault``, ``harmless`` (an induced fault that changes nothing, which counts as healthy), ``healthy``,
            ``worse`` (a healthy variation that is clearly worse than the plain config, which counts for nothing).
        names: The findings, the most important first, without notes.
        difference: Of the accuracy to that of its control.
        confirmed: Whether a run that should be healthy is improved by what the first finding suggests.
    """

    case: Case
    effect: str
    names: tuple[str, ...]
    difference: float
    confirmed: bool = False

    @property
    def right(self) -> tuple[str, ...]:
        if self.confirmed:
            return self.names[:1]
        return self.case.condition.right if self.case.condition is not None and self.effect == "fault" else ()

    @property
    def named(self) -> bool:
        """Whether the first finding is right."""
        return bool(self.names) and self.names[0] in self.right


def diagnosed(record: dict[str, Any]) -> list[Finding]:
    """The findings of a record without notes, as the program would report them."""
    info, scores = record["info"], record["scores"]
    parts = {name: (scores.get(name) or {}).get("accuracy") for name in ("validation", "test")}
    if None not in parts.values():
        info = {**info, "accuracies": parts}
    if record["scores"]["steps"] < MIN_STEPS:
        kept = ("steps", "used", "ranks", "loss_of_batch_statistics")  # without branches
        info = {**info, "probe": {k: v for k, v in info["probe"].items() if k in kept}} if "probe" in info else info
    return [finding for finding in diagnose(record["rows"], record["snapshots"], info) if finding.name not in NOTES]


def names(case: Case, record: dict[str, Any]) -> tuple[str, ...]:
    """The findings without those that are true of the control, too."""
    also = case.condition.also if case.condition is not None else ()
    return tuple(finding.name for finding in diagnosed(record) if finding.name not in also)


def verdicts(records: dict[str, tuple[Case, dict[str, Any]]]) -> list[Verdict]:
    """The verdicts of all measured runs; the effect of a condition is judged over all its seeds."""
    scores = {key: score(record) for key, (_, record) in records.items()}
    differences: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, (case, _) in records.items():
        if case.condition is not None and control(case).key in scores:
            differences[case.setting.name, case.name].append(scores[key] - scores[control(case).key])
    found = []
    for key, (case, record) in records.items():
        if not case.judged:
            continue
        values = differences.get((case.setting.name, case.name), [])
        difference = mean(values) if values else 0.0
        if case.condition is None:
            plain = [scores[k] for k, (c, _) in records.items() if c.setting is case.setting and c.name == "plain"]
            difference = scores[key] - mean(plain) if plain else 0.0
            effect = "worse" if difference < -HARM else "healthy"
        else:
            effect = "fault" if case.condition.hidden or harmful(values) else "harmless"
        found.append(Verdict(case, effect, names(case, record), difference))
    return found


def harmful(differences: Sequence[float]) -> bool:
    """Whether accuracies are lower than those of the controls, by more than ``HARM`` and two standard errors.

    >>> harmful([-0.2, -0.1, -0.15]), harmful([-0.04, 0.0, -0.06]), harmful([-0.01, -0.01, -0.01])
    (True, False, False)
    """
    if not differences or mean(differences) > -HARM:
        return False
    return len(differences) < 2 or mean(differences) < -2 * stdev(differences) / len(differences) ** 0.5


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927).

    >>> tuple(round(v, 3) for v in wilson(0, 60)), tuple(round(v, 3) for v in wilson(9, 10))
    ((0.0, 0.06), (0.596, 0.982))
    """
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, successes / n
    center, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, (center - half) / (1 + z * z / n)), min(1.0, (center + half) / (1 + z * z / n))


def proportion(successes: int, n: int) -> str:
    """A proportion with its interval.

    >>> proportion(9, 10)
    '0.90 (0.60-0.98), 9 of 10'
    """
    low, high = wilson(successes, n)
    return f"{successes / n:.2f} ({low:.2f}-{high:.2f}), {successes} of {n}" if n else "-"


def group_rows(found: Iterable[Verdict]) -> list[list[str]]:
    """Recall and precision of each group of findings, and the false alarms of healthy runs."""
    found = [v for v in found if v.effect != "worse"]
    rows = []
    for group in GROUPS:
        faults = [v for v in found if v.effect == "fault" and v.case.condition and v.case.condition.group == group]
        alarms = [(v, name) for v in found for name in v.names if GROUP_OF.get(name) == group]
        recalled = sum(bool(set(v.names) & set(v.right)) for v in faults)
        first = sum(v.named for v in faults)
        right = sum(name in v.right for v, name in alarms)
        rows.append(
            [group, proportion(recalled, len(faults)), proportion(first, len(faults)), proportion(right, len(alarms))]
        )
    faults = [v for v in found if v.effect == "fault"]
    alarms = [(v, name) for v in found for name in v.names]
    rows.append(["all", proportion(sum(bool(set(v.names) & set(v.right)) for v in faults), len(faults)),
                 proportion(sum(v.named for v in faults), len(faults)),
                 proportion(sum(name in v.right for v, name in alarms), len(alarms))])  # fmt: skip
    return rows


def false_alarms(found: Iterable[Verdict], effect: str) -> str:
    """In how many healthy runs something is reported."""
    healthy = [v for v in found if v.effect == effect]
    return proportion(sum(bool(v.names) and not v.confirmed for v in healthy), len(healthy))


def confusion_rows(found: Iterable[Verdict]) -> list[list[str]]:
    """For each condition: settings, runs in which it was harmful and is among the findings, or named first, and what else was
    reported first.
    """
    rows, found = [], list(found)
    for condition in CONDITIONS:
        own = [v for v in found if v.case.name == condition.name]
        faults = [v for v in own if v.effect == "fault"]
        settings = [len({v.case.setting.name for v in group}) for group in (faults, own)]
        recalled = sum(bool(set(v.names) & set(v.right)) for v in faults)
        named = [v.names[0] for v in faults if v.named]
        other = Counter(v.names[0] if v.names else "nothing" for v in faults if not v.named)
        harmless = Counter(v.names[0] if v.names else "nothing" for v in own if v.effect == "harmless")
        cells = [", ".join(f"{name} {n}" for name, n in c.most_common()) for c in (Counter(named), other, harmless)]
        counts = [f"{settings[0]} of {settings[1]}", f"{recalled} of {len(faults)}", f"{len(named)} of {len(faults)}"]
        rows.append([condition.name, condition.group, *counts, *cells])
    return rows


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
