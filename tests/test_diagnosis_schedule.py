"""The diagnosis of the schedule."""

from __future__ import annotations

import pytest
from diagnosing import PROBE, branch_to, names, written

from trainer.analysis.diagnosis import Record, diagnose, needs_probe


def test_a_schedule_that_keeps_the_learning_rate_low_is_named_instead_of_the_learning_rate():
    start = [
        {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.5, "validation_loss": x}
        for f, x in ((1.0, 1.2), (10.0, 0.9))
    ]
    record = written([2.0, 1.6, 1.5], {"probe": {**PROBE, "from_start": start}})
    for factor, evidence, attempt in (
        (1e-2, "the schedule keeps", "schedule=[cosine]"),
        (1.0, "at lr 0.5", "optimizer.lr=0.5"),
    ):
        rows = [{**row, "lr": 0.05 * factor, "mean_lr": 0.05 * factor} for row in record.rows]
        finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "learning rate too low"
        assert evidence in finding.evidence
        assert finding.attempt[0] == attempt


def test_a_schedule_that_falls_too_early_is_named_where_more_steps_at_its_peak_help():
    def found(after: float) -> str:
        more = [{"factor": 1.0, "lr": 0.05, "loss": after, "accuracy": 0.5, "validation_loss": after}]
        record = written([2.0, 1.6, 1.5], {"probe": {**PROBE, "from_used": more}})
        rows = [{**row, "lr": 5e-4, "mean_lr": 5e-4} for row in record.rows]
        return diagnose(rows, record.snapshots, record.dataset_info)[0].name

    assert found(1.3) == "learning rate too low"
    assert found(1.45) == "underfitting"


def test_a_warmup_longer_than_the_run_is_named_with_one_that_fits():
    config = {"epochs": 3, "schedule": {"warmup": {"epochs": 300}, "cosine": {}}}
    start = [{"factor": 1.0, "lr": 0.05, "loss": 0.9, "accuracy": 0.7}]
    info = {
        "lr": 0.05,
        "config": config,
        "probe": {**PROBE, "from_start": start},
        "typed": ["schedule.warmup.epochs=300"],
    }
    record = written([2.1, 1.8, 1.5], info)
    rows = [{**row, "lr": 0.0005, "mean_lr": 0.0003} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "learning rate too low"
    assert (
        "the warmup of 300 epochs is longer than the run of 3: the learning rate is at most 0.0005" in finding.evidence
    )
    assert finding.attempt[0] == "schedule.warmup.epochs=0.3"


def test_a_learning_rate_that_falls_while_the_loss_falls_fast_is_named_where_the_loss_then_stands_still():
    losses, lrs = [2.1, 1.2, 0.84, 0.71, 0.64, 0.63, 0.63, 0.63, 0.63], [0.02] * 3 + [2e-4] * 2 + [2e-6] * 4
    used = {"loss": 0.63, "accuracy": 0.8, "validation_loss": 0.69, "validation_accuracy": 0.78}

    def found(losses: list[float]) -> list[str]:
        record = written(losses, {"probe": {**PROBE, "used": used}, "lr": 0.02})
        rows = [{**row, "lr": lr, "mean_lr": lr} for row, lr in zip(record.rows, lrs, strict=True)]
        return names(Record(rows, record.snapshots, record.dataset_info))

    assert found(losses)[0] == "learning rate too low"
    assert "learning rate too low" not in found([2.1, 0.9, 0.84, *losses[3:]]), "it had stopped falling"


@pytest.mark.parametrize(("epochs", "first"), [(3, "schedule=[cosine]"), (8, "optimizer.lr=0.005")])
def test_a_run_of_few_epochs_that_ends_at_a_high_learning_rate_needs_a_schedule_and_no_lower_peak(epochs, first):
    used = [
        {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.8, "validation_loss": x}
        for f, x in ((0.1, 0.5), (1.0, 0.6))
    ]
    record = written([1.5] * epochs, {"probe": {**PROBE, "from_used": used}})
    found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    assert found["ends at a high learning rate"].attempt[0] == first


def test_the_schedules_of_two_phases_are_not_one_that_falls_early():
    record = written([2.0, 1.4, 0.9, 0.9, 0.9, 0.9], {"probe": PROBE, "batch_size": 32, "lr": 0.05})
    for phases, expected in ((["head"] * 2 + ["all"] * 4, False), (["train"] * 6, True)):
        rates = (0.05, 0.03, 0.001, 0.001, 0.001, 0.0001)
        rows = [
            {**row, "lr": lr, "mean_lr": lr, "phase": phase}
            for row, lr, phase in zip(record.rows, rates, phases, strict=True)
        ]
        found = [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)]
        assert ("learning rate too low" in found) == expected


