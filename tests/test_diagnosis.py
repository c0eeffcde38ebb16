"""Diagnosis: each failure mode is induced with the real engine and found; healthy runs give no warning. Intervals."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from trainer.analysis.diagnosis import CHECKS, Record, diagnose, imbalanced_classes, needs_probe, urgent
from trainer.analysis.diagnosis.splits import describe_shift
from trainer.analysis.diagnosis.splits import test_differs as shifted
from trainer.analysis.intervals import difference, interval, proportion_half_width
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.data.images import ImageArray
from trainer.engine.changed_images import accuracies_of_changes
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.observers import Diagnosis, Histograms
from trainer.observers.context import Context, build_observers
from trainer.observers.diagnosis import dataset_info, split_difference
from trainer.observers.duplicates import Fingerprints

MLP = ("architecture=mlp", "architecture.widths=[64,64]", "architecture.norm=none")
DEEP = ("architecture=mlp", "architecture.norm=none")
FAILURE_MODES: dict[str, tuple[str, ...]] = {
    "NaN or Inf loss": (*MLP, "optimizer=sgd", "optimizer.lr=1e12", "epochs=1"),
    "exploding loss": ("architecture=mlp", "architecture.widths=[]", "optimizer=sgd", "optimizer.lr=500", "epochs=2"),
    "not learning": ("data=arrays", "data.path=shuffled.npz", "epochs=4", *MLP),
    "labels unrelated to the images": ("data=arrays", "data.path=shuffled.npz", "epochs=8", *MLP),
    "classes mixed up": ("data=arrays", "data.path=mixed.npz", "data.validation=300", "epochs=6", *MLP),
    "label noise": ("data=arrays", "data.path=noisy.npz", "data.validation=400", "epochs=10", *MLP),
    "identical units": (*MLP, "initialization=zeros", "epochs=6"),
    "too strongly regularized": (*MLP, "optimizer.weight_decay=0.3", "epochs=8"),
    "ends at a high learning rate": (*MLP, "optimizer.lr=0.25", "schedule=clr", "schedule.clr.step_size=5", "epochs=15",
                                     "batch_size=32", "data.validation=300"),
    "lagging average": (*MLP, "averaging=ema", "averaging.decay=0.9999", "epochs=5", "metric=averaged_accuracy"),
    "learning rate too high": ("optimizer.lr=5", "epochs=5", "schedule=constant", "architecture.widths=[16,16]"),
    "clipped too strongly": ("optimizer.clip_norm=0.0001", "epochs=2", *MLP),
    "learning rate too low": ("optimizer.lr=5e-6", "epochs=4", *MLP),
    "still improving": ("epochs=2", "batch_size=128", *MLP),
    "overfitting": ("data.limit=60", "batch_size=32", "epochs=60", *MLP),
    "underfitting": ("architecture=mlp", "architecture.widths=[2]", "epochs=25"),
    "noisy": ("batch_size=2", "optimizer.lr=0.005", "epochs=8", "schedule=constant", "data.limit=200", *MLP),
    "vanishing activations": (*DEEP, f"architecture.widths={[100] * 6}", "activation=tanh", "initialization=normal", "epochs=3"),
    "exploding activations": (*DEEP, f"architecture.widths={[64] * 8}", "initialization=normal", "initialization.std=1",
                              "optimizer.lr=1e-9", "epochs=2"),
    "vanishing gradients": (*DEEP, "architecture.widths=[64,64,64,64,64]", "activation=sigmoid", "initialization=normal",
                            "epochs=1"),
    "exploding gradients": (*DEEP, f"architecture.widths={[64] * 12}", "activation=tanh", "initialization=normal",
                            "initialization.std=1.5", "epochs=1"),
    "dead units": (*MLP, "optimizer=sgd", "optimizer.lr=3", "epochs=1"),
    "saturated units": (*MLP, "activation=tanh", "initialization=normal", "initialization.std=1", "epochs=1"),
    "high initial loss": (*MLP, "initialization=normal", "initialization.std=1", "epochs=1"),
    "train/test leakage": ("data=arrays", "data.path=leaking.npz", "epochs=1", *MLP),
    "contradictory labels": ("data=arrays", "data.path=contradictory.npz", "epochs=1", *MLP),
    "near duplicates": ("data=arrays", "data.path=copied.npz", "epochs=1", *MLP),
    "repeated image": ("data=arrays", "data.path=blank.npz", "epochs=1", *MLP),
    "class imbalance": ("data=arrays", "data.path=unequal.npz", "epochs=1", *MLP),
    "differences within noise": ("data.validation=60", "epochs=16", "optimizer.lr=0.02", "batch_size=16", "schedule=constant",
                                 *MLP),
}  # fmt: skip
CAUSES_OF = {
    "exploding gradients": ("saturated units", "exploding activations"),
    "dead units": ("exploding loss", "learning rate too high"),
    "high initial loss": ("exploding activations", "saturated units"),
    "not learning": ("still improving",),
    "noisy": ("ends at a high learning rate",),
}
# Of which the records are written here.
WRITTEN = (
    "inputs not normalized", "inputs not finite", "frozen layers", "batch norm of tiny batches", "sorted data",
    "other normalization than the pretrained weights", "validation and test differ", "too strongly augmented",
    "validation harder than test", "training and validation differ",
    "batches too small", "average not used", "unequal class weights", "poor initialization",
)  # fmt: skip
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
    """Write digits with a flaw as ``<name>.npz``."""
    digits = load_digits()
    x, y = (digits.images * (255 / 16)).round().astype(np.uint8), digits.target
    train, labels = x[:1400], y[:1400]
    if name == "shuffled":
        labels = np.random.default_rng(0).permutation(labels)
    if name == "noisy":
        rng = np.random.default_rng(0)
        labels = np.where(rng.random(1400) < 0.35, rng.integers(0, 10, 1400), labels)
    if name == "mixed":
        two = np.isin(labels, (4, 7))
        labels = np.where(two, np.random.default_rng(0).choice((4, 7), 1400), labels)
    if name == "blank":
        train = np.where(np.random.default_rng(0).random(1400)[:, None, None] < 0.1, np.uint8(0), train)
    if name == "contradictory":
        train, labels = np.concatenate([train, train[:3]]), np.concatenate([labels, (labels[:3] + 1) % 10])
    if name == "copied":  # not equal, byte for byte
        train, labels = np.concatenate([train, x[1500:1510] // 2 + 3]), np.concatenate([labels, y[1500:1510]])
    if name == "leaking":
        train, labels = np.concatenate([train, x[1500:1540]]), np.concatenate([labels, y[1500:1540]])
    if name == "unequal":
        chosen = [i for i in range(1400) if y[i] != 3 or i < 200]
        train, labels = train[chosen], labels[chosen]
    np.savez(f"{name}.npz", x_train=train, y_train=labels, x_test=x[1400:], y_test=y[1400:])


def record_of(overrides: tuple[str, ...]) -> Record:
    """Train with the two observers that the diagnosis needs, by default on 1,797 digits."""
    overrides = ("regularizer=[]", "device=cpu", "precision=float32", *overrides)
    if not any(word.startswith("data=") for word in overrides):
        overrides = ("data=digits", *overrides)
    run = build(load_config(list(overrides)))
    context = Context(run)
    histograms, diagnosis = build_observers([Histograms(every=10), Diagnosis(every=10)], context)
    fit(run, [histograms, diagnosis])
    for observer in (histograms, diagnosis):
        observer.on_fit_end(RunView(run), {"status": "finished"})
    return Record(run.history.rows, diagnosis.snapshots(), diagnosis.dataset_info)


def names(record: Record) -> list[str]:
    return [finding.name for finding in diagnose(record.rows, record.snapshots, record.dataset_info)]


@pytest.mark.parametrize("failure", FAILURE_MODES)
def test_an_induced_failure_mode_is_found_with_evidence_and_overrides_to_try(failure):
    for name in ("shuffled", "noisy", "mixed", "leaking", "unequal", "contradictory", "copied", "blank"):
        if f"data.path={name}.npz" in FAILURE_MODES[failure]:
            arrays(name)
    record = record_of(FAILURE_MODES[failure])
    findings = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    if failure not in findings:  # a consequence of another one
        cause = next(f for f in findings.values() if failure in f.meaning.partition("Its consequences: ")[2])
        assert cause.name in CAUSES_OF[failure]
        findings[failure] = cause
    finding = findings[failure]
    assert any(c.isdigit() for c in finding.evidence)
    assert finding.meaning.endswith(".")
    assert finding.attempt
    of_data = ("train/test leakage", "contradictory labels", "near duplicates", "class imbalance", "repeated image")
    assert "good fit" not in findings or failure in of_data


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_the_finding_good_fit_and_no_other(name):
    record = record_of(("epochs=10", "data.validation=300", *HEALTHY[name]))
    assert names(record) == ["good fit"]


def test_every_check_except_good_fit_is_tested_on_an_induced_failure_mode():
    made = {*FAILURE_MODES, *WRITTEN, "good fit"}
    # Vanishing and exploding gradients are one check, and so are activations; two checks each find dead units and batch norm of
    # tiny batches, three that a run is still improving.
    assert len(CHECKS) == len(made) + 1


def test_a_bad_initialization_is_named_before_what_follows_from_it():
    """The example of Pedersen's lecture: six layers of tanh, weights of standard deviation 0.01."""
    found = names(record_of(FAILURE_MODES["vanishing activations"]))
    assert found[0] == "vanishing activations"
    assert not {"learning rate too low", "not learning"} & set(found)
    healthy = [word for word in FAILURE_MODES["vanishing activations"] if not word.startswith("initialization")]
    record = record_of((*healthy, "initialization=auto"))
    assert "vanishing activations" not in names(record)
    assert record.learned


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


def test_no_override_is_suggested_that_is_in_use_or_drops_an_augmentation():
    record = record_of((*MLP, "epochs=6", "optimizer.lr=1e-9", "initialization=auto"))
    (finding,) = [
        f
        for f in diagnose(record.rows, record.snapshots, record.dataset_info)
        if "not learning" in f.name or "low" in f.name
    ]
    assert not {"initialization=auto", "activation=relu"} & set(finding.attempt)
    config = {
        "augmentation": {"crop": {}, "flip": {}},
        "architecture": {"_target_": "trainer.architectures.ResNet", "depth": 20},
    }
    info = {**record.dataset_info, "config": config, "probe": None}
    curves = [{**row, "train_loss": 1.0 / (i + 1), "validation_loss": 1.0 + i, "train_accuracy": 0.9, "validation_accuracy": 0.6}
              for i, row in enumerate([record.rows[0]] * 4)]  # fmt: skip
    (overfit,) = [f for f in diagnose(curves, [], info) if f.name == "overfitting"]
    assert overfit.attempt[0] == "augmentation=[crop,flip,rotation]"
    assert "optimizer.weight_decay=0.005" not in overfit.attempt, "the config has no such key"


def test_an_urgent_finding_is_reported_during_the_run(train, tmp_path):
    overrides = (
        "data=digits",
        *MLP,
        "optimizer=sgd",
        "optimizer.lr=1e12",
        "epochs=3",
        "output=run",
        "observer.diagnosis.every=5",
    )
    code, _, err = train(*overrides)
    assert code == 1, "it diverged"
    line = next(line for line in err.splitlines() if line.startswith("NaN or Inf loss"))
    assert "step 5 " in line
    assert "in its weights" in line
    assert "optimizer.lr=" in line


def test_an_urgent_finding_advises_what_explains_it(train):
    """Not a lower learning rate where the first batch already had a loss of thousands."""
    code, out, err = train(
        "data=digits", "architecture=cnn", "architecture.norm=none", "initialization=normal", "initialization.std=1",
        "optimizer.lr=0.1", "epochs=2", "observer=[histograms,diagnosis,console]", "output=run",
    )  # fmt: skip
    assert code == 1, "it diverged"
    line = next(line for line in (out + err).splitlines() if line.startswith("NaN or Inf loss"))
    assert "exploding activations: at step 1 the loss is" in line
    assert ". Try initialization=auto or " in line
    assert "exploding activations" in {finding["name"] for finding in json.loads(Path("run/findings.json").read_text())}


