"""The one place where options become objects: Config -> Run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.architectures.layers import find_head, weight_layers
from trainer.architectures.networks import forward_once
from trainer.augmentation.batched import BatchedPipeline, unsupported
from trainer.augmentation.per_image import PerImagePipeline
from trainer.config.constraints import check_against_data, optimizer_and_schedule
from trainer.config.instantiate import External
from trainer.config.schema import Config
from trainer.data import Splits
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.in_memory import InMemoryLoader
from trainer.data.streaming import StreamingLoader
from trainer.engine import checkpoint, distributed
from trainer.engine.cuda_graph import CUDAGraphStep
from trainer.engine.evaluation import has_batch_norm
from trainer.engine.run import Info, Loader, Precision, Run
from trainer.engine.step import gradients, update
from trainer.errors import ConfigError, Problem
from trainer.hardware import resolve_device, resolve_precision
from trainer.initialization import Initialization, Pretrained
from trainer.optimizers import ExternalOptimizer, Optimizer
from trainer.optimizers.param_groups import parameter_groups
from trainer.regularizers import Chain
from trainer.schedules import Product

RESIDENT_LIMIT = 4 * 2**30  # bytes of uint8 pictures that are held in memory without being asked to


def build(config: Config, folder: Path | None = None, splits: Splits | None = None) -> Run:
    """Construct everything a run is made of; ConfigError where the parts do not fit the data or each other."""
    device = resolve_device(config.device, config.engine.kind)
    precision = resolve_precision(device, config.precision, config.engine.channels_last)
    notes = config.engine.apply(precision)
    notes += [*config.notes, *(f"{key} = {value:g}, by a range test" for key, value in config.range_test.items())]
    splits = splits or load_splits(config)
    loaders = build_loaders(config, splits, precision, notes)
    torch.manual_seed(config.seed)
    regularizer = Chain(config.regularizer)
    model = build_model(config, splits, loaders["train"], precision)
    model = place(regularizer.model(model), precision)
    if config.engine.sync_batch_norm and distributed.world_size() > 1:
        model = distributed.convert_sync_batch_norm(model, device)
    option = optimizer_option(config)
    last = loaders["train"].size_of(len(loaders["train"]) - 1)
    problems = check_against_data(config, splits, last, has_batch_norm(model), distributed.world_size())
    problems += optimizer_and_schedule(config, option)
    if problems:
        raise ConfigError(*problems)
    if splits.validation is None:
        notes.append("no validation pictures: the last weights are taken for the best")
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
        forward=distributed.wrap(model, device) if distributed.world_size() > 1 else None,
    )
    enable_fast_path(run, config)
    return run


def enable_fast_path(run: Run, config: Config) -> None:
    """Compile and record the training step where the engine option asks for it and the device can.

    The network is compiled in place, so that names and checkpoints stay.
    """
    engine, on_gpu = config.engine, run.precision.device.type == "cuda"
    if engine.compile != "off":
        run.model.compile(mode=None if engine.compile == "default" else engine.compile, dynamic=False)
        run.notes.append(f"the network is compiled ({engine.compile}): the first step takes long")
    if engine.graph == "on" and not on_gpu:
        raise ConfigError(Problem("engine.graph", "on", "is for a GPU", "engine.graph=auto"))
    plain = config.micro_batch is None and distributed.world_size() == 1 and engine.compile in ("off", "default")
    if engine.graph != "off" and on_gpu and plain:
        run.capture = CUDAGraphStep(gradients, update, run.notes.append)


def load_splits(config: Config) -> Splits:
    """The data, with the pretrained weights' normalisation where the config asks for it."""
    data = config.data
    if data.normalize == "pretrained":
        normalization = getattr(config.architecture, "normalization", lambda: None)()
        if isinstance(config.initialization, Pretrained):
            found = checkpoint.load_network(config.initialization.path, "best", "initialization.path")
            normalization = (tuple(found["info"]["mean"]), tuple(found["info"]["std"]))
        if normalization is None:
            raise ConfigError(
                Problem("data.normalize", "pretrained", "needs an architecture with pretrained weights",
                        "architecture=torchvision architecture.weights=..., initialization=pretrained, or data.normalize=dataset")
            )  # fmt: skip
        return data.load(normalization)
    return data.load()


def build_model(config: Config, splits: Splits, train: Loader, precision: Precision) -> nn.Module:
    """The network, initialised."""
    option = config.architecture
    model = build_architecture(option, splits.shape, splits.classes, config.activation)
    prior = splits.prior
    batch = next(iter(train.batches(0)))[0] if config.initialization.needs_batch else None
    start = config.initialization
    if isinstance(start, Pretrained):
        Initialization().apply(model, config.activation, prior=prior, head_only=True)
        load_pretrained_weights(model, start)
        return model
    start.apply(model, config.activation, prior=prior, batch=batch, head_only=getattr(option, "pretrained", False))
    return model


def load_pretrained_weights(model: nn.Module, option: Pretrained) -> None:
    """Put another run's weights into the network, all but the head's where these are to be new."""
    content = checkpoint.load_network(option.path, option.prefer, "initialization.path")
    weights, mine = checkpoint.weights_of(content), model.state_dict()
    if option.head == "new":
        head = find_head(model)[0]
        weights = {k: v for k, v in weights.items() if not k.startswith(f"{head}.")}
        mine = {k: v for k, v in mine.items() if not k.startswith(f"{head}.")}
    wrong = sorted(set(mine) ^ set(weights)) or [k for k in mine if mine[k].shape != weights[k].shape]
    if wrong:
        there, here = (f"{tuple(d[wrong[0]].shape)}" if wrong[0] in d else "none" for d in (weights, mine))
        text = f"holds another network: {wrong[0]} is {there} there, {here} here"
        hint = "the same architecture, regularizers that are layers included"
        raise ConfigError(Problem("initialization.path", option.path, text, hint))
    model.load_state_dict(weights, strict=False)


