"""A model or an ensemble from a checkpoint, ready for images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from trainer.architectures.ensemble import Ensemble, Renormalized
from trainer.architectures.fusion import fuse
from trainer.builder import compute, network, restored_task, to_device
from trainer.config.load import config_from_tree
from trainer.config.schema import Config
from trainer.data import Arrays, Dataset, FileDataset, OwnData, Splits
from trainer.data.identity import are_numbers, check_same_classes
from trainer.data.load import load_known
from trainer.data.targets import LABEL
from trainer.engine import checkpoint
from trainer.engine.checkpoint import Content, Member
from trainer.engine.run import Info
from trainer.engine.state import StateDict
from trainer.errors import ConfigError, Problem
from trainer.hardware import Precision
from trainer.run_dir import find_checkpoint
from trainer.tasks.spec import from_dict
from trainer.tasks.task import Task

Weights = Literal["auto", "model", "averaged"]


@dataclass
class TrainedModel:
    """A trained model in evaluation mode, its precision, its classes and normalization, and its checkpoint."""

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
    model, kind = loaded(config, content, weights)
    model = to_device((fuse(model) if fused else model).eval(), precision)
    task = restored_task(config, info, precision.device)
    task.thresholds = checkpoint.thresholds_of(content)
    task.use_thresholds("averaged" if kind == "averaged" else "model")
    return TrainedModel(model, precision, info, path, kind, task)


def loaded(config: Config, content: Content, weights: Weights = "auto") -> tuple[nn.Module, str]:
    """The model of a checkpoint on the CPU with its weights, and which weights these are."""
    if "members" in content and "average" in content:
        if weights == "averaged":
            raise ConfigError(Problem("job.weights", weights, "the checkpoint holds an ensemble", "job.weights=auto"))
        info = checkpoint.info_of(content)
        members = [member_of(info, member) for member in content["members"]]
        return Ensemble(members, content["average"]), f"ensemble of {len(members)}"
    info = checkpoint.info_of(content)
    model, average = network(config, info), use_averaged(content, weights)
    model.load_state_dict(plain_weights(content, average))
    return model, "averaged" if average else "model"


def member_of(info: Info, member: Member) -> nn.Module:
    """A member of an ensemble, which takes images with the normalization of the ensemble, ``info``."""
    own = checkpoint.info_of(member)
    model = network(config_from_tree(own.config), own)
    model.load_state_dict(member["model"])
    if (own.mean, own.std) == (info.mean, info.std):
        return model
    both = list(zip(info.std, own.std, strict=True))
    shift = [(m - n) / s for m, n, s in zip(info.mean, own.mean, own.std, strict=True)]
    return Renormalized(model, [a / b for a, b in both], shift)


def plain_weights(content: Content, average: bool) -> StateDict:
    """A checkpoint's weights under the model's own names: torch's AveragedModel adds a counter and the prefix "module."."""
    weights = checkpoint.weights_of(content)
    if not average:
        return weights["model"]
    assert weights["averaged"] is not None
    return {k.removeprefix("module."): v for k, v in weights["averaged"].items() if k != "n_averaged"}


def use_averaged(content: Content, weights: Weights) -> bool:
    """Whether to take the averaged weights; ``auto`` takes them if they were at least as accurate on the validation images."""
    available = checkpoint.weights_of(content)["averaged"] is not None
    if weights == "averaged" and not available:
        text = "the checkpoint holds no averaged weights"
        raise ConfigError(Problem("job.weights", "averaged", text, "job.weights=model"))
    row = content.get("row") or {}
    averaged, last = row.get("averaged_accuracy"), row.get("validation_accuracy")
    as_good = averaged is None or last is None or averaged >= last
    return available and (weights == "averaged" or (weights == "auto" and as_good))


def splits_for_checkpoint(config: Config, info: Info) -> Splits:
    """The config's data, normalized as in the training of the checkpoint.

    Data that the checkpoint was not trained on is used as it is: nothing is held out, and only some of the classes may occur.

    Raises:
        ConfigError: Classes or channels differ.
    """
    data, name = data_option(config, info), config.name("data")
    splits = new_data(data, info)
    if splits is None:
        splits = data.load()
        if not (
            len(splits.classes) == len(info.classes) and (are_numbers(splits.classes) or are_numbers(info.classes))
        ):
            check_same_classes(("data", name), info.classes, splits.classes, "the checkpoint")
    if splits.shape[0] != info.shape[0]:
        text = f"has {splits.shape[0]} channels, the checkpoint takes {info.shape[0]}"
        raise ConfigError(Problem("data", name, text))
    return dataclasses.replace(splits, mean=info.mean, std=info.std)


def data_option(config: Config, info: Info) -> Dataset:
    """The config's data, with files resized as in the training of the checkpoint, which holds the normalization."""
    data = config.data
    if isinstance(data, FileDataset):
        crop = info.data.get("crop_pct", data.crop) if data.crop_pct == "auto" else data.crop_pct
        mode = info.data.get("interpolation", "bilinear") if data.interpolation == "auto" else data.interpolation
        data = dataclasses.replace(data, crop_pct=crop, interpolation=mode)
    return dataclasses.replace(data, normalize="none") if data.normalize == "pretrained" else data


def new_data(data: Dataset, info: Info) -> Splits | None:
    """The images of a data set that the checkpoint was not trained on; None if it was, even if it lay somewhere else."""
    if not isinstance(data, OwnData) or (are_numbers(info.classes) and not isinstance(data, Arrays)):
        return None
    saved = info.config.get("data")
    saved = saved if isinstance(saved, dict) else {}
    if all(absolute(saved.get(key)) == absolute(value) for key, value in data.place.items()):
        return None
    known = {LABEL: info.classes} | {spec.target: spec.classes for spec in map(from_dict, info.targets)}
    splits = load_known(data, known, (info.mean, info.std))
    return None if splits.digest == info.data.get("digest") else splits


def absolute(path: object) -> str | None:
    """A path as the config of a run holds it."""
    return None if path is None else str(Path(str(path)).expanduser().absolute())
