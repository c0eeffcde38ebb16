"""The plots of the jobs of a sweep: those of the best are drawn at its end, others when they are asked for."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from trainer.config.schema import Config
from trainer.errors import ConfigError, WriteError
from trainer.jobs.options import Fit
from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.parameters import implemented_by
from trainer.progress import activity
from trainer.records import read_result
from trainer.run_dir import find_run_dir, plots_left, read_config
from trainer.sweep.manifest import Sweep
from trainer.sweep.table import best_job
from trainer.tree import value_at

draw_report = implemented_by("trainer.observers.plots:draw_report")  # which loads torch


def plots_later(config: Config) -> Config:
    """Return the config of a job whose plots are left for later, unless it says when they are drawn."""
    if isinstance(config.job, Fit) and config.job.plots == "auto":
        return replace(config, job=replace(config.job, plots="later"))
    return config


def draw_best(sweep: Sweep) -> None:
    """Draw the plots of the best job, or the only one, if they were left for later; say how those of the others are drawn."""
    undrawn = [job for job in sweep.jobs if plots_left(sweep.run_dir(job)).is_file()]
    best = best_job(sweep, [read_result(sweep.run_dir(job)) for job in sweep.jobs]) if undrawn else None
    chosen = sweep.jobs[0] if len(sweep.jobs) == 1 else best.job if best else None
    if chosen in undrawn and drawn(sweep.run_dir(chosen)):
        undrawn.remove(chosen)
    if undrawn:
        command = shlex.join(["train", "job=report", f"run={sweep.directory}"])
        print_literal(f"the plots of {len(undrawn)} of {len(sweep.jobs)} jobs are not drawn; {command} draws all")


def drawn(run_dir: Path) -> bool:
    """Draw the plots of a run, unless its config leaves them for later, and return whether that was done.

    The result of a sweep does not depend on it: what prevents it is a note.
    """
    try:
        if value_at(read_config(run_dir, "run"), "job", "plots") == "later":
            return False
        with one_writer(find_run_dir("run", str(run_dir)), "run"), activity("drawing its plots"):
            report = draw_report(run_dir).with_suffix(".html")
    except (ConfigError, WriteError) as error:
        print_literal(f"note: the plots of the best job are not drawn: {error}", file=sys.stderr)
        return False
    print_literal(f"its plots: {report}")
    return True
