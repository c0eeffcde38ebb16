"""Checks of what only shows once the data is loaded and the model is built."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainer.architectures.layers import norm_of_single_values
from trainer.augmentation.transforms import Transform
from trainer.config.schema import Config
from trainer.data import Splits
from trainer.engine import distributed
from trainer.engine.loader import Loader
from trainer.errors import ConfigError, Problem
from trainer.observers.options import Checkpoint
from trainer.optimizers import Optimizer, schedule_problems
from trainer.regularizers.base import Setup
from trainer.schedules import Product, unreached
from trainer.tasks.history_columns import metric_problems, named_metrics
from trainer.tasks.missing import undecidable
from trainer.tasks.sharing import last_shared_weight
from trainer.tasks.task import Task


def check_with_data(
    config: Config, splits: Splits, task: Task, train: Loader, model: nn.Module, optimizer: Optimizer
) -> None:
    """Raise a ConfigError with all that does not fit, once the data is loaded and the model is built."""
    last = train.images_in(len(train) - 1)
    problems = check_batches_and_regularizers(
        config, splits, last, lambda: norm_of_single_values(model, splits.shape), distributed.world_size()
    )
    problems += schedule_problems(config.schedule, optimizer)
    columns = task.history_columns(config.averaging.enabled)
    problems += metric_problems(named_metrics(config.metric, config.options()), columns, task.possible_columns())
    problems += undecidable(task, splits, task.main_metric if config.metric == "auto" else config.metric)
    problems += check_geometry(config, task)
    problems += check_kept(config, splits, task)
    if task.weighting is not None and task.weighting.needs_gradients and last_shared_weight(model) is None:
        text = "needs a layer before the head, whose gradients it compares"
        problems.append(Problem("task.weighting", "gradnorm", text, "task.weighting=uncertainty"))
    if problems:
        raise ConfigError(*problems)


def check_geometry(config: Config, task: Task) -> list[Problem]:
    """Augmentations, also at test time, that move pixels, with numbers of which it is not known what that does to them."""
    moving = [
        name
        for name, option in config.augmentation.items()
        if option and (not isinstance(option, Transform) or option.moves_pixels)  # of a third-party one it is not known
    ]
    problems = moved_numbers(task, ", ".join(moving), "augmentation=none") if moving else []
    tta = config.job.tta
    return problems + (moved_numbers(task, f"job.tta={tta}", "job.tta=none") if tta != "none" else [])


def check_kept(config: Config, splits: Splits, task: Task) -> list[Problem]:
    """Checkpoints of the best epochs, where no epoch can be told to be better than another."""
    option = config.observer.get("checkpoint")
    metric = task.main_metric if config.metric == "auto" else config.metric
    if not isinstance(option, Checkpoint) or not option.keep_best or splits.validation is not None:
        return []
    if not metric.startswith("validation_"):
        return []
    text = f"has no effect: {metric} needs validation images"
    return [Problem("observer.checkpoint.keep_best", option.keep_best, text, "data.validation=0.1, or keep_every")]


def without_effect(config: Config, channels: int) -> list[str]:
    """Return a note for what has no effect: augmentation of colors that the images lack, times beyond the end of training."""
    notes = [
        f"augmentation.{name} has no effect: the images are grayscale"
        for name, option in config.augmentation.items()
        if isinstance(option, Transform) and option.changes_colors_only and channels != 3
    ]
    phases = config.recipe.phases(config.epochs, Product(()))
    return notes + unreached(config.schedule, max(phase.epochs for phase in phases))


def moved_numbers(task: Task, what: str, without: str) -> list[Problem]:
    """Errors of what moves pixels, with numbers of which it is not known what that does to them.

    Args:
        task: The task.
        what: What moves pixels.
        without: The override without it.
    """
    return [
        Problem(
            f"task.tasks.{part.name}.geometry" if part.name else "task.geometry",
            "refuse",
            f"{what} moves pixels, and what that does to {part.spec.target} is not known",
            f"{without}, or geometry=invariant if it does nothing",
        )
        for part in task.parts
        if part.changes_with_pixels
    ]


def check_batches_and_regularizers(
    config: Config,
    splits: Splits,
    last_batch: int,
    untrainable_norm: Callable[[], str | None],
    processes: int = 1,
) -> list[Problem]:
    """Return what only shows once the data is loaded.

    Args:
        config: The config.
        splits: The data.
        last_batch: Number of images in the last batch of an epoch.
        untrainable_norm: Returns the name of a batch normalization that cannot train on a single image, or None.
        processes: Number of processes that share each batch.
    """
    problems: list[Problem] = []
    count = len(splits.train)
    size = count if config.batch_size == "full" else min(config.batch_size, count)
    if size < processes:
        problems.append(Problem("batch_size", size, f"must be >= {processes}, the number of processes that share it"))
    part = config.micro_batch or size
    if processes > 1 and not config.engine.sync_batch_norm:
        # Each process normalizes by its own part, the smallest of which counts.
        size, last_batch = max(1, size // processes), max(1, last_batch // processes)
        part = min(part, size)
    if 1 in (last_batch, size, part, last_batch % part) and (norm := untrainable_norm()):
        text = f"leaves a batch of one image, of which batch normalization {norm!r} sees a single value per channel"
        hint = "data.drop_last=true, another batch_size, or architecture.norm=group"
        problems.append(Problem("batch_size", config.batch_size, text, hint))
    setup = Setup(size, splits.validation is not None, splits.shape)
    for name, option in config.regularizer.items():
        problems += [Problem(f"regularizer.{name}", "on", text) for text in option.needs(setup)]
    return problems