def test_the_first_layer_with_a_nonfinite_value_is_named(tmp_path):
    run = build(load_config(["data=digits", *MLP, "precision=float32", "epochs=1"]))
    fit(run)
    from trainer.observers.nonfinite import first_nonfinite

    assert first_nonfinite(RunView(run)) is None
    run.model[4].weight.data[0, 0] = math.inf
    assert first_nonfinite(RunView(run)) == "4 (Linear, in its weights)"


def test_an_empty_record_gives_no_findings():
    assert diagnose([], [], {}) == []
    assert urgent([{"epoch": 1.0, "train_loss": 0.5}], [], {}) == []


def test_findings_are_in_the_result_the_run_directory_and_the_terminal(train, tmp_path):
    code, out, _ = train("data=digits", *MLP, "epochs=2", "batch_size=128", "output=run")
    assert code == 0
    findings = json.loads(Path("run/findings.json").read_text())
    assert [f["name"] for f in findings] == ["still improving"]
    assert json.loads(Path("run/result.json").read_text())["findings"] == findings
    assert f"still improving: {findings[0]['evidence']}" in out
    assert "Try epochs=20" in out
    facts = json.loads(Path("run/dataset_info.json").read_text())
    assert facts["prior_entropy"] == pytest.approx(math.log(10), abs=1e-2)
    assert facts["duplicates"] == {"train/validation": 0, "train/test": 0, "validation/test": 0}


def welch_half_width(a, b, confidence):
    """Half the width of Welch's interval, by its formulas."""
    variances = [np.var(v, ddof=1) / len(v) for v in (a, b)]
    total = sum(variances)
    degrees = total**2 / sum(x**2 / (len(v) - 1) for x, v in zip(variances, (a, b), strict=True))
    return scipy.special.stdtrit(degrees, (1 + confidence) / 2) * math.sqrt(total)


SAMPLES = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


@given(SAMPLES, SAMPLES, st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_follow_the_formulas_of_student_and_welch(a, b, confidence):
    if np.std(a) > 1e-6:
        t = scipy.special.stdtrit(len(a) - 1, (1 + confidence) / 2)
        assert interval(a, confidence).mean == pytest.approx(np.mean(a), abs=1e-9)
        assert interval(a, confidence).half == pytest.approx(t * np.std(a, ddof=1) / math.sqrt(len(a)), rel=1e-6)
    if np.std(a) > 1e-6 and np.std(b) > 1e-6:
        assert difference(a, b, confidence).mean == pytest.approx(np.mean(b) - np.mean(a), abs=1e-9)
        assert difference(a, b, confidence).half == pytest.approx(welch_half_width(a, b, confidence), rel=1e-6)


def test_the_interval_of_groups_without_variance_is_a_point():
    assert difference([0.5, 0.5], [0.6, 0.6, 0.6]).half == 0.0
    assert difference([0.5, 0.5], [0.5, 0.7]).half == pytest.approx(12.706 * 0.1, rel=1e-3)  # t of one degree


def test_a_single_run_has_an_infinite_interval_and_proportions_have_binomial_intervals():
    assert interval([0.5]).half == math.inf
    assert difference([0.5], [0.6, 0.7]).half == math.inf
    with pytest.raises(ValueError, match="at least one"):
        interval([])
    assert proportion_half_width(0.9, 10_000) == pytest.approx(1.96 * math.sqrt(0.9 * 0.1 / 10_000), rel=0.01)


@pytest.mark.parametrize(("proportion", "n"), [(0.1, 1000), (0.5, 60), (0.75, 360), (0.9, 100)])
def test_the_interval_of_a_proportion_is_about_that_of_agresti_and_coull(proportion, n):
    """Theirs has the same center and is slightly wider; they differ only where the proportion is near 0 or 1."""
    p = (proportion * n + 1.96**2 / 2) / (n + 1.96**2)
    agresti_coull = 1.96 * math.sqrt(p * (1 - p) / (n + 1.96**2))
    assert 0.95 * agresti_coull < proportion_half_width(proportion, n) <= agresti_coull * 1.0001


def test_the_diagnosis_does_not_import_scipy_statistics_unless_chance_is_in_question():
    """They take half a second to import, which most runs can do without."""
    rows = "[{'epoch': float(e), 'train_loss': 1 / e, 'validation_loss': 1 / e, 'validation_accuracy': 0.9} for e in (1, 2, 3)]"
    code = (
        "import sys; from trainer.analysis.diagnosis import diagnose; "
        f"diagnose({rows}, [], {{'prior_entropy': 2.3, 'class_counts': [5, 5], 'validation': 10}}); "
        "print([m for m in ('torch', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_class_imbalance_has_one_threshold():
    assert imbalanced_classes([1, 5]) is None
    assert imbalanced_classes([10, 51, 30]) == (0, 1)


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


def written(losses: list[float], info: dict, **snapshot) -> Record:
    """The record of a run of 300 steps: validation losses near the training losses, one snapshot of the first step."""
    rows = [
        {"epoch": i, "step": 300 * i // len(losses), "lr": 0.05, "train_loss": x, "validation_loss": x,
         "validation_accuracy": 0.5, "train_accuracy": 0.5}
        for i, x in enumerate(losses, 1)
    ]  # fmt: skip
    first = {
        "step": 1,
        "grad_norm": None,
        "weights": [],
        "activations": [],
        "batch_loss": 2.3,
        "batch_loss_std": 0.1,
        "batches": 1,
        "finite": True,
    }
    facts = {
        "prior_entropy": math.log(10),
        "class_counts": [50] * 10,
        "train": 500,
        "validation": 200,
        "batch_size": 2,
        "lr": 0.05,
    }
    return Record(rows, [{**first, **snapshot}], {**facts, **info})


PROBE = {
    "steps": 20,
    "used": {"loss": 1.5, "accuracy": 0.5, "validation_loss": 1.6, "validation_accuracy": 0.5},
    "ranks": [],
}


def test_inputs_that_are_not_normalized_are_named_where_the_network_struggles():
    assert names(written([2.3, 2.2, 2.1], {}, input_mean=77.0, input_std=95.0))[0] == "inputs not normalized"
    assert "inputs not normalized" not in names(written([2.3, 2.2, 2.1], {}, input_mean=0.3, input_std=0.3))
    assert names(written([2.3, 0.1, 0.1], {}, input_mean=77.0, input_std=95.0)) == ["good fit"]


def test_batches_of_few_classes_are_named_unless_the_batches_are_as_small():
    def found(classes: list[int], size: int, losses: tuple[float, ...] = (2.3, 2.2, 2.1)) -> list[str]:
        record = written(list(losses), {"batch_size": size})
        steps = [{**record.snapshots[0], "step": i, "batch_classes": n} for i, n in enumerate(classes, 1)]
        return names(Record(record.rows, steps, record.dataset_info))

    assert found([1, 2, 1, 1], 32)[0] == "sorted data"
    assert "sorted data" not in found([9, 10, 9, 10], 32)
    assert "sorted data" not in found([1, 1, 1, 1], 1)
    assert "sorted data" not in found([1, 2, 1, 1], 32, (2.3, 0.1, 0.1))


def test_the_engine_counts_the_classes_of_a_batch_and_finds_data_that_is_not_shuffled():
    config = load_config(["data=digits", "data.limit=300", *MLP, "epochs=8", "batch_size=32", "device=cpu"])
    run = build(config)
    order = np.argsort(run.train.dataset.labels, kind="stable")
    run = build(config, splits=replace(load_splits(config), train=run.train.dataset.subset(order)))
    run.train.shuffle = False
    observers = build_observers([Histograms(every=8), Diagnosis(probe_steps=0)], Context(run))
    fit(run, observers)
    snapshots = observers[1].snapshots()
    assert {s["batch_classes"] for s in snapshots} <= {1, 2, 3}


def test_another_normalization_than_that_of_the_pretrained_weights_is_named(train):
    assert train("data=digits", "data.limit=100", *MLP, "epochs=1", "output=weights")[0] == 0
    words = [
        "data=digits",
        "data.limit=100",
        *MLP,
        "epochs=1",
        "initialization=pretrained",
        "initialization.path=weights",
    ]
    for normalize, other in (("none", True), ("pretrained", False)):
        run = build(load_config([*words, f"data.normalize={normalize}"]))
        assert dataset_info(RunView(run))["other_normalization"] is other
    name = "other normalization than the pretrained weights"
    recipe = {"config": {"recipe": {"_target_": "trainer.engine.recipes.Transfer"}}, "other_normalization": True}
    assert names(written([2.3, 2.2, 2.1], recipe, frozen=3))[0] == name
    assert name not in names(written([2.3, 2.2, 2.1], recipe)), "all layers adapt"
    assert name not in names(written([2.3, 0.1, 0.1], recipe, frozen=3))


def test_layers_that_nothing_in_the_config_freezes_are_named():
    weights = [{"tag": "head", "rms": 1.0, "grad_rms": 1.0, "update_ratio": 1e-3}]
    found = diagnose(*vars(written([2.3, 2.2, 2.1], {}, frozen=2, weights=weights)).values())
    assert found[0].name == "frozen layers"
    assert "2 of 3 layers" in found[0].evidence
    recipe = {"config": {"recipe": {"_target_": "trainer.engine.recipes.Transfer"}}}
    assert "frozen layers" not in names(written([2.3, 2.2, 2.1], recipe, frozen=2))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "classes mixed up"),
        ({"errors": 12, "confident_errors": 6}, "classes mixed up"),  # a part of the labels
        ({"confident_errors": 2}, "good fit"),  # similar classes: the confident predictions are right
        ({"errors": 6, "confident_errors": 3}, "good fit"),  # of chance
    ],
)
def test_two_classes_are_called_mixed_up_only_if_confident_predictions_are_as_often_wrong(change, expected):
    mixed = {"classes": [3, 5], "images": 40, "errors": 20, "confident_errors": 9, **change}
    other = {"classes": [1, 8], "images": 40, "errors": 2, "confident_errors": 0}
    confusions = {"images": 200, "correct": 150, "pairs": [mixed, other]}
    assert names(written([2.0, 0.1, 0.1], {"confusions": confusions})) == [expected]
    alike = {**confusions, "pairs": [{**mixed, "errors": 14}, {**other, "errors": 10, "confident_errors": 5}]}
    assert names(written([2.0, 0.1, 0.1], {"confusions": alike})) == ["good fit"], "it is not these two classes"
    rare = {"confusions": confusions, "class_counts": [50] * 9 + [9]}
    assert "classes mixed up" not in names(written([2.0, 0.1, 0.1], rare)), "rare classes are taken for frequent ones"


def test_all_classes_that_are_mixed_up_with_each_other_are_named_and_similar_ones_are_a_hint():
    def found(*pairs: tuple[list[int], int, int], correct: int) -> tuple[str, str, str]:
        listed = [{"classes": c, "images": 40, "errors": n, "confident_errors": m} for c, n, m in pairs]
        record = written([2.0, 0.1, 0.1], {"confusions": {"images": 300, "correct": correct, "pairs": listed}})
        finding = next(f for f in diagnose(*vars(record).values()) if f.name == "classes mixed up")
        return finding.kind, finding.meaning, finding.attempt[0]

    kind, meaning, attempt = found(([3, 5], 20, 9), ([5, 8], 19, 10), ([3, 8], 18, 8), ([0, 1], 2, 0), correct=240)
    assert kind == "warning"
    assert "labels of 3, 5 and 8 are mixed up" in meaning
    assert attempt == "compare images and labels of 3, 5 and 8"
    kind, meaning, _ = found(([3, 5], 12, 0), ([0, 1], 1, 0), correct=286)
    assert kind == "hint"
    assert meaning.startswith("All other classes are told apart")


def test_an_image_that_is_there_many_times_explains_its_copies_and_contradictory_labels():
    repeated = {"images": 40, "labels": 10, "duplicates": {"train/validation": 20}}
    found = {"repeated": repeated, "contradictory": 40, "duplicates": {"train/validation": 20}}
    assert set(names(written([2.0, 0.1, 0.1], found))) == {"good fit", "repeated image"}
    more = {**found, "contradictory": 43, "duplicates": {"train/validation": 25}}
    evidence = {f.name: f.evidence for f in diagnose(*vars(written([2.0, 0.1, 0.1], more)).values())}
    assert evidence["contradictory labels"].startswith("3 training images")
    assert evidence["train/test leakage"].startswith("5 images of validation")
    few = {**found, "repeated": {**repeated, "images": 4}}
    assert "repeated image" not in names(written([2.0, 0.1, 0.1], few))


