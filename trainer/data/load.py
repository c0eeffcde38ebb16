"""Load a data set: read it, hold out images, limit the training split, fill the cache, and measure."""

from __future__ import annotations

from trainer.data.cache import cached_images
from trainer.data.images import ImageArray, ImageFiles, Images
from trainer.data.options import Dataset, FileDataset
from trainer.data.splits import Normalization, Splits
from trainer.data.statistics import normalization_constants
from trainer.data.stratified import stratified_split
from trainer.errors import ConfigError, Problem


def load(option: Dataset, normalization: Normalization | None = None) -> Splits:
    """Return the splits of a data set, see ``Dataset.load``."""
    train, validation, test, classes, notes, targets = option.read()
    if len(classes) < 2 and not targets:
        raise ConfigError(Problem("data", ", ".join(classes) or "none", "must have at least two classes"))
    if validation is None and option.validation:
        rest, held_out = stratified_split(train.labels, option.validation, option.split_seed, "data.validation")
        train, validation = train.subset(rest), train.subset(held_out) if len(held_out) else None
    if option.limit is not None and option.limit < len(train):
        train = train.subset(stratified_split(train.labels, option.limit, option.split_seed, "data.limit")[1])
    train = _cached(train, option)
    validation, test = (None if images is None else _cached(images, option) for images in (validation, test))
    shape = image_shape(train, option)
    mean, std = normalization or normalization_constants(option.normalize, train, shape)
    return Splits(train, validation, test, classes, shape, mean, std, notes, targets)


def _cached(images: Images, option: Dataset) -> Images:
    """Decode the images of files into the cache, if the option asks for one."""
    if isinstance(option, FileDataset) and option.cache != "none" and isinstance(images, ImageFiles) and len(images):
        return cached_images(images, option.size, option.cache)
    return images


def image_shape(images: Images, option: Dataset) -> tuple[int, int, int]:
    """Return the (C, H, W) in which images reach the network."""
    if isinstance(images, ImageArray):
        return images.shape
    assert isinstance(option, FileDataset)  # no other data set has files
    return images.channels, option.size, option.size
