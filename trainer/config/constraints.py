"""Cross-option checks: what options require of each other, of the data, and of the way the program was started."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import cast

from trainer.augmentation.transforms import crops_originals, flip_problems
from trainer.config.schema import Config
from trainer.data import FileDataset
from trainer.environment import launched_processes
from trainer.errors import Problem
from trainer.existing import missing
from trainer.gpus import device_problems
from trainer.optimizers import schedule_problems
from trainer.parameters import parameters
from trainer.settings import Settings
from trainer.tasks.history_columns import metric_problems, named_metrics


class InvalidValue(Exception):
    """A constraint involves a value that is invalid by itself."""


class ValidPart:
    """A config of which the settings and groups that are invalid by themselves cannot be read."""

    def __init__(self, config: Config, invalid: Collection[str]) -> None:
        self._config, self._invalid = config, invalid

    def __getattr__(self, name: str) -> object:
        if name in self._invalid:
            raise InvalidValue(name)
        return getattr(self._config, name)


def check_config(config: Config, invalid: Collection[str] = (), here: bool = False) -> list[Problem]:
    """Return what is wrong with the options together, as far as the config alone tells; torch is not imported.

    Args:
        config: The config.
        invalid: Settings and groups with an error of their own; constraints that involve them are left out.
        here: Whether what the config names, files and a GPU, must exist here.
    """
    part = cast(Config, ValidPart(config, invalid))
    problems: list[Problem] = []
    for constraint in (*CONSTRAINTS, *(OF_THE_MACHINE if here else ())):
        with suppress(InvalidValue):
            problems += constraint(part)
    return problems


def _job(config: Config) -> Iterator[Problem]:
    """Settings that the job needs or does not read, and what it cannot do with the options."""
    job, meanings = config.job, {setting.name: setting.meaning for setting in parameters(Settings)}
    if job.needs_checkpoint and config.checkpoint is None:
        text = "must be given: checkpoint=<run directory or file>"
        yield Problem("checkpoint", None, text, "this job loads a trained model")
    reads = (*job.reads, "checkpoint") if job.needs_checkpoint else job.reads
    for name, value in (("checkpoint", config.checkpoint), ("run", config.run), ("runs", config.runs)):
        if value is not None and name not in reads:
            yield Problem(name, value, "is not read by this job", meanings[name])
    yield from (*job.own_problems(), *job.problems(config))


def _places(config: Config) -> Iterator[Problem]:
    """Paths that do not exist, of what the job reads."""
    for key, option in config.options():
        if config.job.reads_data and (key == "data" or not config.job.needs_checkpoint):
            yield from missing(option, key)


def _device(config: Config) -> Iterable[Problem]:
    """A GPU that is named and not there."""
    return device_problems(config.device, config.engine.kind)


def _schedule(config: Config) -> Iterable[Problem]:
    return schedule_problems(config.schedule, config.optimizer)


def _micro_batch(config: Config) -> Iterator[Problem]:
    if "batch_size" in config.auto_keys:
        yield from config.engine.auto_batch_problems(config.micro_batch)
    elif config.micro_batch and config.batch_size != "full" and config.micro_batch > config.batch_size:
        yield Problem("micro_batch", config.micro_batch, f"must be at most batch_size, {config.batch_size}")


def _graph(config: Config) -> Iterable[Problem]:
    return config.engine.graph_problems(config.micro_batch, config.precision)


def _processes(config: Config) -> Iterable[Problem]:
    """Why ``engine.distributed`` and the job do not go together with the processes started."""
    if not config.job.trains and (launched_processes() > 1 or config.engine.distributed == "ddp"):
        text = "runs in one process: start it without torchrun and engine=ddp"
        return [Problem("job", config.name("job"), text)]
    return config.engine.process_problems(launched_processes(), config.resume)


def _cache(config: Config) -> Iterator[Problem]:
    if isinstance(config.data, FileDataset):
        yield from config.data.cache_problems(crops_originals(config.augmentation))


def _flips(config: Config) -> Iterator[Problem]:
    """Flips of images whose class they change, such as digits."""
    if not config.data.flips_change_classes:
        return
    text = "a flip changes the class of these images, such as digits"
    if config.job.tta != "none":
        yield Problem("job.tta", config.job.tta, text, "job.tta=none")
    if config.checkpoint is None:  # else training is over
        yield from flip_problems(config.augmentation, text)


def _metrics(config: Config) -> Iterable[Problem]:
    """Metrics that no column of the history will have, as far as the config alone tells."""
    named = named_metrics(config.metric, config.options())
    columns = config.task.columns(config.averaging.enabled, named.values())
    return [] if columns is None else metric_problems(named, columns, config.task.possible_columns())


def _recipe(config: Config) -> Iterable[Problem]:
    return config.recipe.problems(config.epochs)


def _sampling(config: Config) -> Iterable[Problem]:
    return config.task.sampling_problems(config.data.sampling)


CONSTRAINTS = (_job, _flips, _cache, _metrics, _sampling, _recipe, _processes, _schedule, _micro_batch, _graph)
OF_THE_MACHINE = (_places, _device)
