"""Cross-option checks: what options require of each other, of the data, and of the way the program was started."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING, Any, cast

from trainer.config.schema import Config, Settings
from trainer.errors import Problem
from trainer.existing import missing
from trainer.gpus import why_no_gpu
from trainer.optimizers import Optimizer, schedule_fits
from trainer.parameters import parameters
from trainer.schedules import Product
from trainer.tasks.history_columns import unknown_column

if TYPE_CHECKING:
    pass


class InvalidValue(Exception):
    """A constraint involves a value that is invalid by itself."""


class ValidPart:
    """A config of which the settings and groups that are invalid by themselves cannot be read."""

    def __init__(self, config: Config, invalid: Collection[str]) -> None:
        self._config, self._invalid = config, invalid

    def __getattr__(self, name: str) -> Any:
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


def _job(config: Config) -> Iterable[Problem]:
    return [*config.job.own_problems(), *config.job.problems(config)]


def _checkpoint(config: Config) -> Iterator[Problem]:
    if config.job.needs_checkpoint and config.checkpoint is None:
        text = "must be given: checkpoint=<run directory or file>"
        yield Problem("checkpoint", None, text, "this job loads a trained model")


def _unread(config: Config) -> Iterator[Problem]:
    """Settings for other jobs."""
    read = (*config.job.reads, *(["checkpoint"] if config.job.needs_checkpoint else []))
    given = {name: value for name in ("checkpoint", "run", "runs") if (value := getattr(config, name)) is not None}
    for setting in parameters(Settings):
        if setting.name in given and setting.name not in read:
            yield Problem(setting.name, given[setting.name], "is not read by this job", setting.meaning)


def _places(config: Config) -> Iterator[Problem]:
    """Paths that do not exist, of what the job reads."""
    for key, option in config.options():
        if config.job.reads_data and (key == "data" or not config.job.needs_checkpoint):
            yield from missing(option, key)


def _device(config: Config) -> Iterator[Problem]:
    """A GPU that is named and not there."""
    kind, _, index = config.device.partition(":")
    if kind == "cuda" and (reason := why_no_gpu(int(index or 0))):
        yield Problem("device", config.device, reason, "device=cpu, or device=auto")
    elif config.device == "auto" and config.engine.kind == "gpu" and (reason := why_no_gpu()):
        yield Problem("engine.kind", "gpu", reason, "engine=auto takes the CPU")


def _schedule(config: Config) -> Iterable[Problem]:
    return optimizer_and_schedule(config, config.optimizer) if isinstance(config.optimizer, Optimizer) else []


def optimizer_and_schedule(config: Config, optimizer: Optimizer) -> list[Problem]:
    """Return why the schedules cannot be combined with the optimizer."""
    reason = schedule_fits(Product(tuple(config.schedule.values())).over(config.epochs), optimizer)
    return [Problem("schedule", list(config.schedule), reason)] if reason else []


def _micro_batch(config: Config) -> Iterator[Problem]:
    size, micro_batch = config.batch_size, config.micro_batch
    if micro_batch and size != "full" and micro_batch > size:
        yield Problem("micro_batch", micro_batch, f"must be at most batch_size, {size}")


def _graph(config: Config) -> Iterator[Problem]:
    if config.engine.graph == "on" and config.micro_batch:
        text = "captures a whole training step, which micro_batch splits"
        yield Problem("engine.graph", "on", text, "micro_batch=null, or engine.graph=auto")


def launched_processes() -> int:
    """Return how many processes torchrun, or a launcher that sets its variables, has started; 0 without one."""
    return int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else 0


def _processes(config: Config) -> Iterator[Problem]:
    """Why ``engine.distributed`` and the job do not go together with the processes started."""
    count, mode = launched_processes(), config.engine.distributed
    if not config.job.trains and (count > 1 or mode == "ddp"):
        yield Problem("job", config.name("job"), "runs in one process: start it without torchrun and engine=ddp")
    elif mode == "ddp" and not count:
        given = f"resume={quote(config.resume)}" if config.resume else "engine=ddp ..."
        text = f"needs several processes: torchrun --nproc-per-node 2 -m trainer {given}"
        yield Problem("engine.distributed", mode, text, "engine=auto takes one process")
    elif mode == "none" and count > 1:
        text = f"torchrun started {count} processes, each of which would do the same"
        yield Problem("engine.distributed", mode, text, "engine=ddp makes them train together")


def _cache(config: Config) -> Iterator[Problem]:
    """A cache of resized images under an augmentation that crops the original ones."""
    first = next((name for name, option in config.augmentation.items() if option is not None), None)
    if config.data.cache != "none" and first and getattr(config.augmentation[first], "resizes", False):
        size = getattr(config.data, "size", None)
        text = f"stores images resized to {size}, but augmentation.{first} crops the original images"
        yield Problem("data.cache", config.data.cache, text, "data.cache=none, or augmentation=[crop,flip]")


def _flips(config: Config) -> Iterator[Problem]:
    """Flips of images whose class they change, such as digits."""
    if not config.data.flips_change_classes:
        return
    text = f"a flip changes the class of these images (data: {config.name('data')})"
    tta = getattr(config.job, "tta", "none")
    if tta != "none":
        yield Problem("job.tta", tta, text, "job.tta=none")
    for name, option in config.augmentation.items() if config.checkpoint is None else ():  # else training is over
        if getattr(option, "changes_classes", False) and not option.force:
            hint = f"leave it out, or set augmentation.{name}.force=true"
            yield Problem(f"augmentation.{name}", "on", text, hint)


def _metrics(config: Config) -> Iterable[Problem]:
    """Metrics that no column of the history will have, as far as the config alone tells."""
    columns = config.task.columns(config.averaging.enabled, named_metrics(config).values())
    return [] if columns is None else check_metrics(config, columns, config.task.possible_columns())


def named_metrics(config: Config) -> dict[str, str]:
    """Return the columns of the history that the config names, by key; ``auto`` is left out."""
    metrics = {f"{key}.metric": option.metric for key, option in config.options() if hasattr(option, "metric")}
    return {key: value for key, value in ({"metric": config.metric} | metrics).items() if value != "auto"}


def check_metrics(config: Config, columns: Sequence[str], possible: Sequence[str]) -> Iterator[Problem]:
    """Yield the keys that name a metric which is not among the columns of the history, nor would be if it were named."""
    for key, value in named_metrics(config).items():
        if value not in columns and (key == "metric" or value != config.metric):  # by default, others are the same
            yield Problem(key, value, *unknown_column(value, columns, possible))


def _balance(config: Config) -> Iterator[Problem]:
    """Class weights and sampling that both raise rare classes."""
    weights, sampling = getattr(config.task, "class_weights", "none"), config.data.sampling
    if sampling != "natural" and weights in ("balanced", "effective_number"):
        text = f"raises rare classes, which data.sampling={sampling} does already"
        yield Problem("task.class_weights", weights, text, "task.class_weights=none, or data.sampling=natural")


CONSTRAINTS = (
    _job, _unread, _flips, _cache, _metrics, _balance, _processes, _checkpoint, _schedule, _micro_batch, _graph,
)  # fmt: skip
OF_THE_MACHINE = (_places, _device)
