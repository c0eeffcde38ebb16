"""Build a ``Run`` from a ``Config``: the only place where options become models, loaders and optimizers."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.analysis.hyperparameters import hyperparameters
from trainer.architectures import Architecture, ExternalArchitecture
from trainer.architectures.layers import find_head, map_networks, side_by_side, weight_layers
from trainer.architectures.preprocessing import Preprocessing
from trainer.config.options import OptionFiles
from trainer.config.schema import Config
from trainer.data import FileDataset, Splits
from trainer.data.decode import resize_target
from trainer.data.identity import check_same_classes, identity
from trainer.data.splits import OTHER_NORMALIZATION
from trainer.data.targets import LABEL
from trainer.data_constraints import check_with_data, without_effect
from trainer.engine import checkpoint, distributed
from trainer.engine.activation_checkpointing import checkpoint_blocks
from trainer.engine.cuda_graph import CUDAGraphStep
from trainer.engine.freezing import freeze
from trainer.engine.guard import StepStart
from trainer.engine.info import Info
from trainer.engine.loader import Loader
from trainer.engine.run import Run
from trainer.engine.step import gradients, update
from trainer.engine.time_budget import TimeBudget
from trainer.errors import ConfigError, Problem
from trainer.hardware import Precision, resolve_device, resolve_precision
from trainer.initialization import Initialization, Pretrained
from trainer.instantiate import External
from trainer.loaders import build_loaders
from trainer.optimizers import ExternalOptimizer, Optimizer
from trainer.optimizers.param_groups import parameter_groups
from trainer.plain import constructing
from trainer.progress import activity
from trainer.regularizers import Chain
from trainer.schedules import Product
from trainer.tasks.history_columns import named_metrics
from trainer.tasks.missing import unlabelled_notes
from trainer.tasks.task import Task
from trainer.weight_files import weights_must_fit


def build(config: Config, folder: Path | None = None, splits: Splits | None = None) -> Run:
    """Build a run and everything it consists of.

    Raises:
        ConfigError: The options do not fit the data or each other.
    """
    device = resolve_device(config.device, config.engine.kind)
    precision = resolve_precision(device, config.precision, config.engine.channels_last)
    notes = config.engine.apply(precision)
    splits = splits or load_splits(config)
    notes += [*splits.notes, *config.notes]
    notes += [f"{key} = {value:g}, by an LR range test" for key, value in config.range_test.items()]
    task = config.task.build(splits, device, named_metrics(config.metric, config.options()).values())
    notes += [*unlabelled_notes(task, splits), *without_effect(config, splits.shape[0])]
    loaders = build_loaders(config, splits, task, precision, notes)
    regularizer = Chain({name: option.for_task(task) for name, option in config.regularizer.items()})
    model = build_model(config, splits, task, loaders["train"], notes)
    model = prepared(config, to_device(map_networks(regularizer.model, model), precision), splits, notes)
    option = optimizer_option(config)
    check_with_data(config, splits, task, loaders["train"], model, option)
    if splits.validation is None:
        notes.append("no validation images: the last weights count as the best")
    metric = task.main_metric if config.metric == "auto" else config.metric
    phases = config.recipe.phases(config.epochs, Product(tuple(config.schedule.values())))
    norms = freeze(model, config.recipe.frozen, phases)
    run = Run(
        model=model,
        optimizer=option.build(parameter_groups(weight_layers(model), option)),
        optimizer_option=option,
        phases=phases,
        never_trained_norms=norms,
        **loaders,
        regularizer=regularizer,
        averaging=config.averaging,
        precision=precision,
        task=task,
        info=Info(task.classes, splits.shape, splits.mean, splits.std, config.tree, task.as_tuple(), identity(splits)),
        metric=metric,
        hyperparameters=partial(
            hyperparameters, config.tree, list(config.set_keys), OptionFiles(config.config_dirs).option_name
        ),
        micro_batch=config.micro_batch,
        folder=folder,
        notes=notes,
        on_nan=config.engine.on_nan,
        budget=None if config.engine.budget_seconds is None else TimeBudget(config.engine.budget_seconds),
        step_start=StepStart(device) if config.engine.on_oom == "shrink" else None,
        wrapped=distributed.wrap(model, device) if distributed.world_size() > 1 else None,
    )
    enable_fast_path(run, config)
    return run


def prepared(config: Config, model: nn.Module, splits: Splits, notes: list[str]) -> nn.Module:
    """The model with what the engine option changes in its layers."""
    if config.engine.sync_batch_norm and distributed.world_size() > 1:
        model = distributed.convert_sync_batch_norm(model, next(model.parameters()).device)
    if config.engine.checkpoint_activations:
        count = checkpoint_blocks(model, splits.shape)
        notes.append(f"the activations within {count} blocks are computed again in the backward pass")
    return model


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
    # The one reads the state of the generators, the other decides on the CPU whether a step is left out.
    capturable &= not engine.checkpoint_activations and run.loss_scale is None
    if engine.graph != "off" and on_gpu and capturable:
        run.capture = CUDAGraphStep(gradients, update, run.notes.append)


@activity("loading the data")
def load_splits(config: Config) -> Splits:
    """The data, prepared as the pretrained weights need it if ``data.normalize=pretrained``."""
    data, weights = config.data, preprocessing(config)
    if data.normalize != "pretrained":
        splits = data.load()
        if weights is None or data.normalize == "channel":
            return splits
        return dataclasses.replace(splits, notes=(*splits.notes, OTHER_NORMALIZATION))
    if weights is None:
        raise ConfigError(
            Problem("data.normalize", "pretrained", "needs an architecture with pretrained weights",
                    "architecture=torchvision architecture.weights=..., initialization=pretrained, or data.normalize=dataset")
        )  # fmt: skip
    if isinstance(data, FileDataset):
        crop = weights.crop_pct if data.crop_pct == "auto" else data.crop_pct
        mode = weights.interpolation if data.interpolation == "auto" else data.interpolation
        data = dataclasses.replace(data, crop_pct=crop, interpolation=mode)
    splits = data.load(weights.normalization)
    text = f"as the pretrained weights: mean {rounded(splits.mean)}, standard deviation {rounded(splits.std)}"
    if isinstance(data, FileDataset):
        text += f", {data.resizing} to {resize_target(data.size, data.crop)}, crop {data.size}"
        text += f" (the weights: {weights.size})" if weights.size not in (0, data.size) else ""
    return dataclasses.replace(splits, notes=(*splits.notes, text, *weights.notes))


def preprocessing(config: Config) -> Preprocessing | None:
    """How images were prepared for the pretrained weights of a config: of the initialization or of the architecture."""
    if not isinstance(config.initialization, Pretrained):
        return architecture_option(config).preprocessing()
    content = checkpoint.load_network(config.initialization.path, "best", "initialization.path")
    info = checkpoint.info_of(content)
    crop, mode = info.data.get("crop_pct", 0.875), info.data.get("interpolation", "bilinear")
    return Preprocessing((info.mean, info.std), crop, mode, info.shape[1])


def rounded(values: tuple[float, ...]) -> str:
    """Numbers with three digits, for a note."""
    return " ".join(f"{value:.3g}" for value in values)


@activity("building the network")
def build_model(config: Config, splits: Splits, task: Task, train: Loader, notes: list[str]) -> nn.Module:
    """The model with initialized weights; with soft sharing, a network per task, each as it would be alone."""
    batch = next(iter(train.batches(0)))[0] if config.initialization.needs_batch else None
    networks = {}
    for name, parts in task.networks().items():
        torch.manual_seed(config.seed)
        model = bare_network(config, splits.shape, sum(p.size for p in parts))
        notes += [note for note in getattr(model, "notes", ()) if note not in notes]
        networks[name] = model
        initialize(config, model, task.classes, [bias for part in parts for bias in part.output_bias()], batch)
    return side_by_side(networks)


def initialize(
    config: Config, model: nn.Module, classes: tuple[str, ...], output_bias: list[float], batch: Tensor | None
) -> None:
    """Give a network its first weights."""
    initialization = config.initialization
    if isinstance(initialization, Pretrained):
        Initialization().apply(model, config.activation, output_bias=output_bias, head_only=True)
        load_pretrained_weights(model, initialization, classes)
        return
    head_only = architecture_option(config).pretrained
    initialization.apply(model, config.activation, output_bias=output_bias, batch=batch, head_only=head_only)


def load_pretrained_weights(model: nn.Module, option: Pretrained, classes: tuple[str, ...]) -> None:
    """Load another run's weights into the model, except those of the head if ``head=new``: the same head has the same classes."""
    content = checkpoint.load_network(option.path, option.prefer, "initialization.path")
    if option.head == "same":
        where = f"the run {option.path}"
        check_same_classes(("initialization.head", option.head), content["info"]["classes"], classes, where)
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
    with weights_must_fit("initialization.path", option.path, "this model"):
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


def bare_network(
    config: Config, shape: tuple[int, int, int], outputs: int, option: Architecture | None = None
) -> nn.Module:
    """The network of an option, that of the config by default; ConfigError if it cannot be built for these images."""
    option = option or architecture_option(config)
    with constructing(
        "architecture", type(option), {f.name: getattr(option, f.name) for f in dataclasses.fields(option)}
    ):
        return option.build(shape, outputs, config.activation)


def optimizer_option(config: Config) -> Optimizer:
    """The optimizer option; an external class, such as one of ``torch.optim``, is wrapped in one."""
    option = config.optimizer
    return ExternalOptimizer.wrap(option.target, option.arguments) if isinstance(option, External) else option


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
    networks = {
        name: bare_network(config, info.shape, sum(part.size for part in parts), option)
        for name, parts in restored_task(config, info).networks().items()
    }
    return map_networks(Chain(regularizers).model, side_by_side(networks))


def restored_task(config: Config, info: Info, device: torch.device | str = "cpu") -> Task:
    """The task of a checkpoint; those of earlier releases classify."""
    specs = info.targets or ({"name": "", "target": LABEL, "kind": "classification", "classes": list(info.classes)},)
    return config.task.restore(specs, device)
