"""Diagnosis: recognizes failure modes in the records of a run, explains them, and suggests overrides.

Pure functions of plain values: ``rows`` is the history, ``snapshots`` the layer statistics of the histograms observer
(``layers.jsonl``), ``dataset_info`` properties of data and config (``dataset_info.json``). A check returns
a finding or None; a check whose input is missing returns None. Of several tasks each is judged by its own columns, and its
name stands in front of the finding: ``digit: overfitting``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from trainer.analysis.diagnosis.advice import advised, applicable, listed
from trainer.analysis.diagnosis.copies import leakage, leaks, near_duplicates
from trainer.analysis.diagnosis.data import (
    class_imbalance,
    class_weights,
    contradictory_labels,
    imbalanced_classes,
    repeated_image,
)
from trainer.analysis.diagnosis.fit import good_fit, not_learning, overfitting, underfitting
from trainer.analysis.diagnosis.labels import (
    inputs_not_finite,
    inputs_not_normalized,
    label_noise,
    labels_unrelated,
)
from trainer.analysis.diagnosis.layers import (
    dead_from_the_start,
    dead_units,
    gradients_by_depth,
    high_initial_loss,
    identical_units,
    poor_initialization,
    saturated_units,
    signal_by_depth,
)
from trainer.analysis.diagnosis.length import still_improving, stopped_too_early, too_short
from trainer.analysis.diagnosis.mixed_classes import classes_mixed_up
from trainer.analysis.diagnosis.needed import needed_branches, needs_changes, needs_probe, without_probe
from trainer.analysis.diagnosis.noise import noisy, within_noise
from trainer.analysis.diagnosis.nonfinite import nonfinite_loss
from trainer.analysis.diagnosis.potential import improvable
from trainer.analysis.diagnosis.record import Finding, Record, Rows, Snapshots, number
from trainer.analysis.diagnosis.regularization import too_strongly_augmented, too_strongly_regularized
from trainer.analysis.diagnosis.schedule import ends_at_high_lr
from trainer.analysis.diagnosis.splits import differ, test_differs, validation_differs, validation_harder
from trainer.analysis.diagnosis.update import (
    clipped_too_strongly,
    exploding_loss,
    lr_too_high,
    lr_too_low,
)
from trainer.analysis.diagnosis.wiring import (
    average_not_used,
    batches_too_small,
    few_classes_in_batches,
    frozen_layers,
    lagging_average,
    other_normalization,
    tiny_batch_norm,
)
from trainer.measurements import DatasetInfo

Check = Callable[[Record], Finding | None]
URGENT_CHECKS: tuple[Check, ...] = (nonfinite_loss, exploding_loss)
# Of what there is before the first step: each of these may be why the loss is not finite, or explodes.
CHECKS_OF_THE_START: tuple[Check, ...] = (
    inputs_not_finite, inputs_not_normalized, identical_units, signal_by_depth, saturated_units, gradients_by_depth,
    high_initial_loss,
)  # fmt: skip
CHECKS_OF_IMAGES: tuple[Check, ...] = (repeated_image, leakage, contradictory_labels, near_duplicates, test_differs)
# From cause to effect. Each of these explains those after it: the first one that is found is the cause.
CAUSES: tuple[Check, ...] = (
    inputs_not_finite,
    inputs_not_normalized,
    other_normalization,
    few_classes_in_batches,
    identical_units,
    signal_by_depth,
    dead_from_the_start,
    saturated_units,
    gradients_by_depth,
    frozen_layers,
    too_strongly_regularized,
    clipped_too_strongly,
    too_strongly_augmented,
    high_initial_loss,
    poor_initialization,
    class_weights,
    validation_differs,
    labels_unrelated,
    nonfinite_loss,
    exploding_loss,
    batches_too_small,
    lr_too_high,
    stopped_too_early,
    lr_too_low,
    dead_units,
    tiny_batch_norm,
    classes_mixed_up,
    label_noise,
    validation_harder,
    ends_at_high_lr,
    noisy,
    lagging_average,
    too_short,
    underfitting,
    not_learning,
    overfitting,
    still_improving,
)
CHECKS: tuple[Check, ...] = (*CAUSES, good_fit, class_imbalance, *CHECKS_OF_IMAGES, within_noise, average_not_used)
# With several tasks, these are about the network and the images, or about the sum of the losses and the size of the steps.
CHECKS_OF_THE_NETWORK: tuple[Check, ...] = (
    nonfinite_loss,
    inputs_not_finite,
    inputs_not_normalized,
    other_normalization,
    identical_units,
    signal_by_depth,
    gradients_by_depth,
    frozen_layers,
    dead_units,
    saturated_units,
    *CHECKS_OF_IMAGES,
)
CHECKS_OF_THE_SUM: tuple[Check, ...] = (noisy, high_initial_loss)
CHECKS_OF_THE_LR: tuple[Check, ...] = (lr_too_high, lr_too_low)
KINDS = ("urgent", "warning", "hint", "good")
# Findings of which the data may be the cause, next to which they are left out.
EXPLAINED_BY_DATA = {
    "class imbalance": ("overfitting", "underfitting", "not learning", "still improving"),
    "contradictory labels": ("overfitting", "underfitting", "label noise"),
    "repeated image": ("overfitting", "underfitting", "label noise", "still improving", "validation harder than test"),
}
MANY = 0.05  # of the training images, from which contradictory labels explain other findings
# Findings about config and data, which no other one has as its consequence.
FACTS = ("frozen layers", "too strongly regularized", "batch norm of tiny batches", "ends at a high learning rate", "sorted data",
         "lagging average", "clipped too strongly", "too strongly augmented", "label noise", "classes mixed up",
         "validation harder than test", "training and validation differ", "unequal class weights")  # fmt: skip
# What contradicts a cause, or says the same in other words.
NO_CONSEQUENCE = {
    "learning rate too high": ("exploding loss",),
    "batches too small": ("batch norm of tiny batches",),
    "label noise": ("underfitting",),
}
# Of what these are consequences: a setting of none, and others only of some causes. All other findings may follow any cause.
CONSEQUENCES_OF = {
    "learning rate too low": (),
    "learning rate too high": (),
    "poor initialization": (),
    "overfitting": ("label noise", "labels unrelated to the images", "training and validation differ"),
    "still improving": ("learning rate too low",),
}
# What a network that has not learned its images makes look true.
OF_LABELS = ("label noise", "classes mixed up", "labels unrelated to the images")
SYMPTOMS = ("not learning", "underfitting")  # of which further measurements may tell the cause
OF_SCORES = ("overfitting", "still improving")  # less urgent than test images of another kind
RESTS = ("good fit", "differences within noise")  # what is said only where nothing is wrong
TEST_DIFFERS, LEAKAGE, NEAR = "validation and test differ", "train/test leakage", "near duplicates"
INDEPENDENT = (*RESTS, "average not used", LEAKAGE, NEAR, TEST_DIFFERS, *EXPLAINED_BY_DATA)


def diagnose(rows: Rows, snapshots: Snapshots, dataset_info: DatasetInfo) -> list[Finding]:
    """Return all findings, urgent ones first, without those that another one explains."""
    return _findings(CHECKS, Record(rows, snapshots, dataset_info))


def urgent(rows: Rows, snapshots: Snapshots, dataset_info: DatasetInfo) -> list[Finding]:
    """Return the findings that cannot wait until the end of the run, with the advice for what explains them."""
    record = Record(rows, snapshots, {**dataset_info, "status": "diverged"})  # as it will be said then
    found = _findings(URGENT_CHECKS, record)
    cause = next(iter(_findings(CHECKS_OF_THE_START, record)), None) if found else None
    if cause is None:
        return found
    explained = f"{cause.name}: {cause.evidence}"
    return [replace(f, evidence=f"{f.evidence} ({explained})", attempt=cause.attempt) for f in found]


def _findings(checks: Sequence[Check], record: Record) -> list[Finding]:
    curves = replace(record, dataset_info=without_probe(record.dataset_info))
    if good_fit(curves) is not None and not improvable(curves):
        record = curves
    findings = _of_tasks(checks, record) if record.tasks else _unexplained(checks, record)
    config = record.dataset_info.get("config", {})
    typed = record.dataset_info.get("typed", [])
    findings = [advised(replace(f, attempt=applicable(f.attempt, config)), typed) for f in findings]
    return sorted(findings, key=lambda f: KINDS.index(f.kind))


def _unexplained(checks: Sequence[Check], record: Record, others: Sequence[Finding] = ()) -> list[Finding]:
    """The findings without those that are consequences of one before them, which are named in it."""
    found = [finding for check in checks if (finding := check(record)) is not None]
    few = record.dataset_info.get("contradictory", 0) < MANY * record.dataset_info.get("train", 0)
    explained = {
        name
        for finding in [*others, *found]
        if not (few and finding.name == "contradictory labels")
        for name in EXPLAINED_BY_DATA.get(finding.name, ())
    }
    chain = [f for f in found if f.name not in INDEPENDENT and f.name not in explained]
    upstream = [*(f for f in others if f.name not in INDEPENDENT), *chain]
    wrong = bool(upstream) or any(f.name == TEST_DIFFERS for f in found)
    # A class that has lost its images to another one is rare because of that.
    mixed = any(f.name == "classes mixed up" for f in found)
    left_out = (*(RESTS if wrong else ()), *(("class imbalance",) if mixed else ()))
    kept = [f for f in found if f.name in INDEPENDENT and f.name not in left_out]
    if not chain or len(upstream) > len(chain):
        return kept
    cause, *consequences = chain
    for text, facts in (("Its consequences", False), ("Check afterwards", True)):
        following = [f.name for f in consequences if f.name not in {cause.name, *NO_CONSEQUENCE.get(cause.name, ())}]
        following = [name for name in following if cause.name in CONSEQUENCES_OF.get(name, (cause.name,))]
        following = [name for name in following if name not in OF_LABELS]
        names = list(dict.fromkeys(name for name in following if (name in FACTS) == facts))
        if names:
            cause = replace(cause, meaning=f"{cause.meaning} {text}: {listed(names)}.")
    if cause.name in SYMPTOMS and (enough := (record.probe or {}).get("enough")):
        text = "Not all short trainings that tell causes apart were made, because they would have taken too long"
        cause = replace(
            cause, meaning=f"{cause.meaning} {text}: observer.diagnosis.probe_fraction={enough:g} makes them all."
        )
    if cause.name in OF_SCORES and _mostly_the_test(record, kept):
        return [*kept, cause]
    first = [f for f in kept if (f.name == LEAKAGE and leaks(record)) or (f.name == NEAR and f.kind == "warning")]
    return [*first, cause, *(f for f in kept if f not in first)]


def _mostly_the_test(record: Record, found: Sequence[Finding]) -> bool:
    """Whether test images differ from validation images, and by more than these from training images."""
    accuracies, used = record.dataset_info.get("accuracies", {}), None if record.probe is None else record.probe["used"]
    if not any(f.name == TEST_DIFFERS and f.kind == "warning" for f in found):
        return False
    trained = number(None if used is None else used["accuracy"], accuracies["validation"])
    return accuracies["validation"] - accuracies["test"] > trained - accuracies["validation"]


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
    shared = list(whole)
    for name, own in records.items():
        findings = _unexplained([c for c in checks if c not in general], own, shared)
        whole += [replace(finding, name=f"{name}: {finding.name}") for finding in findings]
    return whole


__all__ = [
    "CHECKS",
    "Finding",
    "Record",
    "diagnose",
    "differ",
    "imbalanced_classes",
    "needed_branches",
    "needs_changes",
    "needs_probe",
    "urgent",
]
