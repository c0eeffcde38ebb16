"""The doctor finds the illness that was made, and is silent where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import result_of

SMALL = (
    "data=fake", "data.size=12", "data.count=300", "data.num_classes=4", "architecture.widths=[8,16]", "batch_size=16",
    "device=cpu", "precision=float32", "job.batches=3",
)  # fmt: skip


def examined(train, *words, folder="d"):
    code, out, err = train("job=doctor", *SMALL, *words, f"output={folder}")
    assert code in (0, 1), err
    return code, {c["name"]: c for c in result_of(folder)["checks"]}, out


def test_a_healthy_config_passes_every_check(train):
    code, found, out = examined(train)
    assert code == 0, out
    assert {c["status"] for c in found.values()} == {"ok"}
    assert set(found) == {"pictures", "first loss", "activations", "gradients", "by heart", "rates", "speed", "memory"}
    assert "healthy" in out
    assert f"ln 4 = {math.log(4):.3g}" in found["first loss"]["seen"]


def test_regularizers_and_augmentation_are_off_where_batches_are_learned_by_heart(train):
    code, found, _ = examined(
        train, "regularizer=[dropout,mixup]", "regularizer.dropout.p=0.9", "augmentation=[crop,flip]"
    )
    assert found["by heart"]["status"] == "ok"
    assert code == 0


def test_the_first_loss_is_that_of_the_network_before_training(train):
    from trainer.build import build
    from trainer.config.compose import compose
    from trainer.config.schema import resolve

    words = ("initialization=normal", "initialization.std=2.0")
    _, found, _ = examined(train, *words)
    run = build(resolve(compose([*SMALL[:-1], *words])))
    losses = []
    for (x, y), _ in zip(run.train.batches(0), range(10), strict=False):
        losses.append(-(run.model(x).log_softmax(1) * y).sum(1).mean().item())
    assert found["first loss"]["status"] == "look"
    assert found["first loss"]["seen"].startswith(f"{np.mean(losses):.3g};")


@pytest.fixture
def arrays(tmp_path):
    def write(x, y, x_test=None, y_test=None):
        test = {} if x_test is None else {"x_test": x_test, "y_test": y_test}
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, **test)
        return "data=arrays", f"data.path={tmp_path / 'own.npz'}"

    return write


RNG = np.random.default_rng(0)


def test_labels_that_contradict_each_other_are_the_reason_why_nothing_is_learned_by_heart(train, arrays):
    x = RNG.integers(0, 256, (40, 12, 12, 3), np.uint8)
    data = arrays(np.concatenate([x, x]), np.concatenate([np.zeros(40, int), np.ones(40, int)]))
    code, _, err = train("job=doctor", *SMALL[4:], *data, "output=d", "job.passes=10")
    found = {c["name"]: c for c in result_of("d")["checks"]}
    assert code == 1, err
    assert found["by heart"]["status"] == "fail"
    assert "have a twin with another label" in found["by heart"]["seen"]
    assert found["labels"]["status"] == "look"


def test_pictures_in_two_parts_and_of_one_colour_and_rare_classes_are_found(train, arrays):
    x = RNG.integers(0, 256, (120, 12, 12, 3), np.uint8)
    y = np.array([0] * 113 + [1] * 7)
    x[5:12] = 77
    code, _, err = train("job=doctor", *SMALL[4:], *arrays(x, y, x[:50], y[:50]), "data.validation=0", "output=d",
                           "job.passes=3", "regularizer=[]", "metric=train_loss")  # fmt: skip
    assert code == 1, err
    found = {c["name"]: c for c in result_of("d")["checks"]}
    assert found["splits"]["status"] == "fail"
    assert "50 pictures of test are in train too" in found["splits"]["seen"]
    assert found["pictures"]["seen"].startswith("7 of the training pictures")
    assert found["classes"]["seen"] == "113 pictures of 0, 7 of 1"


def test_a_deep_sigmoid_network_has_vanishing_gradients(train):
    deep = (
        "architecture=mlp",
        "architecture.norm=none",
        "architecture.widths=[16,16,16,16,16,16,16,16]",
        "activation=sigmoid",
        "job.passes=3",
    )
    code, found, _ = examined(train, *deep, "initialization=normal")
    assert code == 1
    assert found["gradients"]["status"] == "fail", found["gradients"]


def test_a_rate_far_from_what_works_is_told_of(train):
    _, found, _ = examined(train, "optimizer=adam", "optimizer.lr=9.0", "job.passes=5")
    assert found["rates"]["status"] == "look"
    rate = float(found["rates"]["attempt"].partition("=")[2])
    assert rate in (1e-1, 1e-2, 1e-3, 1e-4)
    _, found, _ = examined(train, "optimizer=adam", f"optimizer.lr={rate}", folder="again")
    assert found["rates"]["status"] == "ok"


def test_memory_is_reckoned_from_what_one_picture_needs(train, monkeypatch):
    import os

    pages = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 10 if name == "SC_AVPHYS_PAGES" else pages(name))
    code, found, _ = examined(train)
    assert code == 1
    assert found["memory"]["status"] == "fail"
    assert found["memory"]["attempt"].startswith("micro_batch=")
