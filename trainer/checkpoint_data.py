"""The data that a trained network is used on, compared with what it was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trainer.config.schema import Config
from trainer.data import Arrays, Dataset, FileDataset, OwnData, Splits
from trainer.data.identity import are_numbers, check_same_classes
from trainer.data.inventory import shortened
from trainer.data.load import load_known
from trainer.data.targets import LABEL, NOUNS, Target
from trainer.engine.info import Info
from trainer.errors import ConfigError, Problem
from trainer.inference import TrainedModel
from trainer.tasks.part import Part
from trainer.tasks.task import Task

NAMED = 20  # targets that an error names


def splits_for_checkpoint(config: Config, model: TrainedModel) -> Splits:
    """The config's data, normalized as in the training of the checkpoint.

    Data that the checkpoint was not trained on is used as it is: nothing is held out, and only some of the classes may occur.

    Raises:
        ConfigError: Targets, their classes or channels differ.
    """
    info, name = model.info, config.name("data")
    data = data_option(config, info)
    new = new_data(data, info, model.task)
    splits = data.load() if new is None else new
    check_targets(splits, model.task, name, some=new is not None)
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


def check_targets(splits: Splits, task: Task, name: str, some: bool = False) -> None:
    """Refuse data without the targets of a task; the name of a single target does not matter.

    Args:
        splits: The data.
        task: What is predicted.
        name: Of the data, for the error.
        some: Whether numbered classes may be fewer than those of the task: the highest ones do not occur.
    """
    targets = {target.name: target for target in splits.targets}
    single = len(targets) == len(task.parts) == 1
    for part in task.parts:
        target = splits.targets[0] if single else targets.get(part.spec.target)
        if target is None:
            text = f"has no target {part.spec.target}, which the checkpoint predicts; it has {shortened(list(targets), NAMED)}"
            raise ConfigError(Problem("data", name, text))
        if target.kind != part.spec.kind:
            text = f"has {NOUNS[target.kind]} as target {target.name}, the checkpoint predicts {NOUNS[part.spec.kind]}"
            raise ConfigError(Problem("data", name, text))
        if not same_numbers(target, part, some):
            where = "the checkpoint" if single else f"the checkpoint for {target.name}"
            check_same_classes(("data", name), part.classes, target.classes, where)


def same_numbers(target: Target, part: Part, some: bool) -> bool:
    """Whether classes are as many, and have no names on one side; with ``some``, there may be fewer numbers."""
    if target.kind == "classification" and some and are_numbers(target.classes):
        return len(target.classes) <= part.size
    return len(target.classes) == part.size and (are_numbers(target.classes) or are_numbers(part.classes))


def new_data(data: Dataset, info: Info, task: Task) -> Splits | None:
    """The images of a data set that the checkpoint was not trained on; None if it was, even if it lay somewhere else."""
    if not isinstance(data, OwnData):
        return None
    if not isinstance(data, Arrays) and (task.class_part is None or are_numbers(task.classes)):
        return None
    saved = info.config.get("data")
    saved = saved if isinstance(saved, dict) else {}
    if all(absolute(saved.get(key)) == absolute(value) for key, value in data.place.items()):
        return None
    known = {LABEL: info.classes} | {part.spec.target: part.classes for part in task.parts}
    splits = load_known(data, known, (info.mean, info.std))
    return None if splits.digest == info.data.get("digest") else splits


def absolute(path: object) -> str | None:
    """A path as the config of a run holds it."""
    return None if path is None else str(Path(str(path)).expanduser().absolute())
