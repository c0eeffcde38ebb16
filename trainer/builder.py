"""Build a ``Run`` from a ``Config``: the only place where options become models, loaders and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from trainer.architectures import Architecture, ExternalArchitecture
from trainer.architectures.layers import find_head, forward_once, norm_of_single_values, weight_layers
from trainer.augmentation.batched import BatchedPipeline, unsupported
from trainer.augmentation.per_image import PerImagePipeline
from trainer.augmentation.transforms import AnyTransform
from trainer.config.constraints import check_against_data, optimizer_and_schedule
from trainer.config.instantiate import External
from trainer.config.schema import Config
from trainer.data import Splits
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.in_memory import InMemoryLoader
from trainer.data.streaming import StreamingLoader
from trainer.engine import checkpoint, distributed
from trainer.engine.cuda_graph import CUDAGraphStep
from trainer.engine.run import Info, Loader, Run
from trainer.engine.step import gradients, update
from trainer.errors import ConfigError, Problem
from trainer.hardware import Precision, resolve_device, resolve_precision
from trainer.initialization import Initialization, Pretrained
from trainer.optimizers import ExternalOptimizer, Optimizer
from trainer.optimizers.param_groups import parameter_groups
from trainer.regularizers import Chain
from trainer.schedules import Product

IN_MEMORY_LIMIT = 4 * 2**30  # bytes of uint8 images up to which data.loading=auto keeps them in memory


def build(config: Config, folder: Path | None = None, splits: Splits | None = None) -> Run:
    """Build a run and everything it consists of.

    Raises:
        ConfigError: The options do not fit the data or each other.
    """
    device = resolve_device(config.device, config.engine.kind)
    precision = resolve_precision(device, config.precision, config.engine.channels_last)
    notes = config.engine.apply(precision)
    splits = splits or load_splits(config)
    notes += [
        *splits.notes,
        *config.notes,
        *(f"{key} = {value:g}, by an LR range test" for key, value in config.range_test.items()),
    ]
    loaders = build_loaders(config, splits, precision, notes)
    torch.manual_seed(config.seed)
    regularizer = Chain(config.regularizer)
    model = build_model(config, splits, loaders["train"], precision)
    model = to_device(regularizer.model(model), precision)
    if config.engine.sync_batch_norm and distributed.world_size() > 1:
        model = distributed.convert_sync_batch_norm(model, device)
    option = optimizer_option(config)
    last = loaders["train"].images_in(len(loaders["train"]) - 1)
    problems = check_against_data(
        config, splits, last, lambda: norm_of_single_values(model, splits.shape), distributed.world_size()
    )
    problems += optimizer_and_schedule(config, option)
    if problems:
        raise ConfigError(*problems)
    if splits.validation is None:
        notes.append("no validation images: the last weights count as the best")
    run = Run(
        model=model,
        optimizer=option.build(parameter_groups(weight_layers(model), option)),
        optimizer_option=option,
        phases=config.recipe.phases(config.epochs, Product(tuple(config.schedule.values()))),
        **loaders,
        regularizer=regularizer,
        averaging=config.averaging,
        precision=precision,
        info=Info(splits.classes, splits.shape, splits.mean, splits.std, config.tree),
        metric=config.metric,
        micro_batch=config.micro_batch,
        folder=folder,
        notes=notes,
        wrapped=distributed.wrap(model, device) if distributed.world_size() > 1 else None,
    )
    enable_fast_path(run, config)
    return run


def enable_fast_path(run: Run, config: Config) -> None:
    """Compile the model and capture the training step in a CUDA graph, as far as the engine option and the device allow.

    The model is compiled in place, so that names and checkpoints do not change.
    """
    engine, on_gpu = config.engine, run.precision.device.type == "cuda"
    if engine.compile != "off":
        run.model.compile(mode=None if engine.compile == "default" else engine.compile, dynamic=False)
        run.notes.append(f"the model is compiled ({engine.compile}): the first step takes up to a minute")
    if engine.graph == "on" and not on_gpu:
        raise ConfigError(Problem("engine.graph", "on", "needs a GPU", "engine.graph=auto"))
    capturable = config.micro_batch is None and distributed.world_size() == 1 and engine.compile in ("off", "default")
    if engine.graph != "off" and on_gpu and capturable:
        run.capture = CUDAGraphStep(gradients, update, run.notes.append)


def load_splits(config: Config) -> Splits:
    """The data, normalized as the pretrained weights need it if ``data.normalize=pretrained``."""
    data = config.data
    if data.normalize == "pretrained":
        normalization = architecture_option(config).normalization()
        if isinstance(config.initialization, Pretrained):
            info = checkpoint.load_network(config.initialization.path, "best", "initialization.path")["info"]
            normalization = (tuple(info["mean"]), tuple(info["std"]))
        if normalization is None:
            raise ConfigError(
                Problem("data.normalize", "pretrained", "needs an architecture with pretrained weights",
                        "architecture=torchvision architecture.weights=..., initialization=pretrained, or data.normalize=dataset")
            )  # fmt: skip
        return data.load(normalization)
    return data.load()


def build_model(config: Config, splits: Splits, train: Loader, precision: Precision) -> nn.Module:
    """The model with initialized weights."""
    option = architecture_option(config)
    model = option.build(splits.shape, len(splits.classes), config.activation)
    prior = splits.prior
    batch = next(iter(train.batches(0)))[0] if config.initialization.needs_batch else None
    initialization = config.initialization
    if isinstance(initialization, Pretrained):
        Initialization().apply(model, config.activation, prior=prior, head_only=True)
        load_pretrained_weights(model, initialization)
        return model
    initialization.apply(model, config.activation, prior=prior, batch=batch, head_only=option.pretrained)
    return model


def load_pretrained_weights(model: nn.Module, option: Pretrained) -> None:
    """Load another run's weights into the model, except those of the head if ``head=new``."""
    content = checkpoint.load_network(option.path, option.prefer, "initialization.path")
    weights, own = checkpoint.weights_of(content)["model"], model.state_dict()
    if option.head == "new":
        head = find_head(model)[0]
        weights = {k: v for k, v in weights.items() if not k.startswith(f"{head}.")}
        own = {k: v for k, v in own.items() if not k.startswith(f"{head}.")}
    different = sorted(set(own) ^ set(weights)) or [k for k in own if own[k].shape != weights[k].shape]
    if different:
        name = different[0]
        theirs, ours = (f"{tuple(d[name].shape)}" if name in d else "missing" for d in (weights, own))
        text = f"holds another network: {name} is {theirs} in the checkpoint, {ours} in this model"
        hint = "use the same architecture, and the same regularizers that add layers"
        raise ConfigError(Problem("initialization.path", option.path, text, hint))
    model.load_state_dict(weights, strict=False)


