"""The diagnosis of splits that differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diagnosing import MLP, PROBE, names, written
from sklearn.datasets import load_digits

from trainer.analysis.diagnosis import Record, diagnose
from trainer.analysis.diagnosis.splits import describe_shift
from trainer.analysis.diagnosis.splits import test_differs as shifted
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.data.images import ImageArray
from trainer.engine.changed_images import accuracies_of_changes
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.observers import Diagnosis
from trainer.observers.context import Context, build_observers
from trainer.observers.diagnosis import split_difference


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


def test_inverted_validation_images_are_named_before_what_their_borders_tell():
    used = {"loss": 0.9, "accuracy": 0.71, "validation_loss": 2.9, "validation_accuracy": 0.17}
    changes = {"borders of training images": 0.7, "borders of validation images": 0.1}
    for inverted, expected in ((0.68, True), (0.12, False)):
        measured = {"validation_changes": {**changes, "inverted": inverted}, "validation": 500}
        info = {"probe": {**PROBE, "used": used}, **measured}
        found = diagnose(*vars(written([1.9, 1.2, 1.0], info)).values())
        assert any("negatives" in f.meaning for f in found) == expected
        assert any("borders" in f.meaning for f in found) != expected


def test_test_images_do_not_differ_for_a_network_that_has_learned_nothing():
    info = {"accuracies": {"validation": 0.2, "test": 0.05}, "validation": 500, "test": 1000}
    for losses, expected in (([1.9, 1.5, 1.2], True), ([2.4, 2.35, 2.32], False)):
        record = written(losses, info)
        rows = [{**row, "validation_accuracy": 0.11} for row in record.rows]
        assert ("validation and test differ" in names(replace(record, rows=rows))) == expected


def test_validation_images_are_not_harder_than_test_images_that_are_in_training():
    info = {"accuracies": {"validation": 0.8, "test": 0.95}, "validation": 500, "test": 1000}
    for copies, expected in ((0, True), (300, False)):
        record = written([1.0, 0.4, 0.2], {**info, "duplicates": {"train/test": copies}})
        found = names(record)
        assert ("validation harder than test" in found) == expected
        assert ("train/test leakage" in found) != expected
