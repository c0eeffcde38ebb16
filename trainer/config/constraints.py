"""What options demand of each other: told before training, and, where no data is needed for it, before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.config.schema import Config
from trainer.errors import Problem, nearest
from trainer.optimizers import Optimizer, schedule_fits
from trainer.schedules import Product

if TYPE_CHECKING:
    from trainer.data import Splits

MEASURES = ("loss", "accuracy")


@dataclass(frozen=True)
class Setup:
    """What an option's ``needs`` may ask about: pictures a step, epochs, whether there are validation pictures, (C, H, W)."""

    batch_size: int
    epochs: float
    validation: bool
    shape: tuple[int, int, int]
    architecture: Any
    activation: Any


def check_config(config: Config) -> list[Problem]:
    """What is wrong with the options together, as far as the config alone tells."""
    problems = [*_flips(config), *_cache(config), *_metrics(config)]
    if hasattr(config.job, "prefer") and config.checkpoint is None:
        text = "must be given: checkpoint=<run folder or file>"
        problems.append(Problem("checkpoint", None, text, "the job reads one"))
    if isinstance(config.optimizer, Optimizer):
        problems += optimizer_and_schedule(config, config.optimizer)
    size = config.batch_size
    if config.micro_batch and size != "full" and config.micro_batch > size:
        problems.append(Problem("micro_batch", config.micro_batch, f"must be at most batch_size, {size}"))
    if config.engine.graph == "on" and config.micro_batch:
        text = "records a whole step, and micro_batch parts it"
        problems.append(Problem("engine.graph", "on", text, "micro_batch=null, or engine.graph=auto"))
    return problems


def optimizer_and_schedule(config: Config, optimizer: Optimizer) -> list[Problem]:
    """Why the schedules cannot go with the optimizer."""
    why = schedule_fits(Product(tuple(config.schedule.values())).over(config.epochs), optimizer)
    return [Problem("schedule", list(config.schedule), why)] if why else []


def _cache(config: Config) -> list[Problem]:
    """A cache of resized pictures under an augmentation that cuts its windows out of the whole ones."""
    first = next((n for n, option in config.augmentation.items() if option is not None), None)
    if config.data.cache == "none" or first is None or not getattr(config.augmentation[first], "resizes", False):
        return []
    text = f"keeps pictures of size {config.data.size}, and augmentation.{first} cuts its windows out of the whole ones"
    return [Problem("data.cache", config.data.cache, text, "data.cache=none, or augmentation=[crop,flip]")]


def _flips(config: Config) -> list[Problem]:
    data = config.data
    if not (getattr(data, "flips_change_classes", False) or getattr(data, "digits", False)):
        return []
    text = f"a flip changes the class of these pictures (data: {config.name_of('data')})"
    tta = getattr(config.job, "tta", "none")
    mirrored = [Problem("job.tta", tta, text, "job.tta=none")] if tta != "none" else []
    if config.checkpoint is not None:  # its training is over
        return mirrored
    return mirrored + [
        Problem(f"augmentation.{name}", "on", text, f"leave it out, or say augmentation.{name}.force=true")
        for name, option in config.augmentation.items()
        if getattr(option, "changes_classes", False) and not option.force
    ]


def _metrics(config: Config) -> list[Problem]:
    """Metrics that no column of the history will have."""
    parts = ["train", "validation"] + (["averaged"] if type(config.averaging).__name__ != "Averaging" else [])
    known = [f"{part}_{measure}" for part in parts for measure in MEASURES]
    asked = {"metric": config.metric}
    for place, option in every_option(config):
        if hasattr(option, "metric"):
            asked[f"{place}.metric"] = option.metric
    return [
        Problem(key, value, f"must be a column of the history: {', '.join(known)}", nearest(value, known))
        for key, value in asked.items()
        if value not in known
    ]


def check_against_data(
    config: Config, splits: Splits, last_batch: int, batch_norm: bool, processes: int = 1
) -> list[Problem]:
    """What only shows when the data is there; ``last_batch`` counts the pictures of an epoch's last batch."""
    problems: list[Problem] = []
    count = len(splits.train)
    size = count if config.batch_size == "full" else config.batch_size
    if size > count:
        problems.append(Problem("batch_size", size, f"is more than the {count} training pictures", "batch_size=full"))
    if size < processes:
        problems.append(Problem("batch_size", size, f"must be >= {processes}, the number of processes that share it"))
    part = config.micro_batch or size
    if processes > 1 and not config.engine.sync_batch_norm:
        # Each normalises by its own share, the smallest of which counts.
        size, last_batch = max(1, size // processes), max(1, last_batch // processes)
        part = min(part, size)
    if batch_norm and 1 in (last_batch, size, part, last_batch % part):
        text = "leaves a batch of one picture, whose deviation is zero: batch normalisation cannot train on it"
        way = "data.drop_last=true, another batch_size, or architecture.norm=group"
        problems.append(Problem("batch_size", config.batch_size, text, way))
    validation = splits.validation is not None
    setup = Setup(size, config.epochs, validation, splits.shape, config.architecture, config.activation)
    for place, option in every_option(config):
        problems += [Problem(place, "on", text) for text in getattr(option, "needs", lambda _: [])(setup)]
    return problems


def every_option(config: Config) -> list[tuple[str, Any]]:
    """Each option with its dotted place in the config."""
    single = list(config.single.items())
    return single + [(f"{group}.{name}", o) for group, options in config.lists.items() for name, o in options.items()]