def to_device(model: nn.Module, precision: Precision) -> nn.Module:
    """The model on its device and in its memory format."""
    if precision.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model.to(precision.device)


def architecture_option(config: Config) -> Architecture:
    """The architecture option; an external class is wrapped in one."""
    option = config.architecture
    if isinstance(option, External):
        return ExternalArchitecture(target=option.target, arguments=option.arguments)
    return option


def optimizer_option(config: Config) -> Optimizer:
    """The optimizer option; an external class, such as one of ``torch.optim``, is wrapped in one."""
    option = config.optimizer
    return ExternalOptimizer.wrap(option.target, option.arguments) if isinstance(option, External) else option


class Loaders(TypedDict):
    """The loaders of a run; None for a split without images."""

    train: Loader
    validation: Loader | None
    test: Loader | None


def build_loaders(config: Config, splits: Splits, precision: Precision, notes: list[str]) -> Loaders:
    """The loaders of all splits."""
    transforms = [t for t in config.augmentation.values() if t is not None]
    in_memory = choose_loading(config, splits, transforms, notes)
    size = len(splits.train) if config.batch_size == "full" else min(config.batch_size, len(splits.train))
    loader = loader_constructor(config, splits, precision, in_memory)
    pipeline = (BatchedPipeline if in_memory else PerImagePipeline)(transforms, splits.shape) if transforms else None
    train = loader(splits.train, batch_size=size, seed=config.seed, pipeline=pipeline, drop_last=config.data.drop_last)
    evaluation_size = min(max(config.micro_batch or size, 64), 512)
    validation, test = (
        loader(split, batch_size=evaluation_size, shuffle=False) if split is not None and len(split) else None
        for split in (splits.validation, splits.test)
    )
    return Loaders(train=train, validation=validation, test=test)


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
        num_classes=len(splits.classes),
        mean=splits.mean,
        std=splits.std,
        per_image=config.data.normalize == "channel",
        device=precision.device,
        channels_last=precision.channels_last,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def compute(config: Config) -> Precision:
    """The precision in which a trained model computes; configures the process for it."""
    device = resolve_device(config.device, config.engine.kind)
    precision = resolve_precision(device, config.precision, config.engine.channels_last)
    config.engine.apply(precision)
    return precision


def network(config: Config, info: Info) -> nn.Module:
    """The model of a checkpoint, before its weights are loaded."""
    option = architecture_option(config).without_weights()  # they come from the checkpoint
    # A reference that regularizers compare with during training is not needed, and may no longer exist.
    regularizers = {name: regularizer.for_inference() for name, regularizer in config.regularizer.items()}
    return Chain(regularizers).model(option.build(info.shape, len(info.classes), config.activation))


def look(config: Config, info: Info, splits: Splits, split: str, model: nn.Module, precision: Precision) -> Loader:
    """A loader of one split for a trained model; ConfigError if the model cannot take images of this size."""
    if splits.shape != info.shape:
        try:
            forward_once(model, splits.shape)
        except RuntimeError:
            (h, w), (own_h, own_w) = splits.shape[1:], info.shape[1:]
            text = f"has images of {h} x {w} pixels; this model accepts only {own_h} x {own_w}"
            raise ConfigError(Problem("data", config.name("data"), text)) from None
    images = getattr(splits, split)
    loader = loader_constructor(config, splits, precision, isinstance(images, ImageArray))
    return loader(images, batch_size=256, shuffle=False)


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
