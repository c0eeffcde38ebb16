"""``job=report``: write the report of a run directory again, from its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.report import write_report
from trainer.run_dir import find_run_dir

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Report


def report(option: Report, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Report``; the report goes into the run directory ``config.run``, nothing into ``run_dir``."""
    path = write_report(find_run_dir("run", config.run))
    print(f"written to {path} and {path.with_suffix('.html')}")
    return 0
