"""``job=report``: write the report of a run directory again, from its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.observers.plots import draw_report
from trainer.run_dir import find_run_dirs

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Report


def report(option: Report, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Report``; reports go into the run directories that ``config.run`` names, nothing into ``run_dir``."""
    for written in find_run_dirs("run", config.run):
        with one_writer(written, "run"):
            path = draw_report(written)
        print_literal(f"written to {path} and {path.with_suffix('.html')}")
    return 0
