"""The history as a file: one JSON object per epoch and line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.observers import Observer
from trainer.run_dir import json_safe, write

if TYPE_CHECKING:
    from trainer.engine.run import Run


@dataclass
class HistoryFile(Observer):
    """Writes ``history.jsonl``; a resumed run begins with the rows of its checkpoint, so that no epoch is there twice."""

    def on_fit_start(self, run: Run) -> None:
        if run.folder is not None:
            write(run.folder / "history.jsonl", "".join(_line(row) for row in run.history))

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        if run.folder is not None:
            with (run.folder / "history.jsonl").open("a") as file:
                file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(json_safe(row)) + "\n"
