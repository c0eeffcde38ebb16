"""A model or an ensemble from a checkpoint, ready for images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainer.architectures.ensemble import Ensemble, Renormalized, Rescaled
from trainer.architectures.fusion import fuse
from trainer.augmentation.transforms import TTA
from trainer.builder import compute, network, restored_task, to_device
from trainer.config.load import config_from_tree
from trainer.config.schema import Config
from trainer.data.images import ImageArray
from trainer.data.in_memory import InMemoryLoader
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content, Member
from trainer.engine.evaluation import logits
from trainer.engine.info import Info
from trainer.engine.state import StateDict
from trainer.errors import ConfigError, Problem
from trainer.formats import Link
from trainer.hardware import Precision
from trainer.history import better_is
from trainer.run_dir import find_checkpoint
from trainer.tasks.restrict import main_only, restricted
from trainer.tasks.task import Task
from trainer.weight_files import weights_must_fit

Weights = Literal["auto", "model", "averaged"]


@dataclass
class TrainedModel:
    """A trained model in evaluation mode, its precision, its classes and normalization, its checkpoint, and what it predicts.

    With a main task, ``task`` and ``model`` are those of the main task alone.
    """

    model: nn.Module
    precision: Precision
    info: Info
    path: Path
    weights: str  # model | averaged | ensemble of N
    task: Task


def trained(config: Config, prefer: str, weights: Weights = "auto", fused: bool = False) -> TrainedModel:
    """The model of ``checkpoint=``; ConfigError if that has none."""
    assert config.checkpoint is not None  # check_config has made sure
    path = find_checkpoint(config.checkpoint, prefer)
    content = checkpoint.load(path)
    info, precision = checkpoint.info_of(content), compute(config)
    with weights_must_fit("checkpoint", str(path), "the network that its config describes"):
        task = restored_task(config, info, precision.device)
        model, kind = loaded(config, content, task, weights)
        task.thresholds = checkpoint.thresholds_of(content)
        task.use_thresholds("averaged" if kind == "averaged" else "model")
    model = to_device((fuse(model) if fused else model).eval(), precision)
    return TrainedModel(model, precision, info, path, kind, main_only(task))


def loaded(config: Config, content: Content, task: Task, weights: Weights = "auto") -> tuple[nn.Module, str]:
    """The model of a checkpoint on the CPU with its weights, and which weights these are; of the main task alone if there is one.

    Args:
        config: That of the checkpoint.
        content: The checkpoint.
        task: Its task, with all of several.
        weights: Which weights are wanted.
    """
    info = checkpoint.info_of(content)
    if "members" in content and "average" in content:
        if weights == "averaged":
            raise ConfigError(Problem("job.weights", weights, "the checkpoint holds an ensemble", "job.weights=auto"))
        members = [member_of(info, task, member) for member in content["members"]]
        return Ensemble(members, links(main_only(task)), content["average"]), f"ensemble of {len(members)}"
    average = use_averaged(content, task, weights)
    model = trained_network(config, info, task, plain_weights(content, average))
    return model, "averaged" if average else "model"


def trained_network(config: Config, info: Info, task: Task, weights: StateDict) -> nn.Module:
    """A network with its weights; of the main task alone if there is one."""
    model = network(config, info)
    model.load_state_dict(weights)
    return restricted(task, model.eval(), info.shape)[1]


def member_of(info: Info, task: Task, member: Member) -> nn.Module:
    """A member of an ensemble, which takes images with the normalization of the ensemble, and predicts numbers in its scale.

    Args:
        info: That of the ensemble.
        task: That of the ensemble, with all of several.
        member: The member.
    """
    own = checkpoint.info_of(member)
    config = config_from_tree(own.config)
    own_task = restored_task(config, own)
    model = trained_network(config, own, own_task, member["model"])
    if (own.mean, own.std) != (info.mean, info.std):
        both = list(zip(info.std, own.std, strict=True))
        shift = [(m - n) / s for m, n, s in zip(info.mean, own.mean, own.std, strict=True)]
        model = Renormalized(model, [a / b for a, b in both], shift)
    scale, shift = other_standardization(main_only(own_task), main_only(task))
    unchanged = all(a == 1 for a in scale) and not any(shift)
    return model if unchanged else Rescaled(model, scale, shift)


@torch.inference_mode()
def predictions(
    model: TrainedModel, images: np.ndarray, per_image: bool, batch_size: int, tta: TTA = "none"
) -> dict[str, Tensor]:
    """Probabilities, or numbers in original units, (N, K) of each task by its name; of uint8 images (N, H, W, C).

    Args:
        model: The model.
        images: Of the size that it takes.
        per_image: Whether each channel of an image is normalized by its own mean and standard deviation.
        batch_size: Images per forward pass.
        tta: Test-time augmentation.
    """
    info, precision = model.info, model.precision
    loader = InMemoryLoader(
        ImageArray(images, np.zeros(len(images), np.int64)),
        num_classes=1,
        mean=info.mean,
        std=info.std,
        per_image=per_image,
        batch_size=batch_size,
        shuffle=False,
        device=precision.device,
        channels_last=precision.channels_last,
    )
    outputs = torch.cat([logits(model.model, x, precision, tta).float() for x, _ in loader.batches(0)])
    return {part.name: part.predict(part.own(outputs)) for part in model.task.parts}


def links(task: Task) -> list[tuple[slice, Link]]:
    """How the outputs of each task become predictions, for the mean over the members of an ensemble."""
    return [(part.outputs, part.link) for part in task.parts]


def other_standardization(own: Task, other: Task) -> tuple[list[float], list[float]]:
    """Factor and summand that turn the outputs of a network into those of the same numbers with another mean and std.

    With outputs z and a network's scale a, a number is a·z·std + mean; outputs of classes and labels stay.
    """
    scale, shift = [1.0] * other.num_outputs, [0.0] * other.num_outputs
    for a, b in zip(own.parts, other.parts, strict=True):
        for i, (mean, std) in enumerate(zip(a.spec.mean, a.spec.std, strict=True)):
            scale[b.outputs.start + i] = std / b.spec.std[i]
            shift[b.outputs.start + i] = (mean - b.spec.mean[i]) / (b.spec.std[i] * b.output_scale)
    return scale, shift


def plain_weights(content: Content, average: bool) -> StateDict:
    """A checkpoint's weights under the model's own names: torch's AveragedModel adds a counter and the prefix "module."."""
    weights = checkpoint.weights_of(content)
    if not average:
        return weights["model"]
    assert weights["averaged"] is not None
    return {k.removeprefix("module."): v for k, v in weights["averaged"].items() if k != "n_averaged"}


