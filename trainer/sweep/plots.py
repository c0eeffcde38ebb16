"""The plots of the jobs of a sweep: those of the best are drawn at its end, others when they are asked for."""

from __future__ import annotations

from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.progress import activity
from trainer.records import read_result
from trainer.report import draw_report
from trainer.report.plots import undrawn
from trainer.sweep.manifest import Sweep
from trainer.sweep.table import best_job


def draw_best(sweep: Sweep) -> None:
    """Draw the plots of the best job if they were left for later, and say how those of the others are drawn."""
    if not any(undrawn(sweep.run_dir(job)) for job in sweep.jobs):
        return
    best = best_job(sweep, [read_result(sweep.run_dir(job)) for job in sweep.jobs])
    if best is not None and undrawn(run_dir := sweep.run_dir(best.job)):
        with one_writer(run_dir), activity("drawing the plots of the best job"):
            report = draw_report(run_dir).with_suffix(".html")
        print_literal(f"its plots: {report}")
    print_literal("train job=report run=<directory of a job> draws the plots of another job")
