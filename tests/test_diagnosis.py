"""The diagnosis: each illness is made with the real engine and found; healthy runs are left in peace; intervals against scipy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from trainer.analysis.diagnosis import CHECKS, Record, diagnose, urgent
from trainer.analysis.intervals import difference, interval, proportion_half_width
from trainer.build import build
from trainer.config.compose import compose
from trainer.config.schema import resolve
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.observers import Diagnosis, Histograms
from trainer.observers.context import Context, build_observers

MLP = ("architecture=mlp", "architecture.widths=[64,64]", "architecture.norm=none")
DEEP = ("architecture=mlp", "architecture.norm=none")
ILL: dict[str, tuple[str, ...]] = {
    "not a number": (*MLP, "optimizer=sgd", "optimizer.lr=1e12", "epochs=1"),
    "exploding loss": ("architecture=mlp", "architecture.widths=[]", "optimizer=sgd", "optimizer.lr=500", "epochs=2"),
    "not learning": ("data=arrays", "data.path=shuffled.npz", "epochs=4", *MLP),
    "rate too high": ("optimizer.lr=5", "epochs=5", "schedule=constant", "architecture.widths=[16,16]"),
    "rate too low": ("optimizer.lr=5e-6", "epochs=4", *MLP),
    "still improving": ("optimizer.lr=0.002", "epochs=5", "schedule=constant", *MLP),
    "overfitting": ("data=mnist5k", "data.limit=50", "batch_size=16", "epochs=20", *MLP),
    "underfitting": ("architecture=mlp", "architecture.widths=[2]", "epochs=25"),
    "noisy": ("batch_size=2", "optimizer.lr=0.005", "epochs=8", "schedule=constant", "data.limit=200", *MLP),
    "vanishing gradients": (*DEEP, "architecture.widths=[64,64,64,64,64]", "activation=sigmoid", "initialization=normal",
                            "epochs=1"),
    "exploding gradients": (*DEEP, f"architecture.widths={[64] * 12}", "activation=tanh", "initialization=normal",
                            "initialization.std=1.5", "epochs=1"),
    "dead units": (*MLP, "optimizer=sgd", "optimizer.lr=3", "epochs=1"),
    "saturated units": (*MLP, "activation=tanh", "initialization=normal", "initialization.std=1", "epochs=1"),
    "bad start": (*MLP, "initialization=normal", "initialization.std=1", "epochs=1"),
    "leaking splits": ("data=arrays", "data.path=leaking.npz", "epochs=1", *MLP),
    "unequal classes": ("data=arrays", "data.path=unequal.npz", "epochs=1", *MLP),
    "differences within noise": ("data.validation=60", "epochs=16", "optimizer.lr=0.02", "batch_size=16", "schedule=constant",
                                 *MLP),
}  # fmt: skip
HEALTHY: dict[str, tuple[str, ...]] = {
    "cnn": ("architecture.widths=[16,32]",),
    "mlp": ("architecture=mlp", "architecture.widths=[64]"),
    "deep without a norm": (*DEEP, "architecture.widths=[64,64,64,64]"),
    "adam": ("architecture.widths=[16,32]", "optimizer=adam", "optimizer.lr=0.005"),
    "tanh": ("architecture.widths=[16,32]", "activation=tanh"),
    "mixup and dropout": ("architecture.widths=[16,32]", "regularizer=[mixup,dropout]"),
    "resnet": ("architecture=resnet20", "architecture.depth=8"),
}  # fmt: skip


def arrays(name: str) -> None:
    """Digits with an illness of the data, as ``<name>.npz``."""
    digits = load_digits()
    x, y = (digits.images * (255 / 16)).round().astype(np.uint8), digits.target
    train, labels = x[:1400], y[:1400]
    if name == "shuffled":
        labels = np.random.default_rng(0).permutation(labels)
    if name == "leaking":
        train, labels = np.concatenate([train, x[1500:1540]]), np.concatenate([labels, y[1500:1540]])
    if name == "unequal":
        kept = [i for i in range(1400) if y[i] != 3 or i < 200]
        train, labels = train[kept], labels[kept]
    np.savez(f"{name}.npz", x_train=train, y_train=labels, x_test=x[1400:], y_test=y[1400:])


def record_of(words: tuple[str, ...]) -> Record:
    """A run with the two observers that the diagnosis needs, on 1,797 digits if nothing else is said."""
    words = ("regularizer=[]", "device=cpu", "precision=float32", *words)
    if not any(word.startswith("data=") for word in words):
        words = ("data=digits", *words)
    run = build(resolve(compose(list(words))))
    context = Context(run)
    histograms, diagnosis = build_observers([Histograms(every=10, budget=1.0), Diagnosis(every=10)], context)
    fit(run, [histograms, diagnosis])
    for observer in (histograms, diagnosis):
        observer.on_fit_end(RunView(run), {"status": "finished"})
    return Record(run.history.rows, diagnosis.snapshots(), diagnosis.dataset_info)


def names(record: Record) -> list[str]:
    return [finding.name for finding in diagnose(record.rows, record.snapshots, record.facts)]


@pytest.mark.parametrize("illness", ILL)
def test_an_illness_that_was_made_is_found_with_its_numbers_and_what_to_try(illness):
    for name in ("shuffled", "leaking", "unequal"):
        if f"data.path={name}.npz" in ILL[illness]:
            arrays(name)
    record = record_of(ILL[illness])
    found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.facts)}
    assert illness in found, found
    finding = found[illness]
    assert any(c.isdigit() for c in finding.evidence)
    assert finding.meaning.endswith(".")
    assert finding.attempt
    assert "good balance" not in found or illness in ("leaking splits", "unequal classes")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_told_that_it_is_well_and_nothing_else(name):
    record = record_of(("epochs=10", "data.validation=300", *HEALTHY[name]))
    assert names(record) == ["good balance"]


def test_every_check_but_that_for_health_has_an_illness_that_proves_it():
    made = set(ILL) | {"good balance"}
    assert len(CHECKS) + 1 == len(made)  # vanishing and exploding gradients are one check


def test_what_cannot_wait_is_said_during_the_run(train, tmp_path):
    words = (
        "data=digits",
        *MLP,
        "optimizer=sgd",
        "optimizer.lr=1e12",
        "epochs=3",
        "output=run",
        "observer.diagnosis.every=5",
    )
    code, _, err = train(*words)
    assert code == 0
    line = next(line for line in err.splitlines() if line.startswith("not a number"))
    assert "step 5 " in line
    assert "in its weights" in line
    assert "optimizer.lr=" in line


def test_a_first_layer_that_overflows_is_named(tmp_path):
    run = build(resolve(compose(["data=digits", *MLP, "precision=float32", "epochs=1"])))
    fit(run)
    from trainer.observers.nonfinite import first_nonfinite

    assert first_nonfinite(RunView(run)) is None
    run.model[4].weight.data[0, 0] = math.inf
    assert first_nonfinite(RunView(run)) == "4 (Linear, in its weights)"


def test_nothing_is_found_where_nothing_was_recorded():
    assert diagnose([], [], {}) == []
    assert urgent([{"epoch": 1.0, "train_loss": 0.5}], [], {}) == []


def test_findings_go_to_the_result_the_folder_and_the_terminal(train, tmp_path):
    import json

    code, out, _ = train("data=digits", *MLP, "optimizer.lr=0.002", "schedule=constant", "epochs=5", "output=run")
    assert code == 0
    found = json.loads(Path("run/findings.json").read_text())
    assert [f["name"] for f in found] == ["still improving"]
    assert json.loads(Path("run/result.json").read_text())["findings"] == found
    assert f"still improving: {found[0]['evidence']}" in out
    assert "Try epochs=10" in out
    facts = json.loads(Path("run/facts.json").read_text())
    assert facts["prior_entropy"] == pytest.approx(math.log(10), abs=1e-2)
    assert facts["duplicates"] == {"train/validation": 0, "train/test": 0, "validation/test": 0}


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8), st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_intervals_are_those_of_scipy(a, b):
    found = interval(a)
    if np.std(a) > 1e-6:
        expected = scipy.stats.t.interval(0.95, len(a) - 1, loc=np.mean(a), scale=scipy.stats.sem(a))
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    if np.std(a) > 1e-6 and np.std(b) > 1e-6:
        expected = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        welch = difference(a, b)
        assert (welch.low, welch.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_one_run_tells_no_spread_and_chance_moves_a_share_by_the_binomial():
    assert interval([0.5]).half == math.inf
    assert difference([0.5], [0.6, 0.7]).half == math.inf
    with pytest.raises(ValueError, match="at least one"):
        interval([])
    assert proportion_half_width(0.9, 10_000) == pytest.approx(1.96 * math.sqrt(0.9 * 0.1 / 10_000), rel=0.01)


def test_a_new_head_that_trains_alone_takes_no_steps_that_are_too_large():
    """It begins near zero, where any step is large; the same looks in any other phase are told of."""
    from trainer.analysis.diagnosis.curves import rate_too_high
    from trainer.analysis.diagnosis.record import Record

    rows = [{"epoch": e, "train_loss": 0.69, "train_accuracy": 0.4} for e in (1, 2)]
    facts = {"prior_entropy": 0.69, "class_counts": [500, 500], "train": 1000, "lr": 0.05}
    for phase, found in (("head", False), ("train", True)):
        snapshots = [
            {"step": s, "phase": phase, "weights": [{"update_ratio": 0.4}], "activations": []} for s in (1, 50)
        ]
        assert (rate_too_high(Record(rows, snapshots, facts)) is not None) == found


def test_a_rate_beyond_all_sense_is_answered_with_a_range_test():
    from trainer.analysis.diagnosis.record import Record

    assert Record([], [], {"lr": 1e30}).lower_rate == "optimizer.lr=auto"
    assert Record([], [], {"lr": 0.05}).lower_rate == "optimizer.lr=0.005"
