"""Trackers: services that collect the runs of many people and machines. Their failure never ends a run."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from trainer.analysis.comparison import flat_settings
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.errors import first_line
from trainer.formats import Result, Row
from trainer.observers.context import Context
from trainer.records import read_table
from trainer.run_dir import json_safe, write_json

TRACKERS = "trackers.json"  # in the run directory: the id of the run in each tracker
FILES = ("config.yaml", "history.jsonl", "result.json", "report.html", "checkpoints/best.pt")

Numbers = dict[str, float]


class TrackerObserver(Observer):
    """Sends the config, the rows of the history, the scores of the best weights and, with ``files``, the files of a run.

    The id of the run in the tracker is kept in the run directory, so that a resumed run continues it. Where the tracker fails, an
    alert says so once, and the run continues without it.
    """

    name: ClassVar[str]
    reads_files: ClassVar[bool] = True

    def __init__(self, context: Context, files: bool) -> None:
        self.alert, self.files, self.active = context.alert, files, False

    @abstractmethod
    def start(self, view: RunView, settings: Mapping[str, object], tracked: str | None) -> str:
        """Begin a run, or continue the ``tracked`` one, and return its id."""

    @abstractmethod
    def log(self, step: int, values: Numbers) -> None:
        """Send the values of an epoch that has ended at a step."""

    @abstractmethod
    def finish(self, status: str, scores: Numbers, files: list[tuple[Path, str]]) -> None:
        """Send how the run has ended, its scores, and files with their names; end the connection."""

    def on_fit_start(self, view: RunView) -> None:
        if view.folder is None:
            return
        path = view.folder / TRACKERS
        ids = read_table(path)
        tracked = ids.get(self.name)
        self.active = True

        def begin() -> None:
            settings = {**flat_settings(view.info.config), **view.hyperparameters}  # options by their names
            own = self.start(view, settings, tracked if isinstance(tracked, str) else None)
            write_json(path, {**ids, self.name: own})

        self._attempt(begin)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        values = numbers(row)
        self._attempt(lambda: self.log(view.step, values))

    def on_result(self, view: RunView, result: Result) -> None:
        folder = view.folder
        if folder is None:
            return
        splits = {"validation": result.get("validation"), "test": result.get("test")}
        scores = {
            f"{split}/{name}": value for split, own in splits.items() for name, value in numbers(own or {}).items()
        }
        paths = [(folder / name, name) for name in FILES if (folder / name).is_file()] if self.files else []
        status = str(result.get("status", "failed"))
        self._attempt(lambda: self.finish(status, scores, paths))

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self.active:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of the libraries are none of the user's
                action()
        except Exception as error:  # whatever the library raises: the run matters more than its record
            self.active = False
            self.alert(f"{self.name}: {first_line(error)}; this run is no longer tracked there")


def numbers(values: Mapping[str, object]) -> Numbers:
    """Return the numbers among values.

    >>> numbers({"phase": "main", "train_loss": 0.5, "step": 3, "over": True})
    {'train_loss': 0.5, 'step': 3.0}
    """
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def plain(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings as JSON has them."""
    return {key: json_safe(value) for key, value in settings.items()}
