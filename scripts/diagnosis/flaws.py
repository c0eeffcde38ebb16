"""Flaws of data and network that no override makes."""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import nn

from trainer.data import Splits
from trainer.data.images import ImageArray, Images
from trainer.data.loader import Loader
from trainer.engine.run import Run


def with_labels(images: Images, labels: np.ndarray) -> ImageArray:
    assert isinstance(images, ImageArray)
    return ImageArray(images.images, labels)


def noisy(images: Images | None, fraction: float, seed: int) -> ImageArray | None:
    """The images, a fraction of which has a random label."""
    if images is None:
        return None
    rng = np.random.default_rng([seed, 3])
    wrong = rng.random(len(images)) < fraction
    return with_labels(images, np.where(wrong, rng.integers(0, images.labels.max() + 1, len(images)), images.labels))


def shuffled_labels(splits: Splits, seed: int) -> Splits:
    """Labels that have nothing to do with the images, in all splits."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rng = np.random.default_rng([seed, 4])
    changed = {name: with_labels(p, rng.permutation(p.labels)) for name, p in parts.items() if p is not None}
    return dataclasses.replace(splits, **changed)


def label_noise(splits: Splits, seed: int) -> Splits:
    """30 % of the labels of training and validation images are random."""
    return dataclasses.replace(
        splits, train=noisy(splits.train, 0.3, seed), validation=noisy(splits.validation, 0.3, seed + 1)
    )


def mixed_classes(splits: Splits, seed: int) -> Splits:
    """The images of two classes have either label at random, in all splits."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rng = np.random.default_rng([seed, 6])
    two, changed = rng.permutation(int(splits.train.labels.max()) + 1)[:2], {}
    for name, part in parts.items():
        if part is not None:
            labels, chosen = part.labels.copy(), np.isin(part.labels, two)
            labels[chosen] = rng.choice(two, chosen.sum())
            changed[name] = with_labels(part, labels)
    return dataclasses.replace(splits, **changed)


def blank_images(splits: Splits, seed: int) -> Splits:
    """A fifth of the images of training and validation is black, as where files could not be read."""
    rng, changed = np.random.default_rng([seed, 7]), {}
    for name, part in {"train": splits.train, "validation": splits.validation}.items():
        if part is not None:
            assert isinstance(part, ImageArray)
            images = part.images.copy()
            images[rng.random(len(part)) < 0.2] = 0
            changed[name] = ImageArray(images, part.labels)
    return dataclasses.replace(splits, **changed)


def leaked(splits: Splits, seed: int) -> Splits:
    """A fifth of the test images are training images, too."""
    assert isinstance(splits.train, ImageArray)
    assert isinstance(splits.test, ImageArray)
    count = len(splits.test) // 5
    images = np.concatenate([splits.train.images, splits.test.images[:count]])
    labels = np.concatenate([splits.train.labels, splits.test.labels[:count]])
    return dataclasses.replace(splits, train=ImageArray(images, labels))


def imbalanced(splits: Splits, seed: int) -> Splits:
    """The numbers of training images per class fall exponentially to a thirtieth."""
    rng, labels = np.random.default_rng([seed, 5]), splits.train.labels
    classes, kept = int(labels.max()) + 1, []
    for rank, label in enumerate(rng.permutation(classes)):
        members = rng.permutation(np.flatnonzero(labels == label))
        kept.append(members[: max(3, round(len(members) * 30 ** (-rank / (classes - 1))))])
    return dataclasses.replace(splits, train=splits.train.subset(np.sort(np.concatenate(kept))))


def inverted_test(splits: Splits, seed: int) -> Splits:
    """Test images as negatives, as from another scanner."""
    assert isinstance(splits.test, ImageArray)
    return dataclasses.replace(splits, test=ImageArray(255 - splits.test.images, splits.test.labels))


def shifted_test(splits: Splits, seed: int) -> Splits:
    """Test labels that are numbered from one on, the last class first."""
    assert isinstance(splits.test, ImageArray)
    labels = (splits.test.labels + 1) % (splits.test.labels.max() + 1)
    return dataclasses.replace(splits, test=with_labels(splits.test, labels))


def dark(splits: Splits, seed: int) -> Splits:
    """Normalized as if the images had pixel values of 0 to 1: the network sees numbers in the hundreds."""
    channels = len(splits.mean)
    return dataclasses.replace(splits, mean=(0.0,) * channels, std=(1 / 255,) * channels)


def sorted_by_class(splits: Splits, seed: int) -> Splits:
    """Training images in the order of their classes."""
    return dataclasses.replace(splits, train=splits.train.subset(np.argsort(splits.train.labels, kind="stable")))


def unshuffled(run: Run) -> None:
    """Batches in the order of the data set, as from a loader of one's own that does not shuffle."""
    assert isinstance(run.train, Loader)
    run.train.shuffle = False


def dead_bias(model: nn.Module) -> None:
    """Biases, in normalization layers too, so low that most units of all hidden layers are below zero for every image."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.modules.batchnorm._BatchNorm)]
    for layer in layers[:-1]:
        if layer.bias is not None:
            layer.bias.data.fill_(-4.0)


def frozen(model: nn.Module) -> None:
    """All layers but the last keep their initial weights."""
    for parameter in list(model.parameters())[:-2]:
        parameter.requires_grad_(False)
