"""Where conditions are induced: data, network and optimizer. Some settings tune the diagnosis, the others are held out."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.data import Splits
from trainer.data.images import ImageArray

ALWAYS = ("regularizer=[]", "device=cpu", "precision=float32", "engine.threads=1")
SHAPES = ("disk", "ring", "square", "frame", "plus", "cross")


@dataclass(frozen=True)
class Setting:
    """A healthy config, and what a condition changes of it.

    Attributes:
        name: Data, network, optimizer.
        half: ``tuning``, ``held out`` or ``drawn``.
        data: Overrides of the data; ``shapes`` = generated color images.
        network: Overrides of the network.
        optimizer: Its name.
        lr: A good peak learning rate.
        epochs: As long as the run takes to converge.
        small: Overrides for a network that is too small.
        deep: Overrides for a deep network without normalization, in which activations and gradients can vanish.
        batch_size: Images per step.
        test: Number of test images that are used; 0 = all.
    """

    name: str
    half: str
    data: tuple[str, ...]
    network: tuple[str, ...]
    optimizer: str
    lr: float
    epochs: int
    small: tuple[str, ...]
    deep: tuple[str, ...]
    batch_size: int = 32
    test: int = 0

    @property
    def overrides(self) -> tuple[str, ...]:
        """The healthy config."""
        data = () if self.data == ("shapes",) else self.data
        return (
            *ALWAYS, *data, *self.network, f"optimizer={self.optimizer}", f"optimizer.lr={self.lr:g}", f"epochs={self.epochs}",
            f"batch_size={self.batch_size}",
        )  # fmt: skip


def mlp(*widths: int, norm: str = "none") -> tuple[str, ...]:
    return "architecture=mlp", f"architecture.widths={list(widths)}", f"architecture.norm={norm}"


def cnn(*widths: int, norm: str = "batch") -> tuple[str, ...]:
    return "architecture=cnn", f"architecture.widths={list(widths)}", f"architecture.norm={norm}"


DIGITS, MNIST = ("data=digits", "data.validation=300"), ("data=mnist5k", "data.test=800")
MNIST1500, MNIST2000 = (*MNIST, "data.limit=1500"), (*MNIST, "data.limit=2000")
MNIST1000, PLAIN, NORMED = (*MNIST, "data.limit=1000"), cnn(16, 32, norm="none"), mlp(48, 48, norm="batch")
CNN = cnn(8, 16, 32, norm="none")
RESNET8 = ("architecture=resnet20", "architecture.depth=8")
FASHION = ("data=fashion_mnist", "data.download=false", "data.validation=800", "data.limit=2000")
SETTINGS = (
    Setting("digits, mlp, momentum", "tuning", DIGITS, mlp(64, 64), "momentum", 0.05, 15, mlp(2), mlp(*[100] * 6)),
    Setting("mnist5k, cnn, momentum", "tuning", MNIST1500, cnn(8, 16, 32), "momentum", 0.05, 10, cnn(1), mlp(*[64] * 8)),
    Setting("shapes, cnn, adam", "tuning", ("shapes",), cnn(12, 24, 32, norm="none"), "adam", 0.003, 15, cnn(1), mlp(*[80] * 7)),
    Setting("digits, resnet8, adam", "tuning", (*DIGITS, "data.limit=600"), RESNET8, "adam", 0.005, 8, mlp(2), mlp(*[64] * 6)),
    Setting("digits, cnn, adam", "tuning", DIGITS, cnn(16, 32), "adam", 0.005, 10, cnn(1), mlp(*[80] * 8)),
    Setting("mnist5k, mlp, adam", "tuning", MNIST, mlp(128, 64), "adam", 0.001, 8, mlp(2), mlp(*[100] * 7)),
    Setting("shapes, resnet8, momentum", "tuning", ("shapes",), RESNET8, "momentum", 0.05, 6, cnn(1), mlp(*[64] * 7)),
    Setting("mnist5k, cnn, nesterov", "tuning", MNIST2000, CNN, "nesterov", 0.02, 10, cnn(1), mlp(*[90] * 6)),
    Setting("digits, cnn without norm, momentum", "held out", DIGITS, PLAIN, "momentum", 0.03, 12, cnn(1), mlp(*[80] * 6)),
    Setting("digits, mlp with norm, nesterov", "held out", DIGITS, NORMED, "nesterov", 0.03, 10, mlp(2), mlp(*[64] * 8)),
    Setting("mnist5k, cnn, adam", "held out", MNIST1000, cnn(8, 16, 32), "adam", 0.005, 10, cnn(1), mlp(*[90] * 7)),
    Setting("shapes, cnn, momentum", "held out", ("shapes",), cnn(12, 24, 32), "momentum", 0.05, 12, cnn(1), mlp(*[100] * 6)),
    Setting("fashion, cnn, nesterov", "held out", FASHION, cnn(16, 32, 64), "nesterov", 0.05, 10, cnn(1), mlp(*[80] * 7),
            test=1000),
)  # fmt: skip


def drawn(count: int, seed: int) -> list[Setting]:
    """Settings that nobody has chosen: data, number of images, network, optimizer, learning rate and batch size at random."""
    rng = random.Random(seed)
    found: list[Setting] = []
    for number in range(count):
        data = rng.choice((DIGITS, (*MNIST, f"data.limit={rng.randrange(800, 3000, 100)}"), ("shapes",), FASHION))
        normed, deep = rng.random() < 0.6, mlp(*[rng.randrange(64, 112, 8)] * rng.randint(6, 8))
        norm, kind = "batch" if normed else "none", rng.choice(("mlp", "cnn", "cnn", "resnet"))
        if kind == "mlp" and data == ("shapes",):  # which a plain mlp does not learn
            kind = "cnn"
        if kind == "mlp":
            network, small = mlp(*(rng.randrange(48, 200, 8) for _ in range(rng.randint(1, 3))), norm=norm), mlp(2)
        elif kind == "resnet":
            network, small, normed = RESNET8, cnn(1), True
        else:
            width = rng.randrange(8, 20, 2)
            network, small = cnn(*(width * 2**i for i in range(rng.randint(2, 3))), norm=norm), cnn(1)
        optimizer = rng.choice(("momentum", "nesterov", "adam"))
        usual = (0.004 if normed else 0.002) if optimizer == "adam" else (0.05 if normed else 0.02)
        described = f"{kind} with{'' if normed else 'out'} norm"
        lr, epochs, batch_size = usual * rng.uniform(0.7, 1.4), rng.randint(10, 15), rng.choice((24, 32, 48))
        name = f"drawn {seed}.{number}, {data[0].removeprefix('data=')}, {described}, {optimizer}"
        used = 1000 if data == FASHION else 0
        found.append(
            Setting(name, "drawn", data, network, optimizer, float(f"{lr:.2g}"), epochs, small, deep, batch_size, used)
        )
    return found


def present(setting: Setting) -> bool:
    """Whether the data of a setting are on this machine: nothing is downloaded."""
    root = Path(os.environ.get("TRAINER_DATA", "~/.cache/trainer/data")).expanduser()
    return setting.data != FASHION or (root / "FashionMNIST/raw/train-images-idx3-ubyte").is_file()


def shapes(count: int, seed: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Color images uint8 (N, size, size, 3) of one of ``SHAPES`` each, of any place, color and size, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(SHAPES)
    y, x = np.mgrid[:size, :size].astype(float)
    images = np.empty((count, size, size, 3), np.uint8)
    for i, label in enumerate(labels):
        radius = rng.uniform(2.5, 4)
        u, v = x - rng.uniform(radius, size - 1 - radius), y - rng.uniform(radius, size - 1 - radius)
        round_, square = np.hypot(u, v), np.maximum(abs(u), abs(v))
        inside = square <= radius
        mask = (
            round_ <= radius, abs(round_ - radius + 0.5) <= 1, inside, abs(square - radius + 0.5) <= 1,
            inside & (np.minimum(abs(u), abs(v)) <= 1), inside & (np.minimum(abs(u - v), abs(u + v)) <= 1.5),
        )[label]  # fmt: skip
        back, front = rng.uniform(0, 100, 3), rng.uniform(130, 255, 3)
        image = np.where(mask[..., None], front, back) + rng.normal(0, 25, (size, size, 3))
        images[i] = image.clip(0, 255)
    return images, labels


def shape_splits() -> Splits:
    """Generated color images: 800 for training, 400 each for validation and test."""
    parts = [ImageArray(*shapes(count, seed)) for seed, count in enumerate((800, 400, 400))]
    pixels = parts[0].images / 255
    mean, std = (tuple(map(float, f(pixels, axis=(0, 1, 2)))) for f in (np.mean, np.std))
    return Splits(*parts, SHAPES, (3, 12, 12), mean, std)
