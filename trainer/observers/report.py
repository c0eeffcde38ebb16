"""The report of a run."""

from __future__ import annotations

from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.formats import Result
from trainer.observers.context import Context
from trainer.observers.history_file import write_history
from trainer.observers.options import Report
from trainer.observers.plots import draw_report
from trainer.report import write_report
from trainer.run_dir import plots_left


class ReportObserver(Observer):
    """Writes ``report.md``, ``report.html`` and their images when the run ends, also when it was interrupted or failed.

    Plots that are drawn later are not in it yet, but the curves of ``report.html``, which are data.
    """

    def __init__(self, option: Report, context: Context) -> None:
        self.plots = context.plots

    def on_result(self, view: RunView, result: Result) -> None:
        if view.folder is not None:
            write_history(view.folder, view.history)  # the report reads it, also without the observer history_file
            if self.plots.later:
                self.plots.leave(view.folder)
            elif plots_left(view.folder).is_file():  # before this end of the run
                draw_report(view.folder, self.plots.events)
                return
            write_report(view.folder, not self.plots.later, view.info.config)