def metric_of_run(info: Info, task: Task) -> str:
    """The column of validation images by which a run is judged: its metric, or the task's where that is of training images."""
    metric = info.config.get("metric", "auto")
    return metric if isinstance(metric, str) and metric.startswith("validation_") else task.main_metric


def use_averaged(content: Content, task: Task, weights: Weights) -> bool:
    """Whether to take the averaged weights; ``auto`` takes them if they were at least as good on the validation images."""
    available = checkpoint.weights_of(content)["averaged"] is not None
    if weights == "averaged" and not available:
        text = "the checkpoint holds no averaged weights"
        raise ConfigError(Problem("job.weights", "averaged", text, "job.weights=model"))
    row = content.get("row") or {}
    metric = metric_of_run(checkpoint.info_of(content), task)
    averaged, last = (row.get(metric.replace("validation", split, 1)) for split in ("averaged", "validation"))
    as_good = averaged is None or last is None or not better(last, averaged, metric)
    return available and (weights == "averaged" or (weights == "auto" and as_good))


def better(value: float, other: float, metric: str) -> bool:
    """Whether a value of a metric is better than another one; NaN is the worst.

    >>> better(0.9, 0.8, "validation_accuracy"), better(0.9, 0.8, "validation_loss"), better(0.9, math.nan, "validation_loss")
    (True, False, True)
    """
    if math.isnan(value) or math.isnan(other):
        return not math.isnan(value)
    return value < other if better_is(metric) == "min" else value > other
