"""Start the job of a config: its run directory, its processes, its lock, and the range test that it may need first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.environment import launched_rank
from trainer.files import remove_empty
from trainer.lock import one_writer
from trainer.run_dir import check_available, new_run_dir
from trainer.streams import keep_running_unread

if TYPE_CHECKING:
    from trainer.config.schema import Config


def start(config: Config, overrides: Sequence[str], directory: Path | None = None) -> int:
    """Run the job of a config; return the exit code. The job makes the run directory once everything is known to fit.

    Args:
        config: The config.
        overrides: As typed, for the name of the run directory and ``overrides.txt``.
        directory: The run directory, of a job of a sweep; by default ``config.output`` or a new one.
    """
    given = config.resume or config.output
    if directory is None and given:
        directory = Path(given).expanduser()
    if directory is not None and not config.resume and not config.job.continues:
        check_available(directory)
    if directory is None:
        directory = new_run_dir(list(overrides)) if launched_rank() == 0 else Path()
    if config.job.trains or config.job.continues:
        keep_running_unread()
    key = "resume" if config.resume else "output"
    if config.engine.distributed == "none":
        try:
            with one_writer(directory, key) if config.job.exclusive else nullcontext():
                return config.job(with_auto_values(config), directory, list(overrides))
        finally:
            remove_empty(directory)
    from trainer.engine import distributed

    distributed.start()
    common: Path = distributed.broadcast(directory)  # that of rank 0: it has created it
    with distributed.one_writer(common, key):
        code = config.job(with_auto_values(config), common, list(overrides))
    distributed.end()
    return code


def with_auto_values(config: Config) -> Config:
    """Return the config with numbers for its ``auto`` keys, ``batch_size`` and those of the LR range test."""
    if not config.auto_keys:
        return config
    from trainer.jobs.auto_keys import resolve

    return resolve(config)
