"""From the option of a task and the data to the task itself, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from trainer.data.images import Images
from trainer.data.inventory import shortened
from trainer.data.splits import Splits
from trainer.data.targets import Target
from trainer.errors import ConfigError, Problem, nearest
from trainer.formats import JsonObject
from trainer.tasks.classification import ClassPart
from trainer.tasks.multilabel import LabelsPart
from trainer.tasks.multitask_options import Multitask, part_option
from trainer.tasks.options import SingleTask
from trainer.tasks.part import Part
from trainer.tasks.regression import NumbersPart
from trainer.tasks.spec import PartSpec, from_dict, measure
from trainer.tasks.task import Task

NAMED = 50  # targets that a message names
KINDS: dict[str, type[Part]] = {
    "classification": ClassPart,
    "multilabel": LabelsPart,
    "regression": NumbersPart,
}


def part_of(
    option: SingleTask, spec: PartSpec, begin: int = 0, values_begin: int = 0, device: torch.device | str = "cpu"
) -> Part:
    """Return a task whose outputs and targets begin at the given columns."""
    return KINDS[spec.kind](option, spec, begin, values_begin, device)


def build_single(
    option: SingleTask, splits: Splits, device: torch.device | str = "cpu", wanted: Collection[str] = ()
) -> Task:
    """Return the task of one target of the data.

    Args:
        option: The option of the config.
        splits: The data.
        device: Where tensors are kept.
        wanted: Columns of the history that the config names, whose metrics are computed as well.

    Raises:
        ConfigError: The data has no such target, or one of another kind.
    """
    spec = specify("", option, option.target or only_target(option, splits.targets), splits, "task")
    return tried(single(option.including(wanted), spec, device))


def tried(task: Task) -> Task:
    """Return the task; ConfigError if a metric of the user does not work."""
    for part in task.parts:
        _ = part.own_metrics
    return task


def only_target(option: SingleTask, targets: Sequence[Target]) -> str:
    """Return the only target of the data, or the only one of the kind of the task; ConfigError if there are several."""
    if len(targets) == 1:
        return targets[0].name
    matching = [target.name for target in targets if target.kind == option.kind]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        text = f"none of the targets of the data is for {option.kind}: {listed(targets)}"
        raise ConfigError(Problem("task", option.kind, text, "task=multitask learns several"))
    text = f"must name one of the targets of the data: {shortened(matching, NAMED)}"
    raise ConfigError(Problem("task.target", None, text, f"task.target={matching[0]}, or task=multitask for several"))


def listed(targets: Sequence[Target]) -> str:
    """Return the names and kinds of targets for a message.

    >>> listed([Target("digit", "classification", ("0", "1")), Target("ink", "regression", ("ink",))])
    'digit (classification), ink (regression)'
    """
    return shortened([f"{target.name} ({target.kind})" for target in targets], NAMED)


def single(option: SingleTask, spec: PartSpec, device: torch.device | str) -> Task:
    return Task(assembled([(option, spec)], device), None, device)


def restore_single(option: SingleTask, specs: Sequence[JsonObject], device: torch.device | str = "cpu") -> Task:
    """Return the task of a checkpoint."""
    return single(option, from_dict(specs[0]), device)


def build_multitask(
    option: Multitask, splits: Splits, device: torch.device | str = "cpu", wanted: Collection[str] = ()
) -> Task:
    """Return all tasks that the config names, or one for each target of the data.

    Args:
        option: The option of the config.
        splits: The data.
        device: Where tensors are kept.
        wanted: Columns of the history that the config names, whose metrics are computed as well.

    Raises:
        ConfigError: A task does not fit the data.
    """
    try:
        tasks = option.parts(splits.targets)
    except ConfigError as error:
        raise ConfigError(*(replace(p, key=f"task.{p.key}") for p in error.problems)) from None
    if len(tasks) < 2:
        text = f"needs at least two targets; the data has {', '.join(tasks) or 'none'}"
        raise ConfigError(Problem("task", "multitask", text, "task=classification, or data with several targets"))
    if not any(weight for _, weight in tasks.values()):
        raise ConfigError(Problem("task.tasks", option.tasks, "must have a task with a weight > 0"))
    if option.main is not None and option.main not in tasks:
        raise ConfigError(Problem("task.main", option.main, f"must be one of {', '.join(tasks)}"))
    pairs: list[tuple[SingleTask, PartSpec]] = []
    for name, (part, weight) in tasks.items():
        spec = specify(name, part, part.target or name, splits, f"task.tasks.{name}")
        spec.weight = weight
        pairs.append((part.including(wanted, name), spec))
    return tried(Task(assembled(pairs, device), option, device))


def restore_multitask(option: Multitask, specs: Sequence[JsonObject], device: torch.device | str = "cpu") -> Task:
    """Return the tasks of a checkpoint; ``restrict.main_only`` takes the main one of them."""
    pairs: list[tuple[SingleTask, PartSpec]] = []
    for values in specs:
        spec = from_dict(values)
        table = (option.tasks or {}).get(spec.name, {})
        part, _ = part_option(spec.name, {**table, "target": spec.target, "kind": spec.kind}, None)
        pairs.append((part, spec))
    return Task(assembled(pairs, device), option, device)


def assembled(pairs: Sequence[tuple[SingleTask, PartSpec]], device: torch.device | str) -> list[Part]:
    """Return tasks whose outputs and targets follow one another."""
    parts: list[Part] = []
    for option, spec in pairs:
        begin, values_begin = (parts[-1].outputs.stop, parts[-1].mask.stop) if parts else (0, 0)
        try:
            parts.append(part_of(option, spec, begin, values_begin, device))
        except ConfigError as error:
            key = f"task.tasks.{spec.name}" if spec.name else "task"
            raise ConfigError(*(replace(p, key=f"{key}.{p.key}") for p in error.problems)) from None
    return parts


def specify(name: str, option: SingleTask, target_name: str, splits: Splits, key: str) -> PartSpec:
    """Return the specification of a task from the data; ConfigError if they do not fit."""
    targets = {target.name: target for target in splits.targets}
    if target_name not in targets:
        text = f"the data has no such target; it has {shortened(list(targets), NAMED)}"
        hint = nearest(target_name, targets) or next((note for note in splits.notes if target_name in note), "")
        raise ConfigError(Problem(f"{key}.target", target_name, text, hint))
    target = targets[target_name]
    if target.kind != option.kind:
        text = f"the target {target_name} of the data is for {target.kind}, not {option.kind}"
        hint = f"task={target.kind}" if not name else f"{key}.kind={target.kind}"
        raise ConfigError(Problem(f"{key}.target", target_name, text, hint))
    return measured(name, target, splits, key)


def measured(name: str, target: Target, splits: Splits, key: str) -> PartSpec:
    others: list[Images] = [split for split in (splits.validation, splits.test) if split is not None]
    try:
        return measure(name, target, splits.train.target(target.name), [split.target(target.name) for split in others])
    except ValueError as error:
        raise ConfigError(Problem(f"{key}.target", target.name, str(error))) from None
