"""Records of runs for the tests of the diagnosis: induced failures, and records that are written."""

from __future__ import annotations

import math

import numpy as np
from sklearn.datasets import load_digits

from trainer.analysis.diagnosis import Record, diagnose
from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.view import RunView
from trainer.observers import Diagnosis, Histograms
from trainer.observers.context import Context, build_observers

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


def layer(tag, nonfinite=0.0, **values):
    return {"tag": tag, "rms": 1.0, "grad_rms": 0.1, "update_ratio": 1e-3, "nonfinite": nonfinite, **values}


def branch_to(loss, accuracy, factor=1.0):
    return {
        "factor": factor, "lr": 0.05 * factor, "loss": loss, "accuracy": accuracy, "validation_loss": loss,
        "validation_accuracy": accuracy,
    }  # fmt: skip
