"""The report of a run, from the files in its directory alone: ``report.md`` with its plots, and ``report.html`` in one file."""

from trainer.report.write import write_report

__all__ = ["write_report"]