def build_architecture(
    option: Any, shape: tuple[int, int, int], classes: tuple[str, ...], activation: Any
) -> nn.Module:
    """The network as its class builds it; a foreign class gets what of num_classes, in_channels, shape it takes."""
    num_classes = len(classes)
    if not isinstance(option, External):
        return option.build(shape, num_classes, activation)
    known = {"num_classes": num_classes, "in_channels": shape[0], "shape": shape}
    return option.target(**{k: v for k, v in known.items() if option.accepts(k)} | option.arguments)


def place(model: nn.Module, precision: Precision) -> nn.Module:
    """The model on its device, its convolutions' weights in the memory format that is fastest."""
    if precision.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model.to(precision.device)


def optimizer_option(config: Config) -> Optimizer:
    """The optimizer option; a class of ``torch.optim`` or the user's is wrapped so that it looks like ours."""
    option = config.optimizer
    return ExternalOptimizer.wrap(option.target, option.arguments) if isinstance(option, External) else option


def build_loaders(config: Config, splits: Splits, precision: Precision, notes: list[str]) -> dict[str, Any]:
    """The three sets on their way to the model, as ``train``, ``validation`` and ``test``; None where there is none."""
    transforms = [t for t in config.augmentation.values() if t is not None]
    resident = choose_loading(config, splits, transforms, notes)
    size = len(splits.train) if config.batch_size == "full" else min(config.batch_size, len(splits.train))
    kind, common = loader_class(config, splits, precision, resident)
    pipeline = (BatchedPipeline if resident else PerImagePipeline)(transforms, splits.shape) if transforms else None
    train = kind(
        splits.train, **common, batch_size=size, seed=config.seed, pipeline=pipeline, drop_last=config.data.drop_last
    )
    at_once = min(max(config.micro_batch or size, 64), 512)
    rest = {
        name: kind(part, **common, batch_size=at_once, shuffle=False) if part is not None and len(part) else None
        for name, part in (("validation", splits.validation), ("test", splits.test))
    }
    return {"train": train, **rest}


def loader_class(config: Config, splits: Splits, precision: Precision, resident: bool) -> tuple[Any, dict[str, Any]]:
    """The class of loader and what all loaders of a run are told."""
    common: dict[str, Any] = {
        "num_classes": len(splits.classes),
        "mean": splits.mean,
        "std": splits.std,
        "per_picture": config.data.normalize == "channel",
        "device": precision.device,
        "channels_last": precision.channels_last,
        "process": distributed.rank(),
        "processes": distributed.world_size(),
    }
    if resident:
        return InMemoryLoader, common
    return StreamingLoader, common | {
        "shape": splits.shape,
        "num_workers": config.data.num_workers,
        "worker_type": config.data.worker_type,
    }


def compute(config: Config) -> Precision:
    """Where and in which type a trained network computes."""
    device = resolve_device(config.device, config.engine.kind)
    precision = resolve_precision(device, config.precision, config.engine.channels_last)
    config.engine.apply(precision)
    return precision


def network(config: Config, info: Info) -> nn.Module:
    """The network of a checkpoint, its weights still to be loaded."""
    option = config.architecture
    if getattr(option, "weights", None) is not None:
        option = dataclasses.replace(option, weights=None)  # the checkpoint has its own
    # What is only compared with in training need not be there any more.
    regularizers = {
        name: dataclasses.replace(part, reference=None) if getattr(part, "reference", None) else part
        for name, part in config.regularizer.items()
    }
    return Chain(regularizers).model(build_architecture(option, info.shape, info.classes, config.activation))


def look(config: Config, info: Info, splits: Splits, split: str, model: nn.Module, precision: Precision) -> Loader:
    """One part of the data to put before a trained network, whose size it has to fit."""
    if splits.shape != info.shape:
        try:
            forward_once(model, splits.shape)
        except RuntimeError:
            (h, w), (own_h, own_w) = splits.shape[1:], info.shape[1:]
            text = f"pictures are {h} x {w}; this network takes {own_h} x {own_w} only"
            raise ConfigError(Problem("data", config.name("data"), text)) from None
    pictures = getattr(splits, split)
    kind, common = loader_class(config, splits, precision, isinstance(pictures, ImageArray))
    return kind(pictures, **common, batch_size=256, shuffle=False)


def choose_loading(config: Config, splits: Splits, transforms: list[Any], notes: list[str]) -> bool:
    """Whether the pictures are resident on the device; what was chosen for the user, and why, goes to ``notes``."""
    way = config.data.way
    obstacles = unsupported(transforms)
    in_memory = isinstance(splits.train, ImageArray)
    if way == "resident" and (obstacles or not in_memory):
        why = f"{', '.join(obstacles)} has no batched form" if obstacles else "the pictures are files to be decoded"
        raise ConfigError(Problem("data.way", way, f"is not possible: {why}", "data.way=workers or auto"))
    if way != "auto":
        return way == "resident"
    if isinstance(splits.train, ImageFiles):
        notes.append("pictures are decoded by workers")
        return False
    if obstacles:
        notes.append(f"pictures go through workers: {', '.join(obstacles)} has no batched form")
        return False
    resident = splits.train.nbytes <= RESIDENT_LIMIT
    notes.append(
        "pictures are resident, augmented by the batch" if resident else "pictures are too many to be resident"
    )
    return resident
