"""What the doctor writes: a line a check, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.run_dir import terminal

Status = Literal["ok", "look", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the table: what was looked at, how it is, what was seen, what to try."""

    name: str
    status: Status
    seen: str
    attempt: str = ""


def show(checks: list[Check], folder: Path) -> None:
    """The table, and the verdict."""
    from rich.table import Table

    console = terminal()
    table = Table("check", "", "seen", "try", show_lines=False)
    colors = {"ok": "green", "look": "yellow", "fail": "red"}
    for found in checks:
        table.add_row(found.name, f"[{colors[found.status]}]{found.status}[/]", found.seen, found.attempt)
    console.print(table)
    failed, doubtful = (sum(c.status == s for c in checks) for s in ("fail", "look"))
    verdict = "healthy" if not failed else f"{failed} check{'s' * (failed > 1)} failed"
    more = f", {doubtful} to look at" if doubtful else ""
    console.print(f"{verdict}{more}; {folder / 'result.json'}", markup=False, soft_wrap=True)
