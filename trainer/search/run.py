"""A search from its config to its result: settings that all processes share, the workers, the choice."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from trainer.analysis.comparison import flatten
from trainer.config.load import config_from_tree
from trainer.duration import seconds
from trainer.errors import ConfigError, Problem
from trainer.formats import JsonObject
from trainer.hardware import default_threads
from trainer.search.budget import Clock, fractions
from trainer.search.ledger import SETTINGS, Ledger, recorded_name
from trainer.search.options import SearchSettings
from trainer.search.presence import Presence
from trainer.search.progress import Progress
from trainer.search.read_space import read_space
from trainer.search.repeat import repeat
from trainer.search.session import FINAL, Session
from trainer.search.space import Space
from trainer.search.storage import open_storage
from trainer.search.trial import Configs, SearchInterrupt, Train, Trials, base_configs, maximized
from trainer.tree import table, with_value

if TYPE_CHECKING:
    from trainer.config.schema import Config

# What may differ between the processes of a search, and change when it continues.
FREE = ("output", "device", "engine", "observer", "experiment", "resume", "checkpoint", "run", "runs", "epochs")
FREE_OF_JOB = ("workers", "budget", "storage", "study", "reports")

Work = Callable[["Part", int], None]  # given what it needs and its number


@dataclass(frozen=True)
class Part:
    """What a process of the search needs: plain values, which can be sent to another process.

    Attributes:
        parent: The process that started this one; None for the first one.
    """

    tree: JsonObject
    config_dirs: tuple[Path, ...]
    overrides: tuple[str, ...]
    run_dir: Path
    parent: int | None = None


def search(session: Session, part: Part, work: Work) -> None:
    """Take part in the search until it is over, with as many processes as ``job.workers`` says.

    Args:
        session: Of this process.
        part: What it was made from.
        work: The target of the other processes.

    Raises:
        ConfigError: No trial of a stage trained to the end, or the config as typed is wrong.
        KeyboardInterrupt: It was interrupted; the same command continues it.
    """
    with workers(replace(part, parent=os.getpid()), session.option.workers - 1, work):
        take_part(session, part.run_dir)


def make_part(option: SearchSettings, config: Config, run_dir: Path, configs: Configs) -> Part:
    """Return what the first process of a search needs."""
    return Part(shared_threads(config, option.workers), config.config_dirs, tuple(configs.overrides), run_dir)


def take_part(session: Session, run_dir: Path) -> None:
    """Run trials until the search is over; KeyboardInterrupt if it is interrupted."""
    with session.trials.interrupt, Presence(run_dir, session.ledger.beat) as presence:
        session.run(presence)
        repeat(session)


def make_session(part: Part, train: Train) -> Session:
    """Return this process's part of the search, checked against what the other processes do.

    Raises:
        ConfigError: The config, the space, or the storage is wrong, or the search there is another one.
    """
    config = replace(config_from_tree(part.tree), config_dirs=part.config_dirs)
    option = cast(SearchSettings, config.job)
    space = read_space(option.space, config)[0]
    configs = base_configs(config, part.overrides, space)
    storage = open_storage(option.storage, part.run_dir)
    trials = Trials(configs, SearchInterrupt(part.parent), train)
    name = option.study or (recorded_name(storage) if option.storage is None else None) or part.run_dir.absolute().name
    ledger = Ledger(storage, name, part.run_dir, maximized(trials.metric))
    check_settings(ledger, settings(config, space), option)
    steps = trials.fewest_steps(space)
    lengths = tuple(ledger.agree(SETTINGS, "lengths", lambda: list(option.lengths(steps))))
    names = [*(f"stage-{i + 1}" for i in range(len(lengths))), FINAL]
    clock = Clock(
        None if option.budget is None else seconds(option.budget),
        fractions(lengths, option.seeds != 0),
        ledger.active_seconds(names),
        time.monotonic(),
    )
    progress = Progress(quiet=part.parent is not None)
    return Session(option, lengths, steps, config, space, ledger, trials, clock, progress)


def settings(config: Config, space: Space) -> JsonObject:
    """Return what all processes of a search must have in common."""
    tree = {key: value for key, value in config.tree.items() if key not in (*FREE, "job")}
    job = {k: v for k, v in table(config.tree["job"]).items() if k not in (*FREE_OF_JOB, "space", "_target_")}
    return {**tree, "job": {**job, "space": {**space.describe()}}}


def check_settings(ledger: Ledger, own: JsonObject, option: SearchSettings) -> None:
    """Raise ConfigError if the search of this name has other settings than this command."""
    there = ledger.agree(SETTINGS, "settings", lambda: own)
    before, now = (flatten(tree, option_name=lambda _, node: str(node["_target_"])) for tree in (there, own))
    # What is recorded has been JSON: tuples and lists are the same.
    different = [
        f"{key}: {before.get(key)} there, {now.get(key)} here"
        for key in {**before, **now}
        if _plain(before.get(key)) != _plain(now.get(key))
    ]
    if different:
        key, value = ("job.study", ledger.name) if option.study else ("output", ledger.name)
        text = f"contains another search: {'; '.join(different)}"
        raise ConfigError(Problem(key, value, text, f"another {key}, or the same command to continue"))


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def shared_threads(config: Config, workers: int) -> JsonObject:
    """Return the config with this worker's part of the CPU threads."""
    if workers == 1 or config.engine.threads != "auto":
        return config.tree
    return with_value(config.tree, "engine.threads", max(1, default_threads() // workers))


@contextmanager
def workers(part: Part, count: int, work: Work) -> Iterator[None]:
    """Run this many further processes of the search; they are ended at the end of the block."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(part, number)) for number in range(1, count + 1)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()  # as Ctrl-C: its trial is given back
        for process in processes:
            process.join()
