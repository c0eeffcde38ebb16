"""The diagnosis of the size of the steps: learning rate, batches, averages."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from diagnosing import PROBE, branch_to, names, record_of, written

from trainer.analysis.diagnosis import diagnose


def test_the_steps_of_a_warm_up_are_no_evidence_for_a_low_learning_rate():
    warmup = ("schedule=[warmup,cosine]", "schedule.warmup.epochs=2", "epochs=3", "architecture.widths=[16,32]")
    record = record_of(warmup)
    early = [{**s, "lr": s["lr"], "weights": s["weights"]} for s in record.snapshots if s["step"] == 1]
    assert early[0]["lr"] < 0.1 * max(row["lr"] for row in record.rows)
    findings = diagnose(record.rows, early, record.dataset_info)
    assert "learning rate too low" not in [finding.name for finding in findings]
    slow = [{**early[0], "lr": max(row["lr"] for row in record.rows)}]
    for weights in slow[0]["weights"]:
        weights["update_ratio"] = 1e-5
    stalled = [{**row, "train_loss": 2.3 - 0.01 * i} for i, row in enumerate(record.rows)]
    assert "learning rate too low" in [f.name for f in diagnose(stalled, slow, record.dataset_info)]


def test_large_steps_are_no_finding_while_a_new_head_trains_alone():
    """It starts near zero, where every step is large; the same snapshots in any other phase are a finding."""
    from trainer.analysis.diagnosis.record import Record
    from trainer.analysis.diagnosis.update import lr_too_high

    rows = [{"epoch": e, "train_loss": 0.69, "train_accuracy": 0.4} for e in (1, 2)]
    facts = {"prior_entropy": 0.69, "class_counts": [500, 500], "train": 1000, "lr": 0.05}
    for phase, expected in (("head", False), ("train", True)):
        snapshots = [
            {"step": s, "phase": phase, "weights": [{"update_ratio": 0.4}], "activations": []} for s in (1, 50)
        ]
        assert (lr_too_high(Record(rows, snapshots, facts)) is not None) == expected


def test_the_advice_on_an_extreme_learning_rate_is_an_lr_range_test():
    from trainer.analysis.diagnosis.record import Record

    assert Record([], [], {"lr": 1e30}).lower_lr == "optimizer.lr=auto"
    assert Record([], [], {"lr": 0.05}).lower_lr == "optimizer.lr=0.005"


def test_running_statistics_that_differ_from_those_of_tiny_batches_are_named():
    info = {"probe": {**PROBE, "loss_of_batch_statistics": 0.5}}
    assert "batch norm of tiny batches" in names(written([2.0, 1.6, 1.5], info))
    assert "batch norm of tiny batches" not in names(written([2.0, 1.6, 1.5], {**info, "batch_size": 64}))


@pytest.mark.parametrize("normed", [False, True])
def test_larger_batches_tell_that_those_of_a_run_are_too_small(normed):
    larger = [{"factor": 1.0, "lr": 0.05, "loss": 0.6, "accuracy": 0.8}]
    probe = {**PROBE, "larger_batches": larger, **({"loss_of_batch_statistics": 1.5} if normed else {})}
    record = written([1.8, 1.6, 1.5], {"probe": probe})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == ("batch norm of tiny batches" if normed else "batches too small")
    assert "37 steps with batches of 16 from the initial weights reach training loss 0.6" in finding.evidence
    assert "the run, with batches of 2 images, has 1.5 after 300 steps" in finding.evidence
    assert finding.attempt == ("batch_size=16", "architecture.norm=group" if normed else "optimizer.lr=0.005")
    larger[0]["loss"] = 1.45
    assert finding.name not in names(record)


def test_an_average_that_is_not_used_is_told_without_being_a_warning():
    record = written([0.5, 0.2, 0.1], {"metric": "validation_accuracy"})
    rows = [{**row, "validation_accuracy": 0.95, "averaged_accuracy": 0.6} for row in record.rows]
    findings = {f.name: f for f in diagnose(rows, record.snapshots, record.dataset_info)}
    assert set(findings) == {"good fit", "average not used"}
    assert (
        "recognize 60.0 % of the validation images, those of the model 95.0 %" in findings["average not used"].evidence
    )
    assert findings["average not used"].kind == "hint"


def test_a_learning_rate_is_lowered_by_as_much_as_the_first_step_was_too_large():
    for ratio, attempt in ((0.2, "optimizer.lr=0.3"), (0.34, "optimizer.lr=0.03"), (3.6, "optimizer.lr=0.003")):
        weights = [{"tag": "0", "rms": 1.0, "grad_rms": 1.0, "update_ratio": ratio}]
        record = written([2.3, math.nan], {"lr": 3.0}, weights=weights)
        rows = [{**row, "lr": 3.0} for row in record.rows]
        finding = diagnose(rows, [{**s, "lr": 3.0} for s in record.snapshots], record.dataset_info)[0]
        assert (finding.name, finding.attempt[0]) == ("NaN or Inf loss", attempt)


def test_no_learning_rate_above_ten_is_suggested():
    for lr, ratio, attempt in ((3e11, 1e9, "optimizer.lr=auto"), (30.0, 3.6, "optimizer.lr=0.03")):
        weights = [{"tag": "0", "rms": 1.0, "grad_rms": 1.0, "update_ratio": ratio}]
        record = written([2.3, math.nan], {"lr": lr}, weights=weights)
        rows = [{**row, "lr": lr} for row in record.rows]
        finding = diagnose(rows, [{**s, "lr": lr} for s in record.snapshots], record.dataset_info)[0]
        assert (finding.name, finding.attempt[0]) == ("NaN or Inf loss", attempt)


def test_a_learning_rate_at_which_the_loss_was_not_finite_is_not_suggested():
    """The run has survived a learning rate of 3 without learning, while .3 ends in NaN."""
    start = [{"factor": f, "lr": 3 * f, "loss": loss, "accuracy": 0.1} for f, loss in ((0.1, None), (1.0, 2.4))]
    used = {"loss": 2.6, "accuracy": 0.1, "validation_loss": 2.6, "validation_accuracy": 0.1}
    for lower, attempt in (([], "optimizer.lr=auto"), ([(0.01, 2.1)], "optimizer.lr=0.03")):
        branches = [*({"factor": f, "lr": 3 * f, "loss": loss, "accuracy": 0.1} for f, loss in lower), *start]
        info = {"lr": 3.0, "probe": {**PROBE, "used": used, "from_start": branches}}
        record = written(
            [2.4, 2.6, 2.6], info, weights=[{"tag": "0", "rms": 1.0, "grad_rms": 1.0, "update_ratio": 0.9}]
        )
        rows = [{**row, "lr": 3.0, "validation_accuracy": 0.1} for row in record.rows]
        finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
        assert (finding.name, finding.attempt[0]) == ("learning rate too high", attempt)


def test_first_layers_that_layer_wise_decay_leaves_standing_still_are_named():
    def found(decay: float, **initialization) -> list[str]:
        weights = [
            {"tag": str(i), "rms": 1.0, "grad_rms": 1.0, "update_ratio": decay ** (3 - i) / 50} for i in range(4)
        ]
        config = {"optimizer": {"layer_decay": decay}, "initialization": initialization}
        record = written([2.3, 1.9, 1.8], {"config": config}, weights=weights)
        return [f"{f.name}: {f.attempt[0]}" for f in diagnose(record.rows, record.snapshots, record.dataset_info)]

    assert found(0.1)[0] == "learning rate too low: optimizer.layer_decay=1"
    assert "learning rate too low: optimizer.layer_decay=1" not in found(0.7)
    assert "learning rate too low: optimizer.layer_decay=1" not in found(0.1, path="weights.pt"), "they are pretrained"


@pytest.mark.parametrize(
    ("optimizer", "branch", "first"),
    [({"eps": 1.0}, 100.0, "optimizer.eps=1e-8"), ({"momentum": 0.99}, 0.1, "optimizer.momentum=0.9")],
)
def test_what_makes_steps_small_or_large_is_the_first_advice_where_it_is_not_the_learning_rate(
    optimizer, branch, first
):
    start = [
        {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.5, "validation_loss": x}
        for f, x in ((1.0, 2.2), (branch, 0.4))
    ]
    if branch == 100.0:
        start.insert(1, {**start[0], "factor": 10.0, "loss": 1.2, "validation_loss": 1.2})
    record = written(
        [2.3, 2.2, 2.1], {"probe": {**PROBE, "from_start": start}, "config": {"optimizer": {"lr": 0.05, **optimizer}}}
    )
    assert diagnose(record.rows, record.snapshots, record.dataset_info)[0].attempt[0] == first


def test_larger_batches_that_begin_to_learn_explain_a_run_that_did_not():
    used = {"loss": 2.29, "accuracy": 0.15, "validation_loss": 2.29, "validation_accuracy": 0.15}
    larger = [{"factor": 1.0, "lr": 0.05, "loss": 2.19, "accuracy": 0.29}]
    record = written([2.31, 2.3, 2.3], {"probe": {**PROBE, "used": used, "larger_batches": larger}})
    rows = [{**row, "validation_accuracy": 0.1, "train_accuracy": 0.1} for row in record.rows]
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "batches too small"
    rows = [{**row, "validation_accuracy": 0.5} for row in rows]
    assert "batches too small" not in [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)]


def test_a_lower_learning_rate_that_learns_much_where_that_of_the_run_learns_nothing_tells():
    """The run has learned by its end, as its loss still falls, but a lower learning rate does so at once."""
    start = [
        {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.2} for f, x in ((0.1, 1.6), (1.0, 2.2), (10.0, 2.3))
    ]
    used = [{"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.6} for f, x in ((0.1, 1.3), (1.0, 1.35))]
    probe = {**PROBE, "from_start": start, "from_used": used}
    finding, *_ = diagnose(*vars(written([2.0, 1.8, 1.5], {"probe": probe, "batch_size": 32})).values())
    assert finding.name == "learning rate too high"
    assert "20 steps from the initial weights at lr 0.005 reach training loss 1.6, at lr 0.05 2.2" in finding.evidence
    start[0]["loss"] = 2.0
    finding, *_ = diagnose(*vars(written([2.0, 1.8, 1.5], {"probe": probe, "batch_size": 32})).values())
    assert finding.name == "still improving"
    assert finding.attempt == ("epochs=9",), "ten times the learning rate learns less"


def test_batch_norm_of_tiny_micro_batches_is_named_as_well():
    info = {"batch_size": 64, "config": {"micro_batch": 2}, "probe": {**PROBE, "loss_of_batch_statistics": 0.9}}
    record = written([1.7, 1.6, 1.5], info)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "batch norm of tiny batches"
    assert finding.attempt == ("micro_batch=null",)


def test_no_lower_learning_rate_is_advised_that_was_tried_and_has_learned_nothing():
    """Both short trainings at lower ones end at the loss of guessing: a range test tells more."""
    used = {"loss": 2.6, "accuracy": 0.1, "validation_loss": 2.6, "validation_accuracy": 0.1}
    for losses, first in (((2.3, 2.31), "optimizer.lr=auto"), ((2.3, 1.9), "optimizer.lr=0.0005")):
        start = [
            {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.1, "validation_loss": x}
            for f, x in zip((0.1, 0.01, 1.0), (*losses, 2.7), strict=True)
        ]
        record = written([2.6, 2.6, 2.6], {"probe": {**PROBE, "used": used, "from_start": start}, "batch_size": 32})
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "learning rate too high"
        assert finding.attempt[0] == first


@pytest.mark.parametrize(
    ("lower", "own", "text"),
    [
        (0.9, 1.4, "to training loss 0.9; the run, at 0.05, has 1.5"),
        (1.48, 2.1, "to training loss 1.48, at lr 0.05 to 2.1"),
        (1.48, 1.6, None),  # as good as the run, and hardly better than as many of its steps
        (0.9, 0.8, None),  # the learning rate of the run is as good: the weights that are used are not those of its end
        (math.inf, 2.1, None),
    ],
)
def test_a_longer_training_at_a_lower_learning_rate_tells_where_the_short_ones_have_hardly_begun(lower, own, text):
    start = [branch_to(2.2, 0.2, 0.1), branch_to(2.4, 0.1)]
    probe = {
        **PROBE, "from_start": start, "lower_start": [branch_to(lower, 0.7, 0.1)], "longer_start": [branch_to(own, 0.4)],
    }  # fmt: skip
    record = written([1.9, 1.7, 1.5], {"probe": probe, "batch_size": 32})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert (finding.name == "learning rate too high") == (text is not None)
    if text is not None:
        assert finding.evidence.endswith(text)
        assert finding.attempt[0] == "optimizer.lr=0.005"


def test_averaged_weights_that_are_a_few_points_worse_are_told():
    for averaged, expected in ((0.455, True), (0.49, False)):
        record = written([1.0, 0.5, 0.4], {"metric": "validation_accuracy"})
        rows = [{**row, "averaged_accuracy": averaged, "averaged_loss": 0.5} for row in record.rows]
        assert ("average not used" in names(replace(record, rows=rows))) == expected


def test_a_higher_learning_rate_that_only_learns_the_frequencies_of_the_classes_is_no_better_one():
    """A network of one unit begins above the loss of guessing, which it reaches sooner at a higher learning rate."""
    used = {"loss": 2.79, "accuracy": 0.09, "validation_loss": 2.78, "validation_accuracy": 0.1}
    for higher, expected in ((2.31, False), (1.9, True)):
        start = [branch_to(3.05, 0.09), branch_to(higher, 0.09, 10.0), branch_to(2.35, 0.1, 100.0)]
        record = written([2.9, 2.85, 2.8], {"probe": {**PROBE, "used": used, "from_start": start}, "batch_size": 32})
        assert ("learning rate too low" in names(record)) == expected


def test_a_longer_training_at_a_lower_learning_rate_decides_where_there_is_one():
    """20 steps at the learning rate of the run teach nothing, and yet no more at a tenth of it are better in the end."""
    start = [branch_to(1.6, 0.5, 0.1), branch_to(2.7, 0.1)]
    longer = {"lower_start": [branch_to(1.55, 0.5, 0.1)], "longer_start": [branch_to(1.7, 0.4)]}
    for more, expected in (({}, True), (longer, False)):
        record = written([1.9, 1.7, 1.5], {"probe": {**PROBE, "from_start": start, **more}, "batch_size": 32})
        assert ("learning rate too high" in names(record)) == expected
