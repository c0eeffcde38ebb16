"""Diagnosis: recognizes failure modes in the records of a run, explains them, and suggests overrides.

Pure functions of plain values: ``rows`` is the history, ``snapshots`` the layer statistics of the histograms observer
(``layers.jsonl``), ``dataset_info`` properties of data and config (``dataset_info.json``). A check returns
a finding or None; a check whose input is missing returns None. Of several tasks each is judged by its own columns, and its
name stands in front of the finding: ``digit: overfitting``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from trainer.analysis.diagnosis.advice import applicable
from trainer.analysis.diagnosis.curves import (
    exploding_loss,
    good_fit,
    lr_too_high,
    lr_too_low,
    noisy,
    nonfinite_loss,
    not_learning,
    overfitting,
    still_improving,
    underfitting,
    within_noise,
)
from trainer.analysis.diagnosis.data import (
    class_imbalance,
    contradictory_labels,
    imbalanced_classes,
    leakage,
    near_duplicates,
)
from trainer.analysis.diagnosis.layers import (
    dead_units,
    gradients_by_depth,
    high_initial_loss,
    saturated_units,
    signal_by_depth,
)
from trainer.analysis.diagnosis.record import Finding, Record, Rows, Snapshots
from trainer.formats import DatasetInfo

Check = Callable[[Record], Finding | None]
URGENT_CHECKS: tuple[Check, ...] = (nonfinite_loss, exploding_loss)
CHECKS_OF_IMAGES: tuple[Check, ...] = (leakage, contradictory_labels, near_duplicates)
CHECKS: tuple[Check, ...] = (
    *URGENT_CHECKS,
    signal_by_depth,
    not_learning,
    lr_too_high,
    lr_too_low,
    still_improving,
    overfitting,
    underfitting,
    good_fit,
    noisy,
    gradients_by_depth,
    dead_units,
    saturated_units,
    high_initial_loss,
    *CHECKS_OF_IMAGES,
    class_imbalance,
    within_noise,
)
# With several tasks, these are about the network and the images, or about the sum of the losses and the size of the steps.
CHECKS_OF_THE_NETWORK: tuple[Check, ...] = (
    nonfinite_loss,
    signal_by_depth,
    gradients_by_depth,
    dead_units,
    saturated_units,
    *CHECKS_OF_IMAGES,
)
CHECKS_OF_THE_SUM: tuple[Check, ...] = (noisy, high_initial_loss)
CHECKS_OF_THE_LR: tuple[Check, ...] = (lr_too_high, lr_too_low)
KINDS = ("urgent", "warning", "hint", "good")
# Findings that follow from another one, and so are left out next to it.
EXPLAINS = {
    "NaN or Inf loss": (
        "exploding loss",
        "not learning",
        "learning rate too high",
        "high initial loss",
        "noisy",
        "still improving",
        "dead units",
        "saturated units",
        "vanishing gradients",
        "exploding gradients",
    ),
    "vanishing activations": (
        "not learning",
        "learning rate too low",
        "learning rate too high",
        "underfitting",
        "still improving",
        "dead units",
        "noisy",
    ),
    "exploding activations": (
        "not learning",
        "learning rate too high",
        "exploding gradients",
        "high initial loss",
        "noisy",
    ),
    "exploding loss": ("not learning", "still improving", "underfitting", "noisy"),
    "not learning": ("underfitting", "still improving", "noisy", "overfitting", "differences within noise"),
    "learning rate too high": ("not learning", "noisy", "still improving", "underfitting"),
    "learning rate too low": ("not learning", "still improving", "underfitting"),
    "overfitting": ("good fit", "still improving"),
    "still improving": ("underfitting", "good fit"),
    "noisy": ("differences within noise",),
}


def diagnose(rows: Rows, snapshots: Snapshots, dataset_info: DatasetInfo) -> list[Finding]:
    """Return all findings, urgent ones first, without those that another one explains."""
    return _findings(CHECKS, Record(rows, snapshots, dataset_info))


def urgent(rows: Rows, snapshots: Snapshots, dataset_info: DatasetInfo) -> list[Finding]:
    """Return the findings that cannot wait until the end of the run."""
    return _findings(URGENT_CHECKS, Record(rows, snapshots, dataset_info))


def _findings(checks: Sequence[Check], record: Record) -> list[Finding]:
    findings = _of_tasks(checks, record) if record.tasks else _unexplained(checks, record)
    config = record.dataset_info.get("config", {})
    findings = [replace(f, attempt=applicable(f.attempt, config)) for f in findings]
    return sorted(findings, key=lambda f: KINDS.index(f.kind))


def _unexplained(checks: Sequence[Check], record: Record, others: Sequence[Finding] = ()) -> list[Finding]:
    findings = [finding for check in checks if (finding := check(record)) is not None]
    explained = {name for finding in [*others, *findings] for name in EXPLAINS.get(finding.name, ())}
    return [finding for finding in findings if finding.name not in explained]


def _of_tasks(checks: Sequence[Check], record: Record) -> list[Finding]:
    """Return the findings about several tasks: each task is judged by its own columns, what they share once."""
    of_sum = () if record.dataset_info.get("learns_weights") else CHECKS_OF_THE_SUM
    whole = _unexplained([c for c in checks if c in (*CHECKS_OF_THE_NETWORK, *of_sum)], record)
    records = {task.get("name", ""): record.of(task) for task in record.tasks}
    for check in (c for c in checks if c in CHECKS_OF_THE_LR):
        found = {name: finding for name, own in records.items() if (finding := check(own)) is not None}
        if len(found) == len(records):  # the steps are the same for all tasks
            first = next(iter(found))
            whole.append(replace(found[first], evidence=f"for all tasks, such as {first}: {found[first].evidence}"))
    general = (*CHECKS_OF_THE_NETWORK, *CHECKS_OF_THE_SUM, *CHECKS_OF_THE_LR)
    for name, own in records.items():
        findings = _unexplained([c for c in checks if c not in general], own, whole)
        whole += [replace(finding, name=f"{name}: {finding.name}") for finding in findings]
    return whole


__all__ = ["CHECKS", "Finding", "Record", "diagnose", "imbalanced_classes", "urgent"]
