"""Load a data set: read it, hold out images, limit the training split, fill the cache, and measure."""

from __future__ import annotations

import numpy as np

from trainer.data.cache import cached_images
from trainer.data.decode import Undecodable
from trainer.data.identity import digest
from trainer.data.images import ImageArray, ImageFiles, Images
from trainer.data.inventory import shortened
from trainer.data.options import Dataset, FileDataset
from trainer.data.own import OwnData, OwnImages
from trainer.data.readable import all_undecodable
from trainer.data.splits import DROPPED_COLORS, Normalization, Splits
from trainer.data.statistics import normalization_constants
from trainer.data.stratified import RANDOM, stratified_split
from trainer.data.targets import LABEL, MISSING_CLASS, Known, Target
from trainer.errors import ConfigError, Problem


def load(option: Dataset, normalization: Normalization | None = None) -> Splits:
    """Return the splits of a data set, see ``Dataset.load``."""
    raw = option.read()
    train, validation, test, classes, notes, targets = raw
    targets = targets or (Target(LABEL, "classification", classes),)
    _check_number_of_classes(targets)
    if validation is None and option.validation:
        rest, held_out = stratified_split(train.labels, option.validation, option.split_seed, "data.validation")
        train, validation = train.subset(rest), train.subset(held_out) if len(held_out) else None
        notes += () if classes or RANDOM in notes else (RANDOM,)
    if isinstance(option, OwnImages):
        _check_classes(train, targets)
    if isinstance(train, ImageFiles) and train.channels == 1 and train.have_colors():
        notes += (DROPPED_COLORS,)
    if option.limit is not None and option.limit > len(train):
        notes += (f"data.limit={option.limit} changes nothing: there are {len(train):,} training images",)
    elif option.limit is not None and option.limit < len(train):
        train = train.subset(stratified_split(train.labels, option.limit, option.split_seed, "data.limit")[1])
    train = _cached(train, option)
    validation, test = (None if images is None else _cached(images, option) for images in (validation, test))
    shape = image_shape(train, option)
    try:
        mean, std = for_channels(normalization, shape[0]) or normalization_constants(option.normalize, train, shape)
    except Undecodable as error:
        assert isinstance(train, ImageFiles)
        raise all_undecodable(train, error) from None
    crop = (option.crop, option.resizing) if isinstance(option, FileDataset) else (None, None)
    return Splits(train, validation, test, classes, shape, mean, std, notes, targets, digest(raw), *crop)


def for_channels(normalization: Normalization | None, channels: int) -> Normalization | None:
    """Return the normalization for images of another number of channels than it has: the mean over its channels.

    >>> for_channels(((0.25, 0.75), (0.5, 0.5)), 1)
    ((0.5,), (0.5,))
    """
    if normalization is None or len(normalization[0]) == channels:
        return normalization
    mean, std = ((sum(values) / len(values),) * channels for values in normalization)
    return mean, std


def load_known(option: OwnData, known: Known, normalization: Normalization) -> Splits:
    """Return a data set for a network that knows some classes, of which not all have to occur; nothing is held out.

    The splits are those the data set comes with; without any, all images are in ``train``.
    """
    raw = option.read_known(known)
    train, validation, test = (None if part is None else _cached(part, option) for part in raw[:3])
    assert train is not None
    shape = image_shape(train, option)
    undivided = validation is None and test is None
    return Splits(
        train, validation, test, raw.classes, shape, *normalization, raw.notes, raw.targets, digest(raw),
        undivided=undivided,
    )  # fmt: skip


def _check_number_of_classes(targets: tuple[Target, ...]) -> None:
    for target in targets:
        if target.kind == "classification" and len(target.classes) < 2:
            of = "" if target.name == LABEL else f"target {target.name} "
            text = f"{of}must have at least two classes"
            raise ConfigError(Problem("data", ", ".join(target.classes) or "none", text))


def _check_classes(train: Images, targets: tuple[Target, ...]) -> None:
    """Refuse classes that no training image is left of: files were left out, or held out from a class of few."""
    for target in targets:
        if target.kind == "classification":
            values = train.target(target.name)
            counts = np.bincount(values[values != MISSING_CLASS], minlength=len(target.classes))
            if missing := [target.classes[i] for i in np.flatnonzero(counts == 0)]:
                of = "" if target.name == LABEL else f"{target.name} "
                text = f"no image is left to train on of the {of}classes {shortened(missing, 5)}"
                hint = "add images or remove the class; data.test and data.validation hold out"
                raise ConfigError(Problem("", None, text, hint))


def _cached(images: Images, option: Dataset) -> Images:
    """Decode the images of files into the cache, if the option asks for one."""
    if (
        not isinstance(option, FileDataset)
        or option.cache == "none"
        or not isinstance(images, ImageFiles)
        or not len(images)
    ):
        return images
    try:
        return cached_images(images, option.size, option.cache)
    except Undecodable as error:
        raise all_undecodable(images, error) from None


def image_shape(images: Images, option: Dataset) -> tuple[int, int, int]:
    """Return the (C, H, W) in which images reach the network."""
    if isinstance(images, ImageArray):
        return images.shape
    assert isinstance(option, FileDataset)  # no other data set has files
    return images.channels, option.size, option.size
