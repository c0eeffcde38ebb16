"""The result of the doctor: a line per check, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from trainer.errors import quoted
from trainer.run_dir import terminal

Status = Literal["ok", "warning", "fail"]
COLORS = {"ok": "green", "warning": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the table: what was checked, its status, what was seen, what to try."""

    name: str
    status: Status
    seen: str
    attempt: str = ""


def show(checks: list[Check], run_dir: Path) -> None:
    """Print the table and the verdict."""
    console = terminal()
    table = Table("check", "", "result", "try", show_lines=False)
    for check in checks:
        table.add_row(check.name, Text(check.status, COLORS[check.status]), check.seen, quoted(check.attempt))
    console.print(table)
    failed, warnings = (sum(c.status == status for c in checks) for status in ("fail", "warning"))
    verdict = f"{failed} check{'s' * (failed > 1)} failed" if failed else "all checks passed"
    more = f", {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    console.print(f"{verdict}{more}; {run_dir / 'result.json'}", markup=False, soft_wrap=True)
