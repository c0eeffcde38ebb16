"""job=doctor finds induced failure modes, and nothing in a healthy config."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import result_of

from trainer.tasks import Regression
from trainer.tasks.build import part_of
from trainer.tasks.spec import PartSpec

SMALL = (
    "data=fake", "data.size=12", "data.count=300", "data.num_classes=4", "architecture.widths=[8,16]", "batch_size=16",
    "device=cpu", "precision=float32", "job.batches=3",
)  # fmt: skip


def examine(train, *overrides, folder="d"):
    code, out, err = train("job=doctor", *SMALL, *overrides, f"output={folder}")
    assert code in (0, 1), err
    return code, {c["name"]: c for c in result_of(folder)["checks"]}, out


def test_a_healthy_config_passes_every_check(train):
    code, checks, out = examine(train)
    assert code == 0, out
    assert {c["status"] for c in checks.values()} == {"ok"}
    assert set(checks) == {
        "images", "initial loss", "activations", "gradients", "overfit batches", "learning rates", "speed", "memory",
    }  # fmt: skip
    assert "all checks passed" in out
    assert f"ln 4 = {math.log(4):.3g}" in checks["initial loss"]["seen"]


def test_batches_are_overfitted_without_regularizers_and_augmentation(train):
    code, checks, _ = examine(
        train, "regularizer=[dropout,mixup]", "regularizer.dropout.p=0.9", "augmentation=[crop,flip]"
    )
    assert checks["overfit batches"]["status"] == "ok"
    assert code == 0


def test_dropout_inside_the_network_is_off_while_batches_are_overfitted():
    from trainer.builder import build, load_splits
    from trainer.config.load import load_config
    from trainer.jobs import Doctor
    from trainer.jobs.doctor import training

    seen = []

    def spied(run, lr, passes):
        seen.append([dropout.p for dropout in training.dropout_layers(run.model)])
        return passes, {"loss": 1.0, "accuracy": 0.0}

    overrides = [*SMALL[:-1], "regularizer=[dropout]", "regularizer.dropout.p=0.9"]
    config = load_config(overrides)
    assert [dropout.p for dropout in training.dropout_layers(build(config).model)] == [0.9]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_until_memorized", spied)
        training.overfit_batches(Doctor(batches=1), config, load_splits(config))
    assert seen == [[0.0]] * 3


def test_the_initial_loss_is_that_of_the_network_before_training(train):
    from trainer.builder import build
    from trainer.config.load import load_config

    overrides = ("initialization=normal", "initialization.std=2.0")
    _, checks, _ = examine(train, *overrides)
    run = build(load_config([*SMALL[:-1], *overrides]))
    losses = []
    for (x, y), _ in zip(run.train.batches(0), range(10), strict=False):
        losses.append(-(run.model(x).log_softmax(1) * y).sum(1).mean().item())
    assert checks["initial loss"]["status"] == "warning"
    assert checks["initial loss"]["seen"].startswith(f"{np.mean(losses):.3g};")


@pytest.fixture
def arrays(tmp_path):
    def write(x, y, x_test=None, y_test=None):
        test = {} if x_test is None else {"x_test": x_test, "y_test": y_test}
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, **test)
        return "data=arrays", f"data.path={tmp_path / 'own.npz'}"

    return write


RNG = np.random.default_rng(0)


def test_contradictory_labels_explain_why_batches_cannot_be_overfitted(train, arrays):
    x = RNG.integers(0, 256, (40, 12, 12, 3), np.uint8)
    data = arrays(np.concatenate([x, x]), np.concatenate([np.zeros(40, int), np.ones(40, int)]))
    code, _, err = train("job=doctor", *SMALL[4:], *data, "output=d", "job.passes=10")
    checks = {c["name"]: c for c in result_of("d")["checks"]}
    assert code == 1, err
    assert checks["overfit batches"]["status"] == "fail"
    assert "have a duplicate with a different label" in checks["overfit batches"]["seen"]
    assert checks["labels"]["status"] == "warning"


def test_leakage_images_of_a_single_color_and_class_imbalance_are_found(train, arrays):
    x = RNG.integers(0, 256, (120, 12, 12, 3), np.uint8)
    y = np.array([0] * 113 + [1] * 7)
    x[5:12] = 77
    code, _, err = train("job=doctor", *SMALL[4:], *arrays(x, y, x[:50], y[:50]), "data.validation=0", "output=d",
                           "job.passes=3", "regularizer=[]", "metric=train_loss")  # fmt: skip
    assert code == 1, err
    checks = {c["name"]: c for c in result_of("d")["checks"]}
    assert checks["leakage"]["status"] == "fail"
    assert "50 images of test are also in train" in checks["leakage"]["seen"]
    assert checks["images"]["seen"].startswith("7 of the examined training images are blank")
    assert checks["classes"]["seen"] == "113 images of 0, 7 of 1"


def test_a_deep_sigmoid_network_has_vanishing_gradients(train):
    deep = (
        "architecture=mlp",
        "architecture.norm=none",
        "architecture.widths=[16,16,16,16,16,16,16,16]",
        "activation=sigmoid",
        "job.passes=3",
    )
    code, checks, _ = examine(train, *deep, "initialization=normal")
    assert code == 1
    assert checks["gradients"]["status"] == "fail", checks["gradients"]


def test_a_learning_rate_far_from_those_that_work_is_a_warning(train):
    _, checks, _ = examine(train, "optimizer=adam", "optimizer.lr=9.0", "job.passes=5")
    assert checks["learning rates"]["status"] == "warning"
    lr = float(checks["learning rates"]["attempt"].partition("=")[2])
    assert lr in (1e-1, 1e-2, 1e-3, 1e-4)
    _, checks, _ = examine(train, "optimizer=adam", f"optimizer.lr={lr}", folder="again")
    assert checks["learning rates"]["status"] == "ok"


def test_memory_is_estimated_from_what_one_image_needs(train, monkeypatch):
    import os

    pages = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 10 if name == "SC_AVPHYS_PAGES" else pages(name))
    code, checks, _ = examine(train)
    assert code == 1
    assert checks["memory"]["status"] == "fail"
    assert checks["memory"]["attempt"].startswith("micro_batch=")


@pytest.mark.parametrize(
    "words", ["task=multitask", "task=multilabel task.target=properties", "task=regression task.target=ink"]
)
def test_labels_numbers_and_several_tasks_are_examined_by_their_own_loss(words, train, tmp_path):
    small = (
        "data=mnist5k_multitask",
        "data.limit=100",
        "data.validation=40",
        "data.test=40",
        "architecture.widths=[4]",
    )
    given = ("batch_size=16", "job.passes=2", "job.batches=1", "job.steps=20", f"output={tmp_path / 'run'}")
    code, _, err = train("job=doctor", *small, *given, *words.split())
    assert code in (0, 1), err
    checks = {check["name"]: check for check in result_of(tmp_path / "run")["checks"]}
    assert "predicting without the image gives" in checks["initial loss"]["seen"]
    assert checks["initial loss"]["status"] == "ok"
    assert "overfit batches" in checks


def test_numbers_are_memorized_once_their_error_is_a_tenth_of_the_standard_deviation():
    spec = PartSpec("", "size", "regression", ("size",), 10, (), (5.0,), (2.0,))
    part = part_of(Regression(), spec)
    assert part.is_memorized(0.19)
    assert not part.is_memorized(0.21)