def test_a_schedule_that_keeps_the_learning_rate_low_is_named_where_only_validation_images_are_not_learned_well():
    """The training images are fitted, so that the network does not struggle."""
    used = {"loss": 0.33, "accuracy": 0.96, "validation_loss": 0.46, "validation_accuracy": 0.87}
    more = [{"factor": 1.0, "lr": 0.05, "loss": 0.2, "accuracy": 0.97, "validation_loss": 0.34}]
    record = written([0.45, 0.45, 0.44], {"probe": {**PROBE, "used": used, "from_used": more}, "batch_size": 32})
    for rate, expected in ((0.001, "learning rate too low"), (0.03, "still improving")):
        rows = [{**row, "lr": 0.001, "mean_lr": rate, "validation_loss": 0.46} for row in record.rows]
        first = {**record.snapshots[0], "lr": 0.05}
        finding = diagnose(rows, [first], record.dataset_info)[0]
        assert finding.name == expected
    assert "20 more" in finding.evidence


def test_a_schedule_that_takes_the_learning_rate_away_at_once_is_why_nothing_is_learned():
    used = {"loss": 2.25, "accuracy": 0.15, "validation_loss": 2.26, "validation_accuracy": 0.15}
    more = [{"factor": 1.0, "lr": 0.05, "loss": 2.2, "accuracy": 0.2, "validation_loss": 2.2}]
    record = written([2.3, 2.26, 2.26], {"probe": {**PROBE, "used": used, "from_used": more}, "batch_size": 32})
    rows = [{**row, "lr": 1e-6, "mean_lr": 1e-3, "validation_accuracy": 0.1} for row in record.rows]
    finding = diagnose(rows, [{**record.snapshots[0], "lr": 0.05}], record.dataset_info)[0]
    assert finding.name == "learning rate too low"
    assert finding.evidence.endswith("20 more steps at the peak lower the training loss from 2.25 to 2.2")
    assert finding.attempt[0] == "schedule=[cosine]"


def test_what_a_rising_learning_rate_has_undone_is_told_although_the_best_weights_are_good():
    used = {"loss": 0.2, "accuracy": 0.95, "validation_loss": 0.2, "validation_accuracy": 0.94}
    record = written([0.68, 0.35, 2.4], {"probe": {**PROBE, "used": used}, "batch_size": 32})
    for rates, expected in (((0.05, 0.09, 0.25), True), ((0.25, 0.09, 0.0), False)):
        rows = [
            {**row, "lr": rate, "mean_lr": rate, "validation_loss": 2.0}
            for row, rate in zip(record.rows, rates, strict=True)
        ]
        found = {f.name: f for f in diagnose(rows, record.snapshots, record.dataset_info)}
        assert ("ends at a high learning rate" in found) == expected
        if expected:
            finding = found["ends at a high learning rate"]
            assert "from 0.35 at epoch 2, at lr 0.09, to 2.4 at the end, at lr 0.25" in finding.evidence
            assert finding.attempt == ("optimizer.lr=0.09", "schedule=[cosine]")


@pytest.mark.parametrize(
    ("accuracy", "last_lr", "decayed", "expected"),
    [
        (0.93, 0.05, (0.11, 0.97), "ends at a high learning rate"),
        (0.93, 0.05, (0.2, 0.97), "good fit"),  # the loss hardly falls
        (0.93, 0.05, (0.11, 0.935), "good fit"),  # no more images are recognized
        (0.93, 0.0, (0.11, 0.97), "good fit"),  # the learning rate has decayed
        (0.98, 0.05, (0.11, 0.995), "good fit"),  # there is hardly anything to gain
    ],
)
def test_a_good_fit_at_a_constant_learning_rate_gets_a_hint_where_a_decay_recognizes_more(
    accuracy, last_lr, decayed, expected
):
    used = {"loss": 0.06, "accuracy": 0.98, "validation_loss": 0.23, "validation_accuracy": accuracy}
    probe = {**PROBE, "used": used, "from_used": [branch_to(*decayed)]}
    record = written([1.5, 0.5, 0.23], {"probe": probe, "batch_size": 32})
    rows = [{**row, "validation_accuracy": accuracy} for row in record.rows]
    rows[-1]["lr"] = last_lr
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == expected
    if expected != "good fit":
        assert finding.kind == "hint"
        assert "recognize 97.0 instead of 93.0 % of the validation images" in finding.evidence
        assert finding.attempt[0] == "schedule=[cosine]"
    info = {key: value for key, value in record.dataset_info.items() if key != "probe"}
    assert needs_probe(rows, info) == (accuracy < 0.97 and last_lr > 0)


def test_a_learning_rate_that_rises_to_the_end_is_no_peak_that_is_too_high_from_the_start():
    """Short trainings begin at the peak, which the run has reached at its end."""
    start = [branch_to(1.4, 0.5, 0.1), branch_to(15.0, 0.1)]
    probe = {**PROBE, "from_start": start, "from_used": [branch_to(0.9, 0.7, 0.1), branch_to(1.1, 0.6)]}
    record = written([1.9, 1.6, 1.5, 1.5], {"probe": probe, "batch_size": 32})
    for rates, expected in (
        ((0.012, 0.025, 0.04, 0.05), "ends at a high learning rate"),
        ((0.05, 0.05, 0.05, 0.05), "learning rate too high"),
    ):
        rows = [{**row, "lr": lr, "mean_lr": lr} for row, lr in zip(record.rows, rates, strict=True)]
        finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == expected
        assert finding.attempt[0] == ("schedule=[cosine]" if expected.startswith("ends") else "optimizer.lr=0.005")
