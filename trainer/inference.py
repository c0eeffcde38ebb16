"""A network or an ensemble as a checkpoint holds it, ready for pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from trainer.architectures.ensemble import Ensemble, Renormalized
from trainer.architectures.fusion import fuse
from trainer.build import compute, network, place
from trainer.config.load import config_from_tree
from trainer.config.schema import Config
from trainer.data import FileDataset, Splits
from trainer.engine import checkpoint
from trainer.engine.run import Info, Precision
from trainer.errors import ConfigError, Problem

Weights = Literal["auto", "model", "averaged"]


@dataclass
class TrainedModel:
    """A trained network in evaluation mode, where it computes, what it knows, and where it came from."""

    model: nn.Module
    precision: Precision
    info: Info
    path: Path
    weights: str  # model | averaged | ensemble of N


def trained(config: Config, prefer: str, weights: Weights = "auto", fused: bool = False) -> TrainedModel:
    """What ``checkpoint=`` names; ConfigError where that holds none."""
    assert config.checkpoint is not None  # together.before_data has asked for it
    path = checkpoint.find(config.checkpoint, prefer)
    content = checkpoint.load(path)
    info, precision = checkpoint.info_of(content), compute(config)
    model, kind = loaded(config, content, weights)
    model = place((fuse(model) if fused else model).eval(), precision)
    return TrainedModel(model, precision, info, path, kind)


def loaded(config: Config, content: dict[str, Any], weights: Weights = "auto") -> tuple[nn.Module, str]:
    """The network of a checkpoint's content with its weights, on the CPU, and which weights these are."""
    if "members" in content:
        if weights == "averaged":
            raise ConfigError(Problem("job.weights", weights, "the checkpoint holds an ensemble", "job.weights=auto"))
        info = checkpoint.info_of(content)
        members = [member_of(info, member) for member in content["members"]]
        return Ensemble(members, content["average"]), f"ensemble of {len(members)}"
    info = checkpoint.info_of(content)
    model, average = network(config, info), use_averaged(content, weights)
    model.load_state_dict(plain_weights(content, average))
    return model, "averaged" if average else "model"


def member_of(info: Info, member: dict[str, Any]) -> nn.Module:
    """A member of an ensemble, fed with pictures that are normalised as ``info`` says."""
    own = checkpoint.info_of(member)
    model = network(config_from_tree(own.config), own)
    model.load_state_dict(member["model"])
    if (own.mean, own.std) == (info.mean, info.std):
        return model
    both = list(zip(info.std, own.std, strict=True))
    shift = [(m - n) / s for m, n, s in zip(info.mean, own.mean, own.std, strict=True)]
    return Renormalized(model, [a / b for a, b in both], shift)


def plain_weights(content: dict[str, Any], average: bool) -> dict[str, Any]:
    """A checkpoint's weights under the network's own names: torch's AveragedModel counts, and calls the model "module"."""
    weights = checkpoint.weights_of(content, average)
    if average:
        weights = {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}
    return weights


def use_averaged(content: dict[str, Any], weights: Weights) -> bool:
    """Whether to take the averaged weights; ``auto`` takes them where they were as good on the validation pictures."""
    there = checkpoint.weights_of(content, averaged=True) is not None
    if weights == "averaged" and not there:
        text = "the checkpoint holds no averaged weights"
        raise ConfigError(Problem("job.weights", "averaged", text, "job.weights=model"))
    row = content.get("row") or {}
    as_good = row.get("averaged_accuracy", 1.0) >= row.get("validation_accuracy", 0.0)
    return there and (weights == "averaged" or (weights == "auto" and as_good))


def splits_for_checkpoint(config: Config, info: Info) -> Splits:
    """The config's data, normalised as the checkpoint's was; ConfigError where its classes or channels are others."""
    data, name = config.data, config.name("data")
    if data.normalize == "pretrained":  # the checkpoint knows the numbers; no need to ask the architecture
        crop = {"crop_pct": data.crop} if isinstance(data, FileDataset) else {}
        data = dataclasses.replace(data, normalize="none", **crop)
    splits = data.load()
    if len(splits.classes) != len(info.classes):
        text = f"has {len(splits.classes)} classes, the checkpoint {len(info.classes)}: {', '.join(info.classes)}"
        raise ConfigError(Problem("data", name, text))
    numbers = tuple(map(str, range(len(info.classes))))  # arrays have no names: theirs say nothing
    if splits.classes != info.classes and numbers not in (splits.classes, info.classes):
        text = f"has the classes {', '.join(splits.classes)}; the checkpoint knows {', '.join(info.classes)}"
        raise ConfigError(Problem("data", name, text))
    if splits.shape[0] != info.shape[0]:
        text = f"has {splits.shape[0]} channels, the checkpoint takes {info.shape[0]}"
        raise ConfigError(Problem("data", name, text))
    return dataclasses.replace(splits, mean=info.mean, std=info.std)
