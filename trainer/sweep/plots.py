"""The plots of the jobs of a sweep: those of the best are drawn at its end, others when they are asked for."""

from __future__ import annotations

from dataclasses import replace

from trainer.config.schema import Config
from trainer.jobs.options import Fit
from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.parameters import implemented_by
from trainer.progress import activity
from trainer.records import read_result
from trainer.run_dir import undrawn_plots
from trainer.sweep.manifest import Sweep
from trainer.sweep.table import best_job

draw_report = implemented_by("trainer.observers.plots:draw_report")  # which loads torch


def plots_later(config: Config) -> Config:
    """Return the config of a job whose plots are left for later, unless it says when they are drawn."""
    if isinstance(config.job, Fit) and config.job.plots == "auto":
        return replace(config, job=replace(config.job, plots="later"))
    return config


def draw_best(sweep: Sweep) -> None:
    """Draw the plots of the best job, or the only one, if they were left for later; say how those of the others are drawn."""
    undrawn = [job for job in sweep.jobs if undrawn_plots(sweep.run_dir(job))]
    best = best_job(sweep, [read_result(sweep.run_dir(job)) for job in sweep.jobs]) if undrawn else None
    chosen = sweep.jobs[0] if len(sweep.jobs) == 1 else best.job if best else None
    if chosen in undrawn:
        with one_writer(sweep.run_dir(chosen)), activity("drawing its plots"):
            report = draw_report(sweep.run_dir(chosen)).with_suffix(".html")
        print_literal(f"its plots: {report}")
        undrawn.remove(chosen)
    if undrawn:
        count = f"{len(undrawn)} of {len(sweep.jobs)} jobs"
        print_literal(f"the plots of {count} are not drawn; train job=report run=<directory of the job> draws them")
