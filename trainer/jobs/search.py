"""``job=search``: hyperparameter search from coarse to fine, see ``trainer.search``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from trainer.config.options import option_files
from trainer.engine.observer import Observer
from trainer.engine.run import Run
from trainer.errors import ConfigError, quoted
from trainer.exit_codes import FINISHED, INTERRUPTED
from trainer.formats import Result
from trainer.interrupt import careful_interrupts
from trainer.jobs.fit import train_and_evaluate
from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.observers.context import ObserverOption
from trainer.run_dir import check_available, create_run_dir, read_config, write_json
from trainer.search.choice import candidates, choose
from trainer.search.options import stages_up_to
from trainer.search.page import write_page
from trainer.search.read_space import read_space
from trainer.search.run import Part, make_part, make_session, take_part
from trainer.search.run import search as run_search
from trainer.search.storage import JOURNAL, SEARCH_LOCK, close_storage
from trainer.search.summary import finish
from trainer.search.trial import base_configs

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.search_options import Search
    from trainer.search.session import Session

# What ``create_run_dir`` writes; the last file makes a run of a directory.
IDENTITY = ("overrides.txt", "environment.json", "config.yaml")


def search(option: Search, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Search``."""
    new = check_directory(run_dir)
    configs = base_configs(config, overrides, read_space(option.space, config)[0])  # errors, before anything is written
    if source := config.set_keys.get("epochs"):
        text = f"epochs={config.epochs:g} of {source} has no effect: the stages of a search have lengths of their own"
        print_literal(f"{text} ({quoted(stages_up_to(config.epochs))} ends with this one)")
    part = make_part(option, config, run_dir, configs)
    try:
        if new:
            create_run_dir(run_dir, config.tree, overrides, "search")
        session = begin(part, new)
        run_search(session, part, work)
    except KeyboardInterrupt:
        write_json(run_dir / "result.json", {"status": "interrupted", "stop_reason": "interrupted", "seconds": 0.0})
        print_literal(f"stopped; the same command with {quote(f'output={run_dir}')} continues", file=sys.stderr)
        return INTERRUPTED
    choice = choose(candidates(session.full_length.results, session.repetitions, session.points, session.trials.metric))
    finish(session, choice, run_dir)
    write_page(session, choice, run_dir)
    close_storage(session.ledger.storage)
    return FINISHED


def begin(part: Part, new: bool) -> Session:
    """Return the session of a search; if it cannot begin, a new run directory is removed again."""
    try:
        return make_session(part, train)
    except ConfigError:
        if new:
            discard(part.run_dir)
        raise


def discard(run_dir: Path) -> None:
    """Remove what a search that could not begin has written; the directory, too, if that was all."""
    for name in reversed(IDENTITY):
        (run_dir / name).unlink(missing_ok=True)
    for path in (run_dir / name for name in (SEARCH_LOCK, *JOURNAL)):
        if path.is_file() and not path.stat().st_size:
            path.unlink()
    with contextlib.suppress(OSError):
        run_dir.rmdir()


def check_directory(run_dir: Path) -> bool:
    """Return whether a directory is new; ConfigError if it contains something other than a search."""
    if (run_dir / "config.yaml").is_file():
        job = read_config(run_dir, "output").get("job")
        if isinstance(job, dict) and str(job.get("_target_")).endswith(".Search"):
            return False
    check_available(run_dir)
    return True


def train(run: Run, observers: Sequence[ObserverOption | Observer]) -> Result:
    """Train a trial that gets a run directory, as ``job=fit`` does."""
    assert run.folder is not None
    with one_writer(run.folder):
        run.id = create_run_dir(run.folder, run.info.config, [], run.notes[0])
        return train_and_evaluate(run, observers)


def work(part: Part, number: int) -> None:
    """Take part in a search as one of several workers: the target of a process. What it prints goes to a log."""
    log = part.run_dir / "workers" / f"{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    option_files(part.config_dirs)  # makes the user's classes importable
    with contextlib.suppress(KeyboardInterrupt), careful_interrupts():
        take_part(make_session(part, train), part.run_dir)
