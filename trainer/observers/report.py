"""A page about the run, with its pictures, beside its other files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.observers import Observer
from trainer.run_dir import write_json

if TYPE_CHECKING:
    from trainer.engine.run import Run


@dataclass
class Report(Observer):
    """Writes ``report.md``, ``report.html`` and their pictures when the run ends, also when it was interrupted or failed."""

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if run.folder is not None:
            from trainer.observers.history_file import HistoryFile
            from trainer.report import write_report

            HistoryFile().on_fit_start(
                run
            )  # the history's file, which the report reads, whether or not that observer is on
            write_json(run.folder / "result.json", result)
            write_report(run.folder)