def test_rare_classes_explain_that_fewer_test_images_are_recognized():
    fractions = {"validation": [0.1] * 9 + [0.0], "test": [0.09] * 9 + [0.19]}
    pixels = {name: {"mean": 0.0, "std": 1.0, "roughness": 0.1, "class_fractions": f} for name, f in fractions.items()}
    info = {"accuracies": {"validation": 0.99, "test": 0.82}, "test": 400, "pixels": pixels}
    for counts, expected in (([50] * 10, "warning"), ([50] * 9 + [3], "hint")):
        findings = diagnose(*vars(written([2.0, 0.1, 0.1], {**info, "class_counts": counts})).values())
        (differing,) = [f for f in findings if f.name == "validation and test differ"]
        assert differing.kind == expected
        assert "not as frequent" in differing.meaning
    assert findings[0].name == "class imbalance"


def test_targets_without_a_most_probable_class_do_not_count_as_sorted_data():
    words = ["data=digits", "data.limit=200", *MLP, "epochs=1", "device=cpu", "regularizer=[label_smoothing]"]
    for eps, uniform in ((0.1, False), (0.9, True)):
        run = build(load_config([*words, f"regularizer.label_smoothing.eps={eps}"]))
        observers = build_observers([Histograms(every=2), Diagnosis(probe_steps=0)], Context(run))
        fit(run, observers)
        assert {s["batch_classes"] is None for s in observers[1].snapshots()} == {uniform}


def test_near_duplicates_are_named_where_they_are_enough_to_move_a_score():
    def found(**pairs: int) -> list[str]:
        near = {"two splits": 0, "two labels": 0} | {where.replace("_", " "): n for where, n in pairs.items()}
        info = {"near_duplicates": near, "compared": {"near": 700}}  # 200 validation images
        return [
            f.evidence for f in diagnose(*vars(written([2.0, 0.1, 0.1], info)).values()) if f.name == "near duplicates"
        ]

    assert found(two_splits=2, two_labels=7) == []
    assert found(two_splits=3, two_labels=7)[0].startswith("3 pairs in two splits,")
    assert found(two_splits=2, two_labels=8)[0].startswith("8 pairs with two labels,")


def test_a_few_contradictory_labels_do_not_explain_many_wrong_ones():
    noise = {"ranks": [90, 10, 10, 10, 10, 10, 10, 10, 10, 10]}
    for count, expected in ((3, True), (300, False)):
        record = written([2.0, 1.6, 1.5], {"contradictory": count, "probe": {**PROBE, **noise}})
        assert ("label noise" in names(record)) == expected
        assert "contradictory labels" in names(record)


def test_running_statistics_that_differ_from_those_of_tiny_batches_are_named():
    info = {"probe": {**PROBE, "loss_of_batch_statistics": 0.5}}
    assert "batch norm of tiny batches" in names(written([2.0, 1.6, 1.5], info))
    assert "batch norm of tiny batches" not in names(written([2.0, 1.6, 1.5], {**info, "batch_size": 64}))


def test_the_same_symptom_has_the_cause_that_the_short_trainings_show():
    """A training loss of 1.5 after 300 steps."""

    def diagnosed(**branches):
        listed = {
            kind: [
                {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.5, "validation_loss": x}
                for f, x in losses.items()
            ]
            for kind, losses in branches.items()
        }
        return names(written([2.0, 1.6, 1.5], {"probe": {**PROBE, **listed}}))[0]

    assert diagnosed(from_start={0.1: 2.2, 1.0: 2.0, 10.0: 0.9}) == "learning rate too low"
    assert diagnosed(from_start={0.1: 0.9, 1.0: 2.0, 10.0: 2.3}) == "learning rate too high"
    assert diagnosed(from_start={0.1: 2.2, 1.0: 2.0, 10.0: 2.3}) == "underfitting"
    assert diagnosed(from_start={1.0: 2.0}, unregularized_start={1.0: 0.9}) == "too strongly regularized"
    assert diagnosed(from_used={0.1: 1.3, 1.0: 1.0}) == "ends at a high learning rate"


def test_test_images_that_are_not_recognized_although_those_of_validation_are_are_named():
    """The other scores are those of a good fit, which nobody should read into them."""

    def found(test: float, images: int = 400, **info) -> list[str]:
        scores = {"validation": 0.99, "test": test}
        return names(written([2.0, 0.1, 0.1], {"accuracies": scores, "test": images, **info}))

    assert found(0.2) == ["validation and test differ"]
    assert found(0.97) == ["good fit"]
    assert found(0.9, images=20) == ["good fit"], "20 images cannot tell"


def test_validation_images_that_are_recognized_less_often_than_those_of_the_test_are_named():
    def found(test: float, **info) -> list[str]:
        scores = {"validation": 0.7, "test": test}
        return names(written([2.0, 0.1, 0.1], {"accuracies": scores, "test": 400, **info}))

    assert found(0.95) == ["validation harder than test"]
    assert found(0.74) == ["good fit"]
    repeated = {"images": 40, "labels": 10, "duplicates": {}}
    assert "validation harder than test" not in found(0.95, repeated=repeated), "that is why"


def test_labels_that_are_wrong_in_one_way_are_label_noise_because_the_errors_are_confident():
    """Of every class, some have the label of the next one: the ranks of their labels are those of similar classes."""

    def found(confident: int, **pair: int) -> list[str]:
        pairs = [
            {"classes": [i, i + 1], "images": 40, "errors": 6, "confident_errors": confident, **pair} for i in range(9)
        ]
        confusions = {"images": 200, "correct": 150, "pairs": pairs}
        return names(written([2.0, 0.1, 0.1], {"confusions": confusions}))

    assert found(3) == ["label noise"]
    assert found(1) == ["good fit"]
    assert found(1, errors=2) == ["good fit"], "they are too few"


@pytest.mark.parametrize(
    ("steps", "batch_size", "first"), [(9, 64, "batch_size=32"), (9, 32, "epochs=30"), (60, 64, "epochs=30")]
)
def test_a_short_run_that_has_not_learned_is_called_short(steps, batch_size, first):
    """A learning rate or the labels are not to blame for a loss after so few steps."""
    record = written([2.31, 2.3, 2.3], {"batch_size": batch_size})
    rows = [{**row, "validation_accuracy": 0.1, "step": steps * row["step"] // 300} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert finding.attempt[0] == first
    assert "Its consequences: not learning" in finding.meaning


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "labels of the test images may be numbered"),
        ({"mean": 1.0}, "look different"),
        ({"std": 0.4}, "look different"),
        ({"class_fractions": [0.9, 0.1]}, "not as frequent"),
        ({"roughness": 0.5}, "noisier or sharper"),
        ({"roughness": 0.1}, "smoother"),
        ({"channel_means": [-0.5, 0.1, 0.6]}, "another camera, light or white balance"),
        ({"color": 0.01}, "The test images are gray"),
    ],
)
def test_what_differs_between_validation_and_test_images_is_said(change, expected):
    own = {"mean": 0.0, "std": 1.0, "roughness": 0.2, "channel_means": [0.6, 0.1, -0.5], "color": 0.5,
           "class_fractions": [0.5, 0.5]}  # fmt: skip
    assert expected in describe_shift({"validation": own, "test": {**own, **change}})[1]


def test_the_engine_compares_the_splits_only_where_their_accuracies_differ():
    run = build(load_config(["data=digits", "data.limit=100", *MLP, "epochs=1", "device=cpu"]))
    fit(run)
    alike, apart = (
        split_difference(
            RunView(run), {"validation": {"accuracy": 0.9}, "test": {"accuracy": test}}, lambda split: {"mirrored": 0.2}
        )
        for test in (0.9, 0.1)
    )
    assert "pixels" not in alike
    assert "changes" not in alike
    assert apart["changes"] == {"mirrored": 0.2}
    assert apart["pixels"]["test"]["mean"] == pytest.approx(0, abs=0.2)
    assert apart["pixels"]["test"]["class_fractions"] == pytest.approx([0.1] * 10, abs=0.02)
    assert split_difference(RunView(run), {"validation": None, "test": {"accuracy": 0.9}}, lambda split: {}) == {}


