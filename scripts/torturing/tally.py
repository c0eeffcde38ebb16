"""What was tried and what was lost, kept in a file, so that a long series can be run in parts."""

from __future__ import annotations

import json
from pathlib import Path


class Tally:
    """Counts by kind and row of the table.

    Args:
        path: The JSON file that keeps the counts between two calls of the program; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[str, list[int]] = {}  # "kind: row" -> tried, lost
        self.failures: list[str] = []
        if path is not None and path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            self.rows, self.failures = content["rows"], content["failures"]

    def add(self, kind: str, row: str, tried: int, failures: list[str]) -> None:
        """Count trials of a kind, in a row of the table, and print what was lost."""
        counts = self.rows.setdefault(f"{kind}: {row}", [0, 0])
        counts[0] += tried
        counts[1] += len(failures)
        for text in failures:
            print(f"lost: {kind}: {row}: {text}", flush=True)
        self.failures += [f"{kind}: {row}: {text}" for text in failures]
        if self.path is not None:
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps({"rows": self.rows, "failures": self.failures}, indent=1), encoding="utf-8")
            temporary.replace(self.path)

    def tried(self, kind: str) -> int:
        """Return how many trials of a kind there were."""
        return sum(tried for name, (tried, _) in self.rows.items() if name.startswith(f"{kind}: "))

    @property
    def lost(self) -> int:
        return sum(lost for _, lost in self.rows.values())

    def table(self) -> str:
        """Return the table: fault, tried, survived, lost."""
        lines = ["| fault | tried | survived | lost |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {tried:,} | {tried - lost:,} | {lost} |" for name, (tried, lost) in sorted(self.rows.items())
        ]
        tried = sum(tried for tried, _ in self.rows.values())
        return "\n".join([*lines, f"| **sum** | {tried:,} | {tried - self.lost:,} | {self.lost} |"])
