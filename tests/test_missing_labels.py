"""Labels that are missing everywhere, in one split, or of one label: stated, refused or left out, and never counted as zero."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import QUIET, result_of

from trainer.data.targets import Target
from trainer.tasks import Multilabel
from trainer.tasks.build import part_of
from trainer.tasks.spec import measure

N, SMALL = (
    60,
    ("data=arrays", "data.path=a.npz", "architecture.widths=[4]", "batch_size=8", "epochs=1", "device=cpu", QUIET),
)
CLASSES, NUMBERS = np.arange(N) % 3, np.linspace(-1, 1, N)


@pytest.fixture
def learn(train):
    """Write arrays of 40 training and 20 test images and train on them."""

    def call(*overrides: str, **targets: np.ndarray):
        images = np.random.default_rng(0).integers(0, 256, (N, 8, 8), np.uint8)
        arrays = {
            f"y_{k}_{s}": v[p] for k, v in targets.items() for s, p in (("train", np.s_[:40]), ("test", np.s_[40:]))
        }
        np.savez("a.npz", x_train=images[:40], x_test=images[40:], **arrays)
        return train(*SMALL, *overrides, "output=run")

    return call


def without(values: np.ndarray, rows: slice) -> np.ndarray:
    """The values with those of some rows missing."""
    missing = values.copy()
    missing[rows] = -1 if values.dtype.kind == "i" else np.nan
    return missing


@pytest.mark.parametrize("task", ["task.target=a", "task=multitask task.main=a", "task=multitask"])
def test_metrics_of_a_split_without_labels_are_nan_and_not_zero(task, learn):
    code, _, err = learn(*task.split(), a=without(CLASSES, np.s_[40:]), b=NUMBERS)
    assert code == 0, err
    test = result_of("run")["test"]
    values = [v for k, v in test.items() if not k.startswith("b_") and (k != "loss" or "b_loss" not in test)]
    assert values
    assert all(v is None or math.isnan(v) for v in values)
    if "b_loss" in test:
        assert test["loss"] == pytest.approx(test["b_loss"])


def test_a_run_whose_test_images_have_labels_in_part_is_diagnosed(learn):
    code, _, err = learn(
        "task.target=a", "observer=[diagnosis]", "epochs=3", a=without(CLASSES, np.s_[45:50]), b=NUMBERS
    )
    assert code == 0, err
    assert json.loads(Path("run/dataset_info.json").read_text())["test_fractions"] == pytest.approx(
        [1 / 3] * 3, abs=0.07
    )


def test_targets_that_cannot_be_measured_are_stated(learn):
    code, out, err = learn("task=multitask", "observer=[console]", a=without(CLASSES, np.s_[40:]), b=NUMBERS)
    assert code == 0, err
    assert "no test image has a label of a: its test metrics are NaN" in " ".join(out.split())


def test_a_metric_that_no_validation_image_defines_cannot_decide(learn):
    order = np.random.default_rng([0, 7]).permutation(40)  # data.validation holds out the first of these
    numbers = NUMBERS.copy()
    numbers[order[:20]] = np.nan
    code, _, err = learn("task=regression", "data.validation=4", b=numbers)
    assert code == 2
    assert "metric = 'validation_mae': cannot be measured: no validation image has a label of b" in err
    assert learn("task=multitask", "data.validation=4", "task.main=a", a=CLASSES, b=numbers)[0] == 0


@pytest.mark.parametrize(
    ("overrides", "targets", "message"),
    [
        (["task=multilabel"], {"m": np.zeros((N, 3), int)}, "no training image has any of the labels"),
        (["task=regression"], {"b": np.stack([NUMBERS, NUMBERS * np.nan], 1)}, "no training image has a value of 1"),
        (["task=regression"], {"b": NUMBERS * np.nan}, "no training image has a label"),
        (["task.target=a", "task.class_weights=[0,0,0]"], {"a": CLASSES, "b": NUMBERS}, "must have a weight > 0"),
        (
            ["task=multitask", "task.tasks={a:{weight:0},b:{weight:0}}"],
            {"a": CLASSES, "b": NUMBERS},
            "must have a task with a weight > 0",
        ),
        (["task.target=a", "task.loss={_target_: torch.sum}"], {"a": CLASSES, "b": NUMBERS}, "torch.sum"),
        (["task.target=a", "task.loss={_target_: torch.nn.NLLLoss}"], {"a": CLASSES, "b": NUMBERS}, "cannot be called"),
    ],
)
def test_what_cannot_be_learned_is_refused(overrides, targets, message, learn):
    code, _, err = learn(*overrides, **targets)
    assert code == 2, err
    assert message in err


def test_a_loss_of_the_users_that_returns_something_else_is_refused(learn):
    Path("mine").mkdir()
    Path("mine/own_losses.py").write_text(
        "def distances(outputs, targets):\n    return (outputs[:, None] - targets).sum(2)[:, :, None]\n"
    )
    overrides = ["--config-dir", "mine", "task.target=a", "task.loss={_target_: own_losses.distances}"]
    status, _, err = learn(*overrides, a=CLASSES, b=NUMBERS)
    assert status == 2, err
    assert "must return a loss per image" in err


def test_the_frequency_of_a_label_is_that_among_the_images_of_which_it_is_known():
    values = np.zeros((40, 2), np.float32)
    values[:10, 0] = values[:4, 1] = 1
    values[16:, 1] = np.nan  # 4 of 16
    part = part_of(Multilabel(class_weights="balanced"), measure("", Target("m", "multilabel", ("p", "q")), values, []))
    assert part.output_bias() == pytest.approx([math.log(1 / 3), math.log(1 / 3)])
    assert part.class_weights() == pytest.approx([3.0, 3.0])


def test_a_metric_that_is_nan_in_every_epoch_is_reported(learn):
    code, out, err = learn(
        "task.target=a", "metric=validation_auroc", "data.validation=3", "observer=[console]",
        a=np.where(np.arange(N) == 0, 1, 0), b=NUMBERS,
    )  # fmt: skip
    assert code == 0, err
    assert "validation_auroc was NaN in every epoch: the last weights count as the best" in " ".join(out.split())