CHANGED_TEST = {
    "standardized": (lambda x, y: (x // 8, y), "another brightness, contrast or range of values"),
    "inverted": (lambda x, y: (255 - x, y), "They are negatives"),
    "mirrored": (lambda x, y: (x[:, :, ::-1], y), "They are mirrored."),
    "rotated by 90 degrees to the right": (
        lambda x, y: (np.rot90(x, 1, (1, 2)), y),
        "rotated by 90 degrees to the left.",
    ),
    "channels reversed": (lambda x, y: (x[..., ::-1], y), "BGR instead of RGB"),
    "renumbered": (lambda x, y: (x, (y + 1) % 10), "The classes of the test labels are in another order."),
}


@pytest.mark.parametrize("name", CHANGED_TEST)
def test_the_change_of_the_test_images_that_lets_them_be_recognized_is_named(name, tmp_path):
    change, meaning = CHANGED_TEST[name]
    digits = load_digits()
    x = (digits.images[..., None] * np.array([15, 7, 1])).astype(np.uint8)
    images, labels = change(x[1200:], digits.target[1200:])
    np.savez(tmp_path / "changed.npz", x_train=x[:1200], y_train=digits.target[:1200], x_test=images, y_test=labels)
    words = [
        "data=arrays",
        f"data.path={tmp_path}/changed.npz",
        "data.validation=200",
        *MLP,
        "epochs=6",
        "augmentation=none",
    ]
    run = build(load_config([*words, "device=cpu"]))
    fit(run)
    before = [p.clone() for p in run.model.parameters()]
    changes = accuracies_of_changes(run, "test")
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    info = {"accuracies": {"validation": 0.95, "test": 0.1}, "validation": 200, "test": 597, "changes": changes}
    finding = shifted(Record([], [], info))
    assert finding is not None
    assert meaning in finding.meaning
    assert f"{100 * changes[name]:.1f} % of the test images are recognized" in finding.evidence


def test_validation_images_of_another_kind_are_no_overfitting():
    """Those of a folder of their own may be negatives, or their classes in another order."""
    config = load_config(["data=digits", *MLP, "epochs=12", "augmentation=none", "regularizer=[]", "device=cpu"])
    splits = load_splits(config)
    assert isinstance(splits.validation, ImageArray)
    images, labels = splits.validation.images, splits.validation.labels
    for changed, meaning in (
        (ImageArray(255 - images, labels), "They are negatives"),
        (ImageArray(images, (labels + 1) % 10), "The classes of the validation labels are in another order."),
    ):
        run = build(config, splits=replace(splits, validation=changed))
        (diagnosis,) = build_observers([Diagnosis()], Context(run))
        fit(run, [diagnosis])
        findings = diagnosis.on_fit_end(RunView(run), {"status": "finished"})["findings"]
        assert findings[0]["name"] == "training and validation differ"
        assert meaning in findings[0]["meaning"]


def test_augmentation_that_hides_the_class_is_removed_before_anything_else_is_tried():
    free = {"factor": 1.0, "lr": 0.05, "loss": 0.9, "accuracy": 0.7, "validation_loss": 0.9}
    info = {"config": {"augmentation": {"rotation": {}}}, "probe": {**PROBE, "unaugmented_start": [free]}}
    record = written([2.0, 1.6, 1.5], info)
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert finding.name == "too strongly augmented"
    assert "with rotation, the run has 1.6" in finding.evidence
    assert finding.attempt == ("augmentation=[]",)
    info["probe"]["unaugmented_start"] = [{**free, "validation_loss": 1.55}]
    assert "too strongly augmented" not in names(written([2.0, 1.6, 1.5], info))


def test_a_probe_trains_without_augmentation_only_where_there_is_some():
    from trainer.engine.probes import initial_weights, probe

    for words, expected in (((), False), (("augmentation=[rotation]", "augmentation.rotation.degrees=180"), True)):
        run = build(load_config(["data=digits", "data.limit=200", *MLP, "epochs=1", "device=cpu", *words]))
        initial, train = initial_weights(run), run.train
        fit(run)
        measured = probe(run, initial, 20)
        assert ("unaugmented_start" in measured) == expected
        assert run.train is train


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


@pytest.mark.parametrize(
    ("recipe", "attempt"),
    [({"freeze": ["1"]}, "recipe.freeze=[]"), ({"_target_": "trainer.engine.recipes.Transfer"}, "recipe=scratch")],
)
def test_layers_that_the_config_freezes_are_named_where_a_short_training_of_all_layers_learns_more(recipe, attempt):
    used = {"loss": 1.1, "accuracy": 0.6, "validation_loss": 1.1, "validation_accuracy": 0.6}

    def found(unfrozen: float):
        probe = {
            **PROBE,
            "used": used,
            "unfrozen_start": [{"factor": 1.0, "lr": 0.1, "loss": unfrozen, "accuracy": 0.9}],
        }
        record = written([2.3, 1.5, 1.1], {"config": {"recipe": recipe}, "probe": probe}, frozen=2)
        return diagnose(record.rows, record.snapshots, record.dataset_info)[0]

    assert found(0.4).name == "frozen layers"
    assert found(0.4).attempt == (attempt,)
    assert found(1.2).name != "frozen layers"


def test_a_run_of_few_steps_whose_loss_is_not_low_is_called_short():
    used = {"loss": 0.3, "accuracy": 0.91, "validation_loss": 0.31, "validation_accuracy": 0.91}
    record = written([1.0, 0.4], {"probe": {**PROBE, "used": used}})
    for steps, expected in ((42, ["still improving"]), (300, [])):
        rows = [{**row, "step": steps * row["step"] // 300} for row in record.rows]
        assert names(Record(rows, record.snapshots, record.dataset_info)) == expected


def test_a_run_that_early_stopping_ended_too_early_is_not_told_to_train_longer():
    used = {"loss": 0.3, "accuracy": 0.91, "validation_loss": 0.31, "validation_accuracy": 0.91}
    config = {"epochs": 15, "regularizer": {"early_stopping": {"patience": 1}, "dropout": {"p": 0.2}}}
    record = written([1.0, 0.4], {"probe": {**PROBE, "used": used}, "config": config, "status": "finished"})
    rows = [{**row, "step": 42 * row["step"] // 300} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert "early stopping ended it after 2 of 15 epochs" in finding.evidence
    assert finding.attempt == ("regularizer.early_stopping.patience=5", "regularizer=[dropout]")
    assert "still improving" not in finding.meaning, "a finding is no consequence of itself"
    over = diagnose(rows, record.snapshots, {**record.dataset_info, "config": {**config, "epochs": 2}})[0]
    assert "early stopping" not in over.evidence


def test_early_stopping_that_ends_a_run_while_the_validation_loss_falls_fast_is_named():
    """The accuracy on 40 images had only not become better for an epoch."""
    config = {"epochs": 30, "regularizer": {"early_stopping": {"patience": 1}}}
    record = written([1.1, 0.68, 0.45], {"config": config, "status": "finished"})
    rows = [{**row, "validation_loss": x} for row, x in zip(record.rows, (0.8, 0.52, 0.28), strict=True)]
    (finding,) = diagnose(rows, record.snapshots, record.dataset_info)
    assert finding.name == "still improving"
    assert "in the last epoch the validation loss fell from 0.520 to 0.280; early stopping ended it" in finding.evidence
    assert finding.attempt[0] == "regularizer.early_stopping.patience=5"
    flat = [{**row, "validation_loss": x} for row, x in zip(record.rows, (0.8, 0.29, 0.28), strict=True)]
    assert "still improving" not in [f.name for f in diagnose(flat, record.snapshots, record.dataset_info)]


def test_a_run_of_a_part_of_an_epoch_was_not_ended_by_early_stopping():
    """Of 21 steps of an epoch, a quarter are 5: the run ends at .238 of the .25 epochs that were planned."""
    config = {"epochs": 0.25, "regularizer": {"early_stopping": {"patience": 5}}}
    record = written([2.2], {"config": config, "status": "finished", "batch_size": 64})
    rows = [{**record.rows[0], "epoch": 5 / 21, "step": 5, "validation_accuracy": 0.3}]
    (finding,) = diagnose(rows, record.snapshots, record.dataset_info)
    assert finding.evidence == "the run had 5 steps in all"
    assert finding.attempt == ("epochs=2.4",)


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


def test_a_probe_of_a_run_with_tiny_batches_trains_with_larger_ones():
    from trainer.engine.probes import initial_weights, probe

    for size, expected in ((2, True), (16, False)):
        run = build(
            load_config(["data=digits", "data.limit=200", *MLP, "epochs=1", f"batch_size={size}", "device=cpu"])
        )
        initial, train = initial_weights(run), run.train
        fit(run)
        assert ("larger_batches" in probe(run, initial, 20)) == expected
        assert run.train is train


def test_dead_units_at_the_start_are_the_cause_and_not_a_low_learning_rate():
    dead = {"tag": "0", "std": 0.0, "dead": 1.0, "saturated": None}
    weights = [{"tag": "0", "rms": 1.0, "grad_rms": 0.0, "update_ratio": 9e-5}]
    record = written([2.303, 2.303, 2.303], {"batch_size": 64, "probe": PROBE}, activations=[dead], weights=weights)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "dead units"
    assert "from the beginning" in finding.meaning
    assert finding.attempt[0] == "initialization=auto"
    one = Record(record.rows, record.snapshots, {**record.dataset_info, "batch_size": 1})
    assert "dead units" not in names(one), "half of the units are not above zero for a single image"


def test_an_average_that_is_not_used_is_told_without_being_a_warning():
    record = written([0.5, 0.2, 0.1], {"metric": "validation_accuracy"})
    rows = [{**row, "validation_accuracy": 0.95, "averaged_accuracy": 0.6} for row in record.rows]
    findings = {f.name: f for f in diagnose(rows, record.snapshots, record.dataset_info)}
    assert set(findings) == {"good fit", "average not used"}
    assert (
        "recognize 60.0 % of the validation images, those of the model 95.0 %" in findings["average not used"].evidence
    )
    assert findings["average not used"].kind == "hint"


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


def test_a_learning_rate_is_lowered_by_as_much_as_the_first_step_was_too_large():
    for ratio, attempt in ((0.2, "optimizer.lr=0.3"), (0.34, "optimizer.lr=0.03"), (3.6, "optimizer.lr=0.003")):
        weights = [{"tag": "0", "rms": 1.0, "grad_rms": 1.0, "update_ratio": ratio}]
        record = written([2.3, math.nan], {"lr": 3.0}, weights=weights)
        rows = [{**row, "lr": 3.0} for row in record.rows]
        finding = diagnose(rows, [{**s, "lr": 3.0} for s in record.snapshots], record.dataset_info)[0]
        assert (finding.name, finding.attempt[0]) == ("NaN or Inf loss", attempt)


def test_a_loss_that_strong_weight_decay_keeps_high_is_no_good_fit():
    config = {"optimizer": {"_target_": "trainer.optimizers.SGD", "weight_decay": 0.1}}
    for decay, expected in ((0.1, "too strongly regularized"), (0.001, "good fit")):
        config["optimizer"]["weight_decay"] = decay
        used = {"loss": 0.59, "accuracy": 0.94, "validation_loss": 0.56, "validation_accuracy": 0.94}
        record = written([0.62, 0.6, 0.59], {"lr": 0.2, "config": config, "probe": {**PROBE, "used": used}})
        rows = [{**row, "lr": 0.2, "validation_loss": 0.56, "validation_accuracy": 0.94} for row in record.rows]
        assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == expected


def test_a_class_that_is_rarer_by_as_much_as_one_it_is_confused_with_is_more_frequent_has_its_label():
    """Three of four images of class 3 have the label 8; the validation images, too."""
    counts = [360, 350, 370, 90, 360, 365, 355, 360, 630, 360]
    pairs = [{"classes": [3, 8], "images": 80, "errors": 7, "confident_errors": 2}]

    def record(counts: list[int], test: list[float]) -> Record:
        info = {"class_counts": counts, "test_fractions": test,
                "confusions": {"images": 400, "correct": 380, "pairs": pairs}}  # fmt: skip
        return written([0.5, 0.3, 0.2], info)

    for test in ([0.1] * 10, [n / sum(counts) for n in counts], []):  # whose labels are right, wrong too, unknown
        own = record(counts, test)
        findings = diagnose(own.rows, own.snapshots, own.dataset_info)
        assert [f.name for f in findings] == ["classes mixed up"]
        assert "many images of 3 have the label 8" in findings[0].meaning
    counts[8] = 360
    assert "classes mixed up" not in names(record(counts, [0.1] * 10)), "class 3 is only rare"


def test_classes_that_are_rarer_in_training_than_in_the_test_images_are_named():
    fractions = {"validation": [0.1, 0.6, 0.3], "test": [0.4, 0.3, 0.3]}
    pixels = {
        name: {"mean": 0.0, "std": 1.0, "roughness": 0.2, "class_fractions": own} for name, own in fractions.items()
    }
    info = {
        "accuracies": {"validation": 0.9, "test": 0.6},
        "validation": 400,
        "test": 1000,
        "pixels": pixels,
        "classes": list("abc"),
    }
    finding = shifted(Record([], [], info))
    assert "a rarer and b more frequent in training" in finding.evidence
    assert "may be labelled as others" in finding.meaning


def test_what_a_command_must_leave_out_for_an_override_to_be_added_is_said():
    config = {"regularizer": {"dropout": {"p": 0.95}}}
    info = {
        "config": config,
        "probe": PROBE,
        "typed": ["regularizer=[dropout]", "regularizer.dropout.p=0.95", "epochs=3"],
    }
    record = written([2.3, 2.2, 2.1], info)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.attempt[0] == "regularizer=[]"
    assert finding.meaning.endswith("To try regularizer=[], remove regularizer.dropout.p=0.95 from the command.")


def test_underfitting_of_an_augmented_run_names_the_augmentation():
    used = {"loss": 1.9, "accuracy": 0.3, "validation_loss": 1.9, "validation_accuracy": 0.3}
    for augmentation, named in (({"random_crop": {}}, True), ({}, False)):
        record = written([2.2, 2.0, 1.9], {"probe": {**PROBE, "used": used}, "config": {"augmentation": augmentation}})
        finding = next(
            f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if f.name == "underfitting"
        )
        assert ("augmented too strongly" in finding.meaning) == named
        assert ("augmentation=[]" in finding.attempt) == named


def test_underfitting_names_only_the_causes_that_short_trainings_do_not_exclude():
    used = {"loss": 1.7, "accuracy": 0.4, "validation_loss": 1.7, "validation_accuracy": 0.4}
    alike = {
        kind: [{"factor": 1.0, "lr": 0.05, "loss": loss, "accuracy": 0.4, "validation_loss": 1.7}]
        for kind, loss in {
            "from_used": 1.69,
            "unregularized": 1.69,
            "from_start": 2.2,
            "unregularized_start": 2.2,
        }.items()
    }
    freer = [{**alike["unregularized"][0], "loss": 1.6}]
    longer = [{**alike["from_used"][0], "loss": 1.646}]
    for branches, expected in (
        ({}, "the network is too small."),
        ({"unregularized": freer}, "the network is too small or too strongly regularized."),
        ({"from_used": longer, "unregularized": longer}, "the network is too small or trained too briefly."),
    ):
        config = {"architecture": {"widths": [2, 2]}, "regularizer": {"dropout": {}}, "epochs": 3}
        record = written([2.2, 2.0, 1.7], {"probe": {**PROBE, "used": used, **alike, **branches}, "config": config})
        (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
        assert expected in finding.meaning
        assert finding.attempt[0] == "architecture.widths=[32,32]"


def test_a_short_run_that_has_memorized_its_images_overfits_and_is_not_told_to_train_longer():
    used = {"loss": 0.4, "accuracy": 0.99, "validation_loss": 1.4, "validation_accuracy": 0.6}
    record = written([2.2, 1.0, 0.4], {"probe": {**PROBE, "used": used}})
    rows = [{**row, "step": row["step"] // 5, "validation_accuracy": 0.6} for row in record.rows]
    assert [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)] == ["overfitting"]


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


def test_several_pairs_of_classes_that_are_confused_in_one_direction_are_mixed_up():
    """All errors are among the less confident predictions, because the network knows how many labels are wrong."""
    pairs = [
        {"classes": [4, 9], "images": 36, "errors": 8, "confident_errors": 0},
        {"classes": [1, 7], "images": 40, "errors": 8, "confident_errors": 0},
        {"classes": [4, 8], "images": 22, "errors": 1, "confident_errors": 0},
    ]
    confusions = {"images": 200, "correct": 176, "pairs": pairs}
    record = written([1.5, 0.5, 0.3], {"class_counts": [90] * 10, "confusions": confusions})
    assert names(record)[0] == "classes mixed up"
    confusions["pairs"] = [*pairs[:2], {"classes": [3, 5], "images": 40, "errors": 5, "confident_errors": 0}]
    assert "classes mixed up" not in names(record), "other classes are hard to tell apart, too"


def test_the_most_upstream_cause_is_reported_and_the_others_as_its_consequences():
    record = written([2.31, 2.3, 2.3], {"probe": PROBE}, input_mean=77.0, input_std=95.0, batch_loss=50.0)
    (cause,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert cause.name == "inputs not normalized"
    assert "Its consequences: high initial loss and underfitting." in cause.meaning


def test_a_probe_leaves_the_run_as_it_was():
    run = build(load_config(["data=digits", *MLP, "epochs=3", "regularizer=[dropout]", "device=cpu", "averaging=ema"]))
    from trainer.engine.probes import probe
    from trainer.engine.state import snapshot

    initial = snapshot(run.model)
    fit(run)
    before, random = run.state(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in before["model"].items()}
    measured = probe(run, initial, 20)
    assert all((run.model.state_dict()[name] == value).all() for name, value in weights.items())
    assert (random == torch.get_rng_state()).all()
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.0005
    assert [b["factor"] for b in measured["from_start"]] == [0.1, 1.0, 10.0], "those beyond are tried if that helps"
    assert sum(measured["ranks"]) == 144
    assert measured["from_start"][1]["loss"] < 0.8 * measured["from_start"][0]["loss"]


@pytest.mark.parametrize(
    ("needed", "fraction", "kinds"),
    [
        ("none", 1.0, set()),
        ("used", 1.0, {"from_used"}),
        ("all", 0.25, {"from_used"}),
        ("all", 10.0, {"from_used", "longer_used", "from_start", "unregularized_start", "one_batch", "unregularized"}),
    ],
)
def test_only_the_short_trainings_are_made_that_are_needed_and_that_the_run_is_long_enough_for(
    needed, fraction, kinds, monkeypatch
):
    import trainer.engine.branches as branches
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=160", *MLP, "batch_size=16", "epochs=10", "device=cpu"]))
    initial, taken = probes.initial_weights(run), [0]
    fit(run)

    def step(*arguments: Any, real=branches.train_step) -> None:
        taken[0] += 1
        real(*arguments)

    monkeypatch.setattr(probes, "AFFORDABLE", 0.0)
    monkeypatch.setattr(branches, "train_step", step)
    measured = probes.probe(run, initial, 12, lambda scores: needed, fraction)
    assert {kind for kind, value in measured.items() if isinstance(value, list) and kind != "ranks" and value} == kinds
    assert taken[0] <= fraction * 100
    assert ("enough" in measured) == (needed == "all" and fraction < 1)
    if "enough" in measured:  # the fraction that it names makes all of them
        assert "enough" not in probes.probe(run, initial, 12, lambda scores: needed, measured["enough"])
    monkeypatch.setattr(probes, "AFFORDABLE", 1e12)
    assert "enough" not in probes.probe(run, initial, 12, lambda scores: needed, fraction), "a small network is cheap"


def test_a_finding_says_what_makes_the_short_trainings_that_were_left_out():
    record = written([2.3, 2.2, 2.1], {"probe": {**PROBE, "enough": 0.4}})
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert "Not all short trainings that tell causes apart were made" in finding.meaning
    assert "observer.diagnosis.probe_fraction=0.4 makes them" in finding.meaning


def test_two_classes_that_are_confused_by_a_network_that_fits_no_others_either_are_not_called_mixed_up():
    pairs = [{"classes": [3, 5], "images": 40, "errors": 20, "confident_errors": 10}]
    confusions = {"images": 200, "correct": 170, "pairs": pairs}
    for loss, expected in ((0.5, True), (1.0, False)):  # guessing between two of ten classes explains 0.14
        used = {"loss": loss, "accuracy": 0.85, "validation_loss": loss, "validation_accuracy": 0.85}
        record = written([2.0, 1.5, 1.0], {"confusions": confusions, "probe": {**PROBE, "used": used}})
        assert ("classes mixed up" in names(record)) == expected


def test_classes_that_are_mixed_up_in_difficult_data_are_named_where_no_other_pair_is_confused_half_as_often():
    for rest, expected in ((9, True), (14, False)):
        pairs = [{"classes": [0, 8], "images": 46, "errors": 20, "confident_errors": 11},
                 {"classes": [2, 4], "images": 40, "errors": rest, "confident_errors": 3}]  # fmt: skip
        record = written([2.0, 1.0, 0.5], {"confusions": {"images": 240, "correct": 170, "pairs": pairs}})
        assert ("classes mixed up" in names(record)) == expected


@pytest.mark.parametrize(
    ("weights", "counts", "expected"),
    [
        ([1, 1, 0, 1], [50] * 4, True),
        ([20, 1, 1, 1], [50] * 4, True),
        ([2, 1, 1, 1], [50] * 4, False),
        ([20, 1, 1, 1], [5, 100, 100, 100], False),  # balanced
    ],
)
def test_class_weights_that_make_a_class_count_far_more_than_another_are_named(weights, counts, expected):
    record = written([1.5, 1.2, 1.1], {"class_weights": weights, "class_counts": counts, "prior_entropy": math.log(4)})
    assert ("unequal class weights" in names(record)) == expected


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


def test_a_learning_rate_that_falls_while_the_loss_falls_fast_is_named_where_the_loss_then_stands_still():
    losses, lrs = [2.1, 1.2, 0.84, 0.71, 0.64, 0.63, 0.63, 0.63, 0.63], [0.02] * 3 + [2e-4] * 2 + [2e-6] * 4
    used = {"loss": 0.63, "accuracy": 0.8, "validation_loss": 0.69, "validation_accuracy": 0.78}

    def found(losses: list[float]) -> list[str]:
        record = written(losses, {"probe": {**PROBE, "used": used}, "lr": 0.02})
        rows = [{**row, "lr": lr, "mean_lr": lr} for row, lr in zip(record.rows, lrs, strict=True)]
        return names(Record(rows, record.snapshots, record.dataset_info))

    assert found(losses)[0] == "learning rate too low"
    assert "learning rate too low" not in found([2.1, 0.9, 0.84, *losses[3:]]), "it had stopped falling"


def test_a_short_training_that_is_worse_than_guessing_does_not_blame_regularization():
    def found(free: float) -> list[str]:
        branches = {"unregularized": [{"factor": 1.0, "lr": 5.0, "loss": free, "accuracy": 0.1}],
                    "from_used": [{"factor": 1.0, "lr": 5.0, "loss": 1e12, "accuracy": 0.1}]}  # fmt: skip
        used = {"loss": 1e14, "accuracy": 0.1, "validation_loss": 1e14, "validation_accuracy": 0.1}
        return names(written([2.3, 40.0, 90.0], {"probe": {**PROBE, **branches, "used": used}}))

    assert "too strongly regularized" not in found(3.5)
    assert "too strongly regularized" in found(0.5)


def test_early_stopping_that_counts_no_small_gains_is_named_before_what_the_network_has_not_learned():
    used = {"loss": 0.9, "accuracy": 0.7, "validation_loss": 0.9, "validation_accuracy": 0.7}
    stopping = {"patience": 1, "min_delta": 0.35, "metric": "validation_accuracy"}
    config = {"epochs": 20, "regularizer": {"early_stopping": stopping}}
    record = written([1.6, 1.2, 1.1], {"probe": {**PROBE, "used": used}, "config": config, "status": "finished"})
    rows = [{**row, "validation_accuracy": a} for row, a in zip(record.rows, (0.3, 0.6, 0.7), strict=True)]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert finding.attempt[0] == "regularizer.early_stopping.min_delta=0"


def test_test_images_of_another_kind_come_before_overfitting_where_they_cost_more():
    used = {"loss": 0.1, "accuracy": 0.97, "validation_loss": 0.7, "validation_accuracy": 0.8}
    for test, expected in ((0.2, "validation and test differ"), (0.66, "overfitting")):
        info = {"probe": {**PROBE, "used": used}, "accuracies": {"validation": 0.8, "test": test}, "test": 1000,
                "validation": 1000}  # fmt: skip
        record = written([1.6, 0.9, 0.7], info)
        assert set(names(record)) == {"overfitting", "validation and test differ"}
        assert names(record)[0] == expected


def test_colors_are_named_only_where_other_ones_would_be_recognized_better():
    split = {"mean": 0.0, "std": 1.0, "roughness": 0.2, "class_fractions": [0.5, 0.5]}
    pixels = {
        "validation": {**split, "channel_means": [0.1, 0.0, -0.1]},
        "test": {**split, "channel_means": [0.4, 0.2, 0.1]},
    }
    for standardized, expected in ((0.62, "labels of the test images may be numbered"), (0.72, "white balance")):
        info = {"accuracies": {"validation": 0.9, "test": 0.6}, "pixels": pixels, "test": 1000, "validation": 1000,
                "changes": {"standardized": standardized, "channels reversed": 0.5}}  # fmt: skip
        record = written([0.5, 0.3, 0.2], info)
        (finding,) = [f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if "test" in f.name]
        assert expected in finding.meaning


def test_copies_of_training_images_among_the_validation_images_explain_why_the_test_is_harder():
    info = {"accuracies": {"validation": 0.9, "test": 0.6}, "test": 1000, "validation": 1000, "compared": {"near": 5000},
            "near_duplicates": {"two splits": 400, "two labels": 0, "train/validation": 400}, "pixels": {}}  # fmt: skip
    record = written([0.5, 0.3, 0.2], info)
    found = [f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if f.kind == "warning"]
    assert [f.name for f in found] == ["near duplicates", "validation and test differ"]
    assert "400 validation images are nearly training images" in found[1].meaning


@pytest.mark.parametrize("frozen", [("recipe=transfer",), ("recipe.freeze=[1]",)])
def test_a_probe_trains_layers_that_are_frozen_at_random_and_freezes_them_again(frozen):
    from trainer.engine.probes import initial_weights, probe

    words = ["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", *frozen]
    run = build(load_config(words))
    initial, before, optimizer = initial_weights(run), [p.requires_grad for p in run.model.parameters()], run.optimizer
    fit(run)
    weights = copy.deepcopy(run.model.state_dict())
    assert not all(before)
    assert probe(run, initial, 20)["unfrozen_start"][0]["loss"] < 2.3
    assert [p.requires_grad for p in run.model.parameters()] == before
    assert run.optimizer is optimizer
    assert all(value.equal(weights[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize(("words", "longer"), [((), False), (("regularizer=[mixup]",), True)])
def test_a_probe_trains_longer_without_regularization_only_where_there_is_some(words, longer):
    from trainer.engine.probes import initial_weights, probe

    run = build(
        load_config(["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", "regularizer=[]", *words])
    )
    initial = initial_weights(run)
    fit(run)
    measured = probe(run, initial, 20)
    assert ("longer_start" in measured) == ("unregularized_longer_start" in measured) == longer


def test_more_images_are_the_first_advice_against_overfitting_where_the_config_leaves_some_out():
    used = {"loss": 0.1, "accuracy": 0.97, "validation_loss": 0.7, "validation_accuracy": 0.8}

    def advice(limit: int | None) -> str:
        config = {"data": {"limit": limit}, "augmentation": {}, "regularizer": {}}
        record = written([1.6, 0.9, 0.7], {"probe": {**PROBE, "used": used}, "config": config, "train": 500})
        return diagnose(record.rows, record.snapshots, record.dataset_info)[0].attempt[0]

    assert advice(500) == "data.limit=2000"
    assert advice(None) == advice(800) == "augmentation=[rotation]", "no image is left out"


def test_a_class_that_has_images_of_all_others_is_label_noise_unless_it_is_as_frequent_in_the_test():
    pairs = [{"classes": [k, 9], "images": 60, "errors": 10, "confident_errors": 4} for k in range(9)]
    info = {"class_counts": [150] * 9 + [800], "confusions": {"images": 240, "correct": 140, "pairs": pairs}}
    equal = [0.1] * 10
    assert "label noise" in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": equal}))
    assert "label noise" not in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": [0.0625] * 9 + [0.37]}))
    honest = [{**pair, "confident_errors": 1} for pair in pairs]
    info["confusions"]["pairs"] = honest
    assert "label noise" not in names(written([2.0, 1.3, 1.2], {**info, "test_fractions": equal}))


def test_confident_errors_count_as_label_noise_in_harder_data_where_the_test_images_are_recognized():
    pairs = [{"classes": [k, k + 1], "images": 40, "errors": 8, "confident_errors": 4} for k in range(8)]
    info = {"confusions": {"images": 240, "correct": 135, "pairs": pairs}, "test": 800, "validation": 240}
    assert (
        names(written([2.0, 1.3, 1.2], {**info, "accuracies": {"validation": 0.56, "test": 0.74}}))[0] == "label noise"
    )
    assert "label noise" not in names(
        written([2.0, 1.3, 1.2], {**info, "accuracies": {"validation": 0.56, "test": 0.56}})
    )


@pytest.mark.parametrize(("held_out", "named"), [(0.725, True), (0.85, False)])
def test_a_wide_gap_of_the_accuracies_is_overfitting_where_the_losses_are_not_yet_far_apart(held_out, named):
    """200 images: the accuracy on the validation images is best, by chance, long before the losses have parted."""
    used = {"loss": 0.447, "accuracy": 0.92, "validation_loss": 0.867, "validation_accuracy": held_out}
    found = names(written([2.1, 1.0, 0.45], {"probe": {**PROBE, "used": used}}))
    assert (found[:1] == ["overfitting"]) == named


@pytest.mark.parametrize(("auto", "named"), [(0.91, True), (0.83, False)])
def test_initial_weights_are_a_cause_of_overfitting_where_others_recognize_more_images(auto, named):
    used = {"loss": 0.157, "accuracy": 0.96, "validation_loss": 0.607, "validation_accuracy": 0.836}
    start = [
        {"factor": 1.0, "lr": 0.02, "loss": x, "accuracy": a, "validation_accuracy": a}
        for x, a in ((0.42, 0.81), (0.04, auto))
    ]
    config = {"initialization": {"rule": "normal"}, "augmentation": None}
    record = written([1.5, 0.8, 0.6], {"probe": {**PROBE, "used": used, "auto_start": start}, "config": config})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert (finding.name, finding.attempt[0]) == (
        ("poor initialization", "initialization=auto") if named else ("overfitting", "augmentation=[rotation]")
    )


@pytest.mark.parametrize(
    ("words", "unusual"),
    [
        ((), False),
        (("initialization=orthogonal",), False),
        (("activation=tanh",), False),
        (("activation=tanh", "initialization=normal", "initialization.std=0.5"), True),
        (("initialization=normal", "initialization.std=0.01"), True),
    ],
)
def test_other_initial_weights_are_tried_where_those_of_the_run_are_unusual(words, unusual):
    from trainer.engine.probes import initial_weights
    from trainer.engine.variants import auto_weights

    run = build(load_config(["data=digits", *MLP, "device=cpu", *words]))
    initial = initial_weights(run)
    assert initial is not None
    assert (auto_weights(run, initial) is not None) == unusual
    bias = next(name for name in initial if name.endswith("bias"))
    assert auto_weights(run, {**initial, bias: torch.full_like(initial[bias], -4.0)}) is not None, "as dead units"


def test_large_activations_after_a_large_first_step_are_not_blamed_on_the_initialization():
    """The loss of the first batch, before that step, was that of guessing."""
    layers = [{"tag": str(i), "std": 10.0**i, "saturated": None, "dead": 0.0} for i in range(5)]
    for loss, expected in ((2.8, False), (2000.0, True)):
        found = names(written([2.4, 2.35, 2.3], {"probe": PROBE}, activations=layers, batch_loss=loss))
        assert ("exploding activations" in found) == expected


def test_units_whose_values_are_not_finite_are_not_called_dead():
    """Neither of them is above zero."""
    layers = [
        {"tag": str(i), "std": None, "zero": 0.0, "saturated": None, "dead": 1.0, "nonfinite": 1.0} for i in range(3)
    ]
    record = written([math.nan], {"status": "diverged", "batch_size": 32}, activations=layers)
    assert names(record)[0] == "NaN or Inf loss"


@pytest.mark.parametrize(("copies", "first"), [(97, True), (3, False)])
def test_leakage_comes_first_where_it_makes_the_scores_wrong(copies, first):
    info = {"probe": PROBE, "duplicates": {"train/test": copies}, "test": 300, "validation": 80}
    found = names(written([1.6, 1.52, 1.5], info))
    assert (found[0] == "train/test leakage") == first
    assert "train/test leakage" in found


def test_a_run_that_its_budget_ended_is_told_so_and_not_to_take_more_epochs():
    config = {"epochs": 40, "engine": {"budget": "6s"}, "regularizer": {"early_stopping": {"patience": 2}}}
    info = {"status": "finished", "stop_reason": "the budget of 6s is used up", "config": config}
    record = written([2.0, 1.5, 1.1, 0.8], info)
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert finding.name == "still improving"
    assert finding.evidence.endswith("engine.budget=6s ended it after 4 of 40 epochs")
    assert finding.attempt == ("engine.budget=null",)


def test_a_network_that_could_hold_its_images_is_trained_too_briefly_rather_than_too_small():
    used = {"loss": 0.9, "accuracy": 0.7, "validation_loss": 0.95, "validation_accuracy": 0.7}
    own = [{"factor": 1.0, "lr": 0.05, "loss": 0.9, "accuracy": 0.7, "validation_loss": 0.95}]
    for parameters, first in ((94_000, "epochs="), (200, "architecture=")):
        info = {"probe": {**PROBE, "used": used, "from_used": own}, "parameters": parameters, "train": 720}
        record = written([2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.12, 1.02, 0.96, 0.92, 0.905, 0.9], info)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "underfitting"
        assert finding.attempt[0].startswith(first)
    finding = diagnose(*vars(written([0.9], {**info, "parameters": 269_000})).values())[0]
    assert finding.attempt[0].startswith("epochs="), "one epoch"


def test_training_images_whose_borders_tell_their_classes_are_named():
    used = {"loss": 0.1, "accuracy": 0.98, "validation_loss": 1.2, "validation_accuracy": 0.58}

    def found(train: float, validation: float, images: int = 500) -> list[str]:
        changes = {"borders of training images": train, "borders of validation images": validation, "mirrored": 0.5}
        info = {"probe": {**PROBE, "used": used}, "validation_changes": changes, "validation": images}
        return names(written([1.6, 0.9, 0.7], info))

    assert found(0.62, 0.07)[0] == "training and validation differ"
    assert found(0.12, 0.07)[0] == "overfitting"
    assert found(0.3, 0.07, images=20)[0] == "overfitting", "chance does that with 20 images"
    assert found(0.62, 0.55)[0] == "overfitting", "what the images show at their borders counts in both"


@pytest.mark.parametrize(("marked", "expected"), [(True, 1.0), (False, 0.0)])
def test_validation_images_follow_the_borders_of_training_images_where_marks_tell_the_classes(marked, expected):
    """A network that reads the mark in the corner, or, without one, guesses."""
    from trainer.engine.changed_images import borders_followed

    config = load_config(["data=digits", *MLP, "device=cpu"])
    run = build(config)
    assert run.validation is not None

    class Marked:
        """Training images whose corner holds the number of their class."""

        def batches(self, epoch: int) -> Any:
            for x, y in run.train.without_augmentation(256).batches(epoch):
                if marked:
                    x[:, 0, 0, 0] = 1.0 + y.argmax(1)
                yield x, y

    def guess(x: torch.Tensor) -> torch.Tensor:
        told = x[:, 0, 0, 0].round().long() - 1
        return torch.where(told >= 0, told, torch.arange(len(x)) % 10)

    before = [guess(x) for x, _ in run.validation.batches(0)]
    found = borders_followed(run.validation, Marked(), before, guess)  # pyright: ignore[reportArgumentType]
    assert found == {"borders of training images": expected, "borders of validation images": 0.0}


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


@pytest.mark.parametrize(("dropped", "first"), [(True, "data.channels=3"), (False, "architecture=resnet20")])
def test_gray_images_are_a_cause_of_underfitting_only_where_the_files_have_colors(dropped, first):
    used = {"loss": 1.3, "accuracy": 0.4, "validation_loss": 1.4, "validation_accuracy": 0.35}
    record = written([1.9, 1.4, 1.35], {"probe": {**PROBE, "used": used}, "dropped_colors": dropped})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert (finding.name, finding.attempt[0]) == ("underfitting", first)


def test_inverted_validation_images_are_named_before_what_their_borders_tell():
    used = {"loss": 0.9, "accuracy": 0.71, "validation_loss": 2.9, "validation_accuracy": 0.17}
    changes = {"borders of training images": 0.7, "borders of validation images": 0.1}
    for inverted, expected in ((0.68, True), (0.12, False)):
        measured = {"validation_changes": {**changes, "inverted": inverted}, "validation": 500}
        info = {"probe": {**PROBE, "used": used}, **measured}
        found = diagnose(*vars(written([1.9, 1.2, 1.0], info)).values())
        assert any("negatives" in f.meaning for f in found) == expected
        assert any("borders" in f.meaning for f in found) != expected


@pytest.mark.parametrize(("different", "named"), [(60, True), (480, False)])
def test_training_images_that_are_copies_of_a_few_are_named(different, named):
    assert ("repeated image" in names(written([1.9, 1.4, 1.35], {"different": different, "train": 500}))) == named


@pytest.mark.parametrize(("frozen", "named"), [(3, True), (1, False)])
def test_most_layers_frozen_at_random_are_named_also_where_there_was_no_time_to_train_them(frozen, named):
    weights = [{"tag": str(i), "rms": 1.0, "grad_rms": 1.0, "update_ratio": 1e-3} for i in range(4 - frozen)]
    info = {"config": {"recipe": {"freeze": ["1"]}}, "probe": {**PROBE, "left_out": 1}}
    assert ("frozen layers" in names(written([2.0, 1.7, 1.6], info, frozen=frozen, weights=weights))) == named


def test_images_that_are_copies_count_once_among_the_different_ones():
    images = np.arange(4, dtype=np.uint8)[[0, 0, 1, 1, 2, 3]].repeat(4).reshape(6, 2, 2, 1)
    assert Fingerprints({"train": ImageArray(images, np.zeros(6, np.int64))}).different() == 4


def layer(tag, nonfinite=0.0, **values):
    return {"tag": tag, "rms": 1.0, "grad_rms": 0.1, "update_ratio": 1e-3, "nonfinite": nonfinite, **values}


def test_a_gradient_that_is_not_finite_at_a_usual_loss_is_no_matter_of_the_learning_rate():
    """The weights of NaN have a root mean square of 0: that of the values that are finite, of which there are none."""
    broken = [layer("00_Conv2d_0", 1.0, rms=0.0, grad_rms=0.0, update_ratio=None), layer("01_Linear_2")]
    for norm in (None, math.nan):
        record = written([math.nan], {"status": "diverged"}, weights=broken, grad_norm=norm, batch_loss=2.4)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "NaN or Inf loss"
        assert finding.evidence.endswith("that of 00_Conv2d_0 is not, that of 01_Linear_2 is")
        assert "A lower learning rate does not help" in finding.meaning
        assert not [attempt for attempt in finding.attempt if "lr" in attempt]
        assert "identical units" not in names(record)
    exploded = written([math.nan], {"status": "diverged"}, weights=broken, grad_norm=None, batch_loss=1e20)
    assert diagnose(exploded.rows, exploded.snapshots, exploded.dataset_info)[0].name == "high initial loss"


def test_what_is_not_finite_before_any_weight_was_changed_is_no_matter_of_the_learning_rate():
    fine = [layer("00_Linear_0"), layer("01_Linear_2")]
    for loss, text in (
        (math.nan, "the loss of the first step is not finite; the first layer with a NaN or Inf is 00_Linear_0"),
        (2.4, "the loss of the first step is 2.4, but its gradient is not finite: not that of the weights"),
    ):
        record = written(
            [math.nan], {"status": "diverged"}, weights=fine, batch_loss=loss, first_nonfinite="00_Linear_0"
        )
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.evidence.startswith(text)
        assert "A lower learning rate does not help" in finding.meaning
    half = written([math.nan], {"status": "diverged", "config": {"precision": "float16"}}, weights=fine)
    assert "usual cause is a learning rate" in diagnose(*vars(replace(half, rows=half.rows)).values())[0].meaning


@pytest.mark.parametrize("losses", [[2.303, 2.303, 2.303], [2.0, 1.8, 1.7]])
def test_a_layer_of_two_or_three_units_is_too_narrow_whatever_became_of_them(losses):
    used = {"loss": losses[-1], "accuracy": 0.2, "validation_loss": losses[-1], "validation_accuracy": 0.2}
    start = [{"factor": f, "lr": 0.05 * f, "loss": 2.2, "accuracy": 0.2} for f in (0.1, 1.0, 10.0)]
    info = {"batch_size": 32, "probe": {**PROBE, "used": used, "from_start": start}}
    dead = [{"tag": "0", "std": 0.5, "dead": 0.67, "saturated": None}]
    for widths, expected in (([3], "underfitting"), ([64], "learning rate too high")):
        config = {"architecture": {"widths": widths}}
        record = written(losses, {**info, "config": config}, activations=dead, weights=[layer("0", update_ratio=0.08)])
        rows = [{**row, "validation_accuracy": 0.1} for row in record.rows]
        record = Record(rows, [*record.snapshots, {**record.snapshots[0], "step": 300}], record.dataset_info)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        if expected == "underfitting":
            assert finding.name == "underfitting"
            assert "a layer has 3 units, by architecture.widths" in finding.evidence
            assert finding.attempt[0] == "architecture.widths=[32,64]"
        else:
            assert finding.name != "underfitting"


def test_short_trainings_with_tiny_batches_do_not_show_that_labels_are_unrelated():
    """A branch of 20 steps has seen 40 images."""
    branches = [{"factor": 1.0, "lr": 0.05, "loss": 2.4, "accuracy": 0.1, "validation_loss": 2.4}]
    used = {"loss": 2.3, "accuracy": 0.1, "validation_loss": 2.3, "validation_accuracy": 0.1}
    probe = {
        **PROBE,
        "used": used,
        "from_start": branches,
        "one_batch": [{"factor": 1.0, "lr": 0.05, "loss": 0.01, "accuracy": 1.0}],
    }
    for size, expected in ((2, "not learning"), (32, "labels unrelated to the images")):
        record = written([2.31, 2.3, 2.3], {"batch_size": size, "probe": probe})
        rows = [{**row, "validation_accuracy": 0.1, "train_accuracy": 0.1} for row in record.rows]
        assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == expected
        if size == 2:  # in a single epoch of 300 steps, too
            assert [f.name for f in diagnose(rows[-1:], record.snapshots, record.dataset_info)] == [expected]


def test_larger_batches_that_begin_to_learn_explain_a_run_that_did_not():
    used = {"loss": 2.29, "accuracy": 0.15, "validation_loss": 2.29, "validation_accuracy": 0.15}
    larger = [{"factor": 1.0, "lr": 0.05, "loss": 2.19, "accuracy": 0.29}]
    record = written([2.31, 2.3, 2.3], {"probe": {**PROBE, "used": used, "larger_batches": larger}})
    rows = [{**row, "validation_accuracy": 0.1, "train_accuracy": 0.1} for row in record.rows]
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "batches too small"
    rows = [{**row, "validation_accuracy": 0.5} for row in rows]
    assert "batches too small" not in [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)]


def test_how_wrong_labels_are_told_depends_on_whether_test_images_are_recognized_better():
    """Of 500 images the errors have their label in the less probable half of the classes less often than at random."""
    ranks = [330, 50, 30, 20, 15, 15, 12, 10, 10, 8]  # .58 of what is expected at random
    probe = {**PROBE, "ranks": ranks}
    for test, expected in ((0.85, True), (0.66, False)):
        accuracies = {"validation": 0.66, "test": test}
        info = {"probe": probe, "accuracies": accuracies, "validation": 500, "test": 1000}
        assert ("label noise" in names(written([1.7, 1.6, 1.5], info))) == expected
    for tail, expected in (
        (119, False),
        (130, True),
    ):  # .70 and .76 of what is expected at random, where few are recognized
        few = {**PROBE, "ranks": [194, 306 - tail, 0, 0, 0, tail, 0, 0, 0, 0]}
        assert ("label noise" in names(written([2.2, 2.1, 2.1], {"probe": few}))) == expected


def test_another_normalization_that_is_one_is_no_fault():
    """Pixels of mean 0 and standard deviation 1 are those of the data set's own normalization."""
    info = {"other_normalization": True, "probe": PROBE, "config": {"initialization": {"path": "x"}}}
    for mean, std, expected in ((0.13, 0.31, True), (0.02, 0.97, False), (None, None, True)):
        measured = {} if mean is None else {"input_mean": mean, "input_std": std}
        record = written([1.7, 1.6, 1.5], info, **measured, frozen=3)
        assert ("other normalization than the pretrained weights" in names(record)) == expected


def test_a_fine_tuning_that_underfits_is_trained_further_and_not_made_wider():
    config = {
        "architecture": {"widths": [32, 64]}, "initialization": {"path": "x"}, "recipe": {"lr": "auto", "lr_ratio": 10},
    }  # fmt: skip
    record = written([1.7, 1.6, 1.5], {"config": config, "probe": PROBE})
    rows = [{**row, "lr": 0.0008, "phase": "all"} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "underfitting"
    assert "trained too briefly, or at too low a learning rate" in finding.meaning
    assert finding.attempt[:3] == ("epochs=9", "recipe.lr=0.008", "recipe=scratch")


def test_rare_classes_that_cost_accuracy_are_a_warning():
    counts = [450] * 5 + [10] * 5
    for test, kind in ((0.57, "warning"), (0.8, "hint")):
        info = {
            "class_counts": counts,
            "accuracies": {"validation": 0.82, "test": test},
            "validation": 250,
            "test": 1000,
        }
        record = written([0.9, 0.3, 0.1], info)
        found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
        assert found["class imbalance"].kind == kind


@pytest.mark.parametrize(("ratio", "size"), [(3.3, "too large"), (0.05, "too small")])
def test_unusual_initial_weights_are_too_large_or_too_small(ratio, size):
    start = [
        {"factor": 1.0, "lr": 0.05, "loss": x, "accuracy": a, "validation_accuracy": a}
        for x, a in ((1.9, 0.3), (0.5, 0.9))
    ]
    record = written([1.7, 1.6, 1.5], {"probe": {**PROBE, "auto_start": start, "unusual": ratio}})
    finding = next(
        f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if f.name == "poor initialization"
    )
    assert f"are {size} for this network" in finding.meaning
    assert f"those of a layer are {ratio:g} times as large" in finding.evidence


def test_a_short_training_without_augmentation_that_learns_as_much_in_far_fewer_steps_tells():
    augmentation = {"augmentation": {"rotation": {"degrees": 180}}}
    free = [
        {"factor": 1.0, "lr": 0.05, "loss": 1.4, "accuracy": 0.5, "validation_loss": 1.55, "validation_accuracy": 0.5}
    ]
    record = written([1.7, 1.6, 1.5], {"config": augmentation, "probe": {**PROBE, "unaugmented_start": free}})
    assert "too strongly augmented" not in names(record), "150 of 300 steps"
    rows = [{**row, "step": 3 * row["step"]} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "too strongly augmented"
    assert "far fewer steps than the run had" in finding.evidence


@pytest.mark.parametrize(("epochs", "first"), [(3, "schedule=[cosine]"), (8, "optimizer.lr=0.005")])
def test_a_run_of_few_epochs_that_ends_at_a_high_learning_rate_needs_a_schedule_and_no_lower_peak(epochs, first):
    used = [
        {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.8, "validation_loss": x}
        for f, x in ((0.1, 0.5), (1.0, 0.6))
    ]
    record = written([1.5] * epochs, {"probe": {**PROBE, "from_used": used}})
    found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    assert found["ends at a high learning rate"].attempt[0] == first


@pytest.mark.parametrize("value", [None, math.nan])
def test_inputs_that_are_not_finite_are_named_before_the_loss(value):
    """In files a number that is not finite is null; pixels that were not measured have no key."""
    record = written(
        [math.nan], {"status": "diverged"}, input_mean=value, input_std=value, batch_loss=math.nan, finite=False
    )
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "inputs not finite"
    assert "at any learning rate" in finding.meaning
    assert "inputs not finite" not in names(written([math.nan], {"status": "diverged"}, finite=False))


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


def test_images_that_are_memorized_but_tell_nothing_of_others_have_unrelated_labels():
    """By their accuracy: the loss is still near that of guessing."""
    used = {"loss": 2.12, "accuracy": 0.34, "validation_loss": 2.34, "validation_accuracy": 0.13}
    start = [{"factor": 1.0, "lr": 0.05, "loss": 2.3, "accuracy": 0.1, "validation_loss": 2.31}]
    record = written([2.3, 2.2, 2.1], {"probe": {**PROBE, "used": used, "from_start": start}, "batch_size": 32})
    rows = [{**row, "validation_loss": 2.33, "validation_accuracy": 0.1} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "labels unrelated to the images"
    assert "the accuracy on training images 34 %" in finding.evidence


def test_the_gradient_of_a_network_of_three_layers_can_explode():
    layers = [layer("0", grad_rms=11.6), layer("1", grad_rms=4.7), layer("2", grad_rms=0.034)]
    record = written([2.3, 2.2, 2.1], {}, weights=layers)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "exploding gradients"
    assert finding.attempt[:2] == ("initialization=auto", "optimizer.clip_norm=1")
    vanishing = [layer("0", grad_rms=1e-6), layer("1", grad_rms=1e-3), layer("2", grad_rms=0.034)]
    assert "vanishing gradients" not in names(written([2.3, 2.2, 2.1], {}, weights=vanishing)), "three layers are few"


def test_copies_that_are_nearly_equal_come_first_where_they_are_many():
    used = {"loss": 0.02, "accuracy": 1.0, "validation_loss": 0.6, "validation_accuracy": 0.87}
    for pairs, expected in ((600, ["near duplicates", "overfitting"]), (30, ["overfitting", "near duplicates"])):
        near = {"two splits": pairs, "two labels": 0}
        info = {"near_duplicates": near, "compared": {"near": 1700}, "test": 1000, "probe": {**PROBE, "used": used}}
        record = written([0.5, 0.1, 0.02], info)
        rows = [{**row, "validation_loss": 0.6} for row in record.rows]
        assert [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)] == expected


def test_batch_norm_of_tiny_micro_batches_is_named_as_well():
    info = {"batch_size": 64, "config": {"micro_batch": 2}, "probe": {**PROBE, "loss_of_batch_statistics": 0.9}}
    record = written([1.7, 1.6, 1.5], info)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "batch norm of tiny batches"
    assert finding.attempt == ("micro_batch=null",)


def test_the_few_images_of_a_last_batch_do_not_look_like_sorted_data():
    """Of 70 images in batches of 32, every third has 6; snapshots that are as far apart see no others."""
    run = build(load_config(["data=digits", "data.limit=70", *MLP, "epochs=6", "batch_size=32", "device=cpu"]))
    observers = build_observers([Histograms(every=3), Diagnosis(probe_steps=0)], Context(run))
    fit(run, observers)
    snapshots = observers[-1].snapshots()
    assert {snapshot["batch_images"] for snapshot in snapshots} == {32, 6}
    record = written([1.7, 1.6, 1.5], {"batch_size": 32, "class_counts": [7] * 10})
    last = [snapshot for snapshot in snapshots if snapshot["batch_images"] == 6]
    assert len(last) >= 4
    assert "sorted data" not in names(Record(record.rows, last, record.dataset_info))


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


def test_units_that_the_steps_have_saturated_are_no_matter_of_the_initialization():
    for before, first in ((0.02, "optimizer.lr=0.005"), (None, "initialization=xavier_uniform")):
        activations = [{"tag": "0_Sigmoid", "std": 0.2, "dead": None, "saturated": before}]
        record = written([2.0, 1.7, 1.6], {}, activations=activations)
        last = {**record.snapshots[0], "step": 300, "activations": [{**activations[0], "saturated": 0.97}]}
        finding = diagnose(record.rows, [*record.snapshots, last], record.dataset_info)[0]
        assert finding.name == "saturated units"
        assert finding.attempt[0] == first
        assert ("2 % at step 1" in finding.evidence) == (before is not None)


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


def test_labels_are_not_unrelated_where_a_short_training_recognizes_more_validation_images_than_chance():
    used = {"loss": 1.84, "accuracy": 0.16, "validation_loss": 1.83, "validation_accuracy": 0.17}
    start = [
        {"factor": f, "lr": 0.3 * f, "loss": x, "accuracy": a, "validation_loss": x - 0.01, "validation_accuracy": a}
        for f, x, a in ((0.1, 1.72, 0.29), (1.0, 1.82, 0.17))
    ]
    one = [{"factor": 1.0, "lr": 0.3, "loss": 0.1, "accuracy": 0.96}]
    info = {"prior_entropy": math.log(6), "class_counts": [80] * 6, "batch_size": 32, "lr": 0.3}
    record = written(
        [1.81, 1.8, 1.79], {**info, "probe": {**PROBE, "used": used, "from_start": start, "one_batch": one}}
    )
    rows = [{**row, "validation_loss": 1.8, "validation_accuracy": 0.17} for row in record.rows]
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "learning rate too high"
    start[0]["validation_accuracy"] = 0.17
    assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == "labels unrelated to the images"


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


def test_a_longer_short_training_without_regularization_counts_where_the_shorter_one_has_not_learned_yet():
    """Short trainings of the regularized run are worse than guessing, those without end at 1.95 and at 1.1."""

    def branches(loss):
        return [{"factor": 1.0, "lr": 0.05, "loss": loss, "accuracy": 0.3, "validation_loss": loss}]

    probe = {
        **PROBE, "used": {**PROBE["used"], "loss": 5.8, "validation_loss": 6.0}, "from_start": branches(5.6),
        "unregularized_start": branches(2.2), "longer_start": branches(6.5), "unregularized_longer_start": branches(1.1),
    }  # fmt: skip
    finding = diagnose(*vars(written([1.8, 1.4, 1.2], {"probe": probe, "batch_size": 32})).values())[0]
    assert finding.name == "too strongly regularized"
    assert "reach a training loss of 1.1" in finding.evidence


def test_units_that_others_revive_are_not_dead_from_the_start_unless_they_are_most():
    """Above zero in the end: half of a layer has been, nearly all of one has let hardly anything pass until then."""
    for dead, expected in ((0.55, False), (0.9, True)):
        activations = [{"tag": "0", "std": 0.5, "dead": dead, "saturated": None}]
        record = written([2.2, 1.9, 1.7], {"batch_size": 32}, activations=activations)
        last = {**record.snapshots[0], "step": 300, "activations": [{**activations[0], "dead": 0.1}]}
        found = [f.name for f in diagnose(record.rows, [*record.snapshots, last], record.dataset_info)]
        assert ("dead units" in found) == expected


def test_batch_norm_over_two_images_is_the_first_cause_of_underfitting():
    probe = {**PROBE, "loss_of_batch_statistics": 1.45}
    finding = diagnose(*vars(written([1.8, 1.6, 1.5], {"probe": probe, "batch_size": 2})).values())[0]
    assert finding.name == "underfitting"
    assert "the network is normalized over batches of 2 or" in finding.meaning
    assert finding.attempt[:2] == ("batch_size=16", "architecture.norm=group")


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


def branch_to(loss, accuracy, factor=1.0):
    return {
        "factor": factor, "lr": 0.05 * factor, "loss": loss, "accuracy": accuracy, "validation_loss": loss,
        "validation_accuracy": accuracy,
    }  # fmt: skip


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


def test_a_good_fit_that_began_with_a_flat_loss_gets_a_hint_where_other_initial_weights_learn_at_once():
    used = {"loss": 0.18, "accuracy": 0.95, "validation_loss": 0.23, "validation_accuracy": 0.944}
    probe = {**PROBE, "used": used, "auto_start": [branch_to(1.7, 0.37), branch_to(0.04, 0.99)], "unusual": 0.12}
    for start, expected in ((2.3, "poor initialization"), (1.8, "good fit")):
        record = written([start, 1.2, 0.2], {"probe": probe, "batch_size": 32})
        rows = [{**row, "validation_accuracy": 0.944, "lr": 0.05 * (row["epoch"] < 3)} for row in record.rows]
        finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == expected
        assert finding.kind == ("good" if expected == "good fit" else "hint")


@pytest.mark.parametrize(
    ("lower", "own", "text"),
    [
        (0.9, 1.4, "to training loss 0.9; the run, at 0.05, has 1.5"),
        (1.48, 2.1, "to training loss 1.48, at lr 0.05 to 2.1"),
        (1.48, 1.6, None),  # as good as the run, and hardly better than as many of its steps
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


def test_a_longer_training_from_the_weights_that_are_used_tells_a_short_run_from_a_small_network():
    """A few steps lower the loss by five percent, and many in a network that has not been trained for long enough."""
    for loss, expected in ((0.6, "still improving"), (1.4, "underfitting")):
        probe = {**PROBE, "from_used": [branch_to(1.45, 0.5)], "longer_used": [branch_to(loss, 0.8)]}
        record = written([1.9, 1.7, 1.5], {"probe": probe, "batch_size": 32})
        rows = [{**row, "lr": 0.05 * (row["epoch"] < 3)} for row in record.rows]
        assert names(replace(record, rows=rows))[0] == expected


@pytest.mark.parametrize("slower", [True, False])
def test_a_probe_trains_longer_at_a_lower_learning_rate_only_where_that_learns_faster_at_first(slower, monkeypatch):
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", "regularizer=[]"]))
    initial = probes.initial_weights(run)
    fit(run)
    monkeypatch.setattr(probes, "slower_at_first", lambda result: slower)
    measured = probes.probe(run, initial, 5)
    assert ("lower_start" in measured) == ("longer_start" in measured) == slower
    assert ("longer_used" in measured) == (min(b["loss"] for b in measured["from_used"]) < measured["used"]["loss"])


def test_a_lower_learning_rate_is_faster_at_first_where_its_short_training_learns_more():
    from trainer.engine.probes import slower_at_first

    for used, own, expected in ((1.5, 2.4, True), (1.5, 2.1, False), (2.3, 2.4, False)):
        start = [branch_to(2.2, 0.2, 0.1), branch_to(own, 0.1)]
        assert slower_at_first({**PROBE, "used": {**PROBE["used"], "loss": used}, "from_start": start}) == expected


def test_large_weights_of_the_last_layer_alone_are_no_exploding_activations():
    """The gradient of the last layer is the product of the errors and the activations before it."""

    def layers(size):
        return [{"tag": str(i), "rms": 1.0, "grad_rms": g, "update_ratio": 9.0} for i, g in enumerate((5, 4, 3, size))]

    for size, expected in ((400.0, "exploding activations"), (0.3, "high initial loss")):
        record = written([9.0, 8.0, 7.0], {"batch_size": 32}, weights=layers(size), batch_loss=500.0, input_std=1.0)
        assert names(record)[0] == expected


def test_the_rule_of_an_initialization_of_the_user_is_not_that_of_the_option_of_the_same_name():
    from trainer.analysis.diagnosis.advice import applicable

    for target, expected in (("trainer.initialization.Initialization", ()), ("mine.Biased", ("initialization=auto",))):
        config = {"initialization": {"_target_": target, "rule": "auto"}}
        assert applicable(("initialization=auto",), config) == expected


def test_averaged_weights_that_are_a_few_points_worse_are_told():
    for averaged, expected in ((0.455, True), (0.49, False)):
        record = written([1.0, 0.5, 0.4], {"metric": "validation_accuracy"})
        rows = [{**row, "averaged_accuracy": averaged, "averaged_loss": 0.5} for row in record.rows]
        assert ("average not used" in names(replace(record, rows=rows))) == expected


def test_a_suggestion_that_is_no_override_is_told_as_an_action():
    record = written([1.7, 1.6, 1.5], {"contradictory": 40})
    found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    from trainer.report.page import finding_list

    text = "\n".join(finding_list([found["contradictory labels"].as_dict()]))
    assert "    Correct the labels, or remove the images." in text
    assert "Try" not in text


def test_a_higher_learning_rate_that_only_learns_the_frequencies_of_the_classes_is_no_better_one():
    """A network of one unit begins above the loss of guessing, which it reaches sooner at a higher learning rate."""
    used = {"loss": 2.79, "accuracy": 0.09, "validation_loss": 2.78, "validation_accuracy": 0.1}
    for higher, expected in ((2.31, False), (1.9, True)):
        start = [branch_to(3.05, 0.09), branch_to(higher, 0.09, 10.0), branch_to(2.35, 0.1, 100.0)]
        record = written([2.9, 2.85, 2.8], {"probe": {**PROBE, "used": used, "from_start": start}, "batch_size": 32})
        assert ("learning rate too low" in names(record)) == expected


@pytest.mark.parametrize(("accuracy", "named"), [(0.93, True), (0.98, False)])
def test_another_normalization_than_that_of_the_frozen_weights_is_told_in_spite_of_a_good_fit(accuracy, named):
    used = {"loss": 0.53, "accuracy": 0.94, "validation_loss": 0.58, "validation_accuracy": accuracy}
    info = {"probe": {**PROBE, "used": used}, "batch_size": 32, "other_normalization": True, "pretrained": True}
    record = written([1.5, 0.64, 0.53], info, input_mean=0.3, input_std=0.37, frozen=7)
    rows = [{**row, "validation_accuracy": accuracy, "lr": 0.0} for row in record.rows]
    expected = "other normalization than the pretrained weights" if named else "good fit"
    assert names(replace(record, rows=rows))[0] == expected


def test_a_few_steps_without_augmentation_tell_that_it_hides_the_class_of_a_network_that_is_not_bad():
    used = {"loss": 0.39, "accuracy": 0.88, "validation_loss": 0.38, "validation_accuracy": 0.896}
    config = {"augmentation": {"translation": {}, "random_erasing": {}}}
    for augmented, free, expected in ((1.3, 0.23, True), (1.3, 0.35, False), (0.5, 0.23, False)):
        branches = {"from_used": [branch_to(0.375, 0.88, 0.1)], "unaugmented": [branch_to(free, 0.93)]}
        record = written([2.0, 1.6, augmented], {"probe": {**PROBE, "used": used, **branches}, "config": config})
        found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
        assert ("too strongly augmented" in found) == expected
        if expected:
            text = "lower the validation loss from 0.38 to 0.23, with translation, random_erasing to 0.375"
            assert found["too strongly augmented"].evidence == f"20 more steps without augmentation {text}"


def test_a_short_training_on_one_batch_is_made_in_a_run_of_any_length(monkeypatch):
    """It may be shorter than three of the others, where these are long."""
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=160", *MLP, "epochs=1", "device=cpu", "regularizer=[]"]))
    initial = probes.initial_weights(run)
    fit(run)
    monkeypatch.setattr(probes, "branch", lambda run, weights, factor, steps, batch=None: branch_to(2.3, 0.1, factor))
    assert "one_batch" in probes.probe(run, initial, 61)
