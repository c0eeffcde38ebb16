"""The diagnosis of the images, and of how often each class is there."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnosing import MLP, PROBE, names, written
from sklearn.datasets import load_digits

from trainer.analysis.diagnosis import Record, diagnose, imbalanced_classes
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.data.images import ImageArray
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.observers import Diagnosis, Histograms
from trainer.observers.context import Context, build_observers
from trainer.observers.diagnosis import dataset_info
from trainer.observers.duplicates import Fingerprints


def test_class_imbalance_has_one_threshold():
    assert imbalanced_classes([1, 5]) is None
    assert imbalanced_classes([10, 51, 30]) == (0, 1)


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


@pytest.mark.parametrize(("copies", "first"), [(97, True), (3, False)])
def test_leakage_comes_first_where_it_makes_the_scores_wrong(copies, first):
    info = {"probe": PROBE, "duplicates": {"train/test": copies}, "test": 300, "validation": 80}
    found = names(written([1.6, 1.52, 1.5], info))
    assert (found[0] == "train/test leakage") == first
    assert "train/test leakage" in found


@pytest.mark.parametrize(("different", "named"), [(60, True), (480, False)])
def test_training_images_that_are_copies_of_a_few_are_named(different, named):
    assert ("repeated image" in names(written([1.9, 1.4, 1.35], {"different": different, "train": 500}))) == named


def test_images_that_are_copies_count_once_among_the_different_ones():
    images = np.arange(4, dtype=np.uint8)[[0, 0, 1, 1, 2, 3]].repeat(4).reshape(6, 2, 2, 1)
    assert Fingerprints({"train": ImageArray(images, np.zeros(6, np.int64))}).different() == 4


def test_another_normalization_that_is_one_is_no_fault():
    """Pixels of mean 0 and standard deviation 1 are those of the data set's own normalization."""
    info = {"other_normalization": True, "probe": PROBE, "config": {"initialization": {"path": "x"}}}
    for mean, std, expected in ((0.13, 0.31, True), (0.02, 0.97, False), (None, None, True)):
        measured = {} if mean is None else {"input_mean": mean, "input_std": std}
        record = written([1.7, 1.6, 1.5], info, **measured, frozen=3)
        assert ("other normalization than the pretrained weights" in names(record)) == expected


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


def test_copies_that_are_nearly_equal_come_first_where_they_are_many():
    used = {"loss": 0.02, "accuracy": 1.0, "validation_loss": 0.6, "validation_accuracy": 0.87}
    for pairs, expected in ((600, ["near duplicates", "overfitting"]), (30, ["overfitting", "near duplicates"])):
        near = {"two splits": pairs, "two labels": 0}
        info = {"near_duplicates": near, "compared": {"near": 1700}, "test": 1000, "probe": {**PROBE, "used": used}}
        record = written([0.5, 0.1, 0.02], info)
        rows = [{**row, "validation_loss": 0.6} for row in record.rows]
        assert [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)] == expected


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


@pytest.mark.parametrize(("accuracy", "named"), [(0.93, True), (0.98, False)])
def test_another_normalization_than_that_of_the_frozen_weights_is_told_in_spite_of_a_good_fit(accuracy, named):
    used = {"loss": 0.53, "accuracy": 0.94, "validation_loss": 0.58, "validation_accuracy": accuracy}
    info = {"probe": {**PROBE, "used": used}, "batch_size": 32, "other_normalization": True, "pretrained": True}
    record = written([1.5, 0.64, 0.53], info, input_mean=0.3, input_std=0.37, frozen=7)
    rows = [{**row, "validation_accuracy": accuracy, "lr": 0.0} for row in record.rows]
    expected = "other normalization than the pretrained weights" if named else "good fit"
    assert names(replace(record, rows=rows))[0] == expected


def test_inputs_of_some_batches_that_are_not_finite_are_named_in_a_run_that_has_diverged(train):
    """A blank image among others has no standard deviation: the first batches, and most others, are finite."""
    x, y = load_digits(return_X_y=True)
    images = (x[:400].reshape(-1, 8, 8) * 15).astype(np.uint8)
    images[317] = 0
    np.savez("blank.npz", x_train=images, y_train=y[:400], x_test=images[:50], y_test=y[:50])
    Path("standardizing.py").write_text(
        "import torch\n"
        "from trainer.regularizers import Regularizer\n"
        "class Standardize(Regularizer):\n"
        "    def batch(self, x, y):\n"
        "        low = x.amin((1, 2, 3), keepdim=True)\n"
        "        return (x - low) / (x.amax((1, 2, 3), keepdim=True) - low), y\n"
    )
    Path("own/regularizer").mkdir(parents=True)
    Path("own/regularizer/standardize.yaml").write_text("standardize:\n  _target_: standardizing.Standardize\n")
    code, _, _ = train(
        "--config-dir", "own", "data=arrays", "data.path=blank.npz", "data.validation=100", *MLP, "epochs=6", "batch_size=8",
        "regularizer=[standardize]", "device=cpu", "output=run",
    )  # fmt: skip
    assert code == 1, "it diverged"
    finding = json.loads(Path("run/findings.json").read_text())[0]
    assert finding["name"] == "inputs not finite"
    assert finding["evidence"] == "pixels of 1 of 38 training batches, as the network gets them, are NaN or Inf"


def test_inputs_that_are_not_finite_in_every_batch_of_a_network_of_nan_are_not_blamed():
    """They may be made from its weights, as by an adversarial regularizer."""
    for wrong, expected in ((3, True), (40, False), (0, False)):
        record = written([math.nan], {"status": "diverged", "nonfinite_batches": [wrong, 40]}, finite=False)
        assert ("inputs not finite" in names(record)) == expected
