"""From a config and its data to the loaders of a run: where images are kept, how they are augmented, which targets they have."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypedDict

import numpy as np
from torch import nn

from trainer.architectures.layers import forward_once
from trainer.augmentation.batched import BatchedPipeline, unsupported
from trainer.augmentation.per_image import PerImagePipeline
from trainer.augmentation.transforms import AnyTransform
from trainer.config.schema import Config
from trainer.data import Splits
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.in_memory import InMemoryLoader
from trainer.data.sampling import class_quotas
from trainer.data.streaming import StreamingLoader
from trainer.engine import distributed
from trainer.engine.info import Info
from trainer.engine.loader import Loader
from trainer.errors import ConfigError, Problem
from trainer.hardware import Precision
from trainer.tasks.task import Task

EVALUATED_VALUES = 256 * 3 * 128 * 128  # pixel values of an evaluation batch, at most
IN_MEMORY_LIMIT = 4 * 2**30  # bytes of uint8 images up to which data.loading=auto keeps them in memory


class Loaders(TypedDict):
    """The loaders of a run; None for a split without images."""

    train: Loader
    validation: Loader | None
    test: Loader | None


def build_loaders(config: Config, splits: Splits, task: Task, precision: Precision, notes: list[str]) -> Loaders:
    """The loaders of all splits."""
    transforms = [t for t in config.augmentation.values() if t is not None]
    in_memory = choose_loading(config, splits, transforms, notes)
    count = len(splits.train)
    size = count if config.batch_size == "full" else min(config.batch_size, count)
    if config.batch_size != "full" and config.batch_size > count:
        steps = max(1, 2 ** int(math.log2(max(1, count // 4))))
        notes.append(
            f"batch_size={config.batch_size} is more than the {count} training images: all of them are a batch, as with"
            f" batch_size=full; batch_size={steps} takes several steps per epoch"
        )
    loader = loader_constructor(config, splits, precision, in_memory)
    pipeline = (BatchedPipeline if in_memory else PerImagePipeline)(transforms, splits.shape) if transforms else None
    train = loader(
        splits.train,
        batch_size=size,
        seed=config.seed,
        pipeline=pipeline,
        drop_last=config.data.drop_last,
        targets=task.encode(splits.train, train=True),
        sampling=config.data.sampling,
        classes=sampled_classes(config, splits, task, notes),
    )
    validation, test = (
        loader(split, batch_size=evaluation_batch(splits.shape), shuffle=False, targets=task.encode(split, train=False))
        if split is not None and len(split)
        else None
        for split in (splits.validation, splits.test)
    )
    return Loaders(train=train, validation=validation, test=test)


def evaluation_batch(shape: tuple[int, int, int]) -> int:
    """Return the number of images (C, H, W) of an evaluation batch: a power of two from 16 to 256, fewer of large images.

    It depends on nothing else, so that a checkpoint has the same scores in a run, in ``job=evaluate`` and in an ensemble: in bf16
    the outputs of an image depend on the size of its batch.

    >>> evaluation_batch((1, 28, 28)), evaluation_batch((3, 224, 224)), evaluation_batch((3, 2000, 2000))
    (256, 64, 16)
    """
    largest = EVALUATED_VALUES // math.prod(shape)
    return min(256, max(16, 2 ** (largest.bit_length() - 1))) if largest else 16


def sampled_classes(config: Config, splits: Splits, task: Task, notes: list[str]) -> np.ndarray | None:
    """The class of each training image if classes are not sampled as they are; their proportions are added to ``notes``."""
    sampling = config.data.sampling
    if sampling == "natural":
        return None
    part = task.class_part
    if part is None:
        text = "needs a task with classes"
        raise ConfigError(Problem("data.sampling", sampling, text, "data.sampling=natural"))
    classes = splits.train.target(part.spec.target)
    quotas = class_quotas(np.bincount(classes[classes >= 0], minlength=part.size), sampling)
    shown = ", ".join(f"{name} {n:,}" for name, n in list(zip(part.classes, quotas.tolist(), strict=True))[:10])
    notes.append(f"sampling {sampling}: images per epoch {shown}{', ...' if part.size > 10 else ''}")
    return classes


def loader_constructor(config: Config, splits: Splits, precision: Precision, in_memory: bool) -> Callable[..., Loader]:
    """The class of the loaders of a run, with the arguments that they have in common."""
    constructor: Callable[..., Loader] = InMemoryLoader
    if not in_memory:
        data = config.data
        constructor = partial(
            StreamingLoader, shape=splits.shape, num_workers=data.num_workers, worker_type=data.worker_type
        )
    return partial(
        constructor,
        mean=splits.mean,
        std=splits.std,
        per_image=config.data.normalize == "channel",
        device=precision.device,
        channels_last=precision.channels_last,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def look(
    config: Config, info: Info, splits: Splits, split: str, model: nn.Module, precision: Precision, task: Task
) -> Loader:
    """A loader of one split for a trained model; ConfigError if the model cannot take images of this size."""
    if splits.shape != info.shape:
        try:
            forward_once(model, splits.shape)
        except RuntimeError:
            (h, w), (own_h, own_w) = splits.shape[1:], info.shape[1:]
            text = f"has images of {h} x {w} pixels; this model accepts only {own_h} x {own_w}"
            raise ConfigError(Problem("data", config.name("data"), text)) from None
    images = splits.by_name[split]
    loader = loader_constructor(config, splits, precision, isinstance(images, ImageArray))
    return loader(
        images, batch_size=evaluation_batch(splits.shape), shuffle=False, targets=task.encode(images, train=False)
    )


def choose_loading(config: Config, splits: Splits, transforms: list[AnyTransform], notes: list[str]) -> bool:
    """Return whether the images are kept in memory; what ``auto`` chooses, and why, is added to ``notes``."""
    loading, unbatched = config.data.loading, unsupported(transforms)
    no_batched_form = f"{', '.join(unbatched)} has no batched form"
    if loading == "in_memory" and (unbatched or isinstance(splits.train, ImageFiles)):
        reason = no_batched_form if unbatched else "the images are files that have to be decoded"
        text = f"is not possible: {reason}"
        raise ConfigError(Problem("data.loading", loading, text, "data.loading=streaming or auto"))
    if loading != "auto":
        return loading == "in_memory"
    if isinstance(splits.train, ImageFiles):
        notes.append("streaming images: they are decoded from files")
        return False
    if unbatched:
        notes.append(f"streaming images: {no_batched_form}")
        return False
    if splits.train.nbytes > IN_MEMORY_LIMIT:
        notes.append(f"streaming images: they take more than {IN_MEMORY_LIMIT / 2**30:g} GiB")
        return False
    notes.append("images in memory, augmented per batch")
    return True
