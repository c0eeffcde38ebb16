"""The history as a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import append_text, write_text
from trainer.formats import Row
from trainer.observers.context import Context
from trainer.observers.options import HistoryFile
from trainer.run_dir import json_safe


class HistoryFileObserver(Observer):
    """Writes ``history.jsonl``, one JSON object per epoch; a resumed run starts with the rows of its checkpoint."""

    def __init__(self, option: HistoryFile, context: Context) -> None:
        pass

    def on_fit_start(self, view: RunView) -> None:
        if view.folder is not None:
            write_history(view.folder, view.history)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        if view.folder is not None:
            rows = view.history.rows[:-1]
            append_text(view.folder / "history.jsonl", json_line(row), lambda: "".join(map(json_line, rows)))


def write_history(folder: Path, rows: Iterable[Row]) -> None:
    """Write ``history.jsonl`` in a run directory."""
    write_text(folder / "history.jsonl", "".join(map(json_line, rows)))


def json_line(row: Row) -> str:
    """A row as one line of JSON."""
    return json.dumps(json_safe(dict(row))) + "\n"
