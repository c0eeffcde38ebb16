"""The history as a table for spreadsheets."""

from __future__ import annotations

import csv
import io

from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import write_text
from trainer.formats import Row
from trainer.history import History
from trainer.observers.context import Context
from trainer.observers.options import Csv

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}


class CsvObserver(Observer):
    """Writes ``history.csv``, a line per epoch; a resumed run starts with the lines of its checkpoint."""

    def __init__(self, option: Csv, context: Context) -> None:
        self.delimiter = DELIMITERS[option.delimiter]

    def on_fit_start(self, view: RunView) -> None:
        self._write(view)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        self._write(view)

    def _write(self, view: RunView) -> None:
        if view.folder is not None and len(view.history):
            write_text(view.folder / "history.csv", table(view.history, self.delimiter))


def table(history: History, delimiter: str = ",") -> str:
    """Return a history as CSV: the columns of all its rows, values that a row lacks empty.

    >>> table(History([{"epoch": 1.0, "train_loss": 0.5}, {"epoch": 2.0, "note": "a,b"}])).splitlines()
    ['epoch,train_loss,note', '1.0,0.5,', '2.0,,"a,b"']
    """
    file = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(file, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(row) for row in history)
    return file.getvalue()
