"""The interface between the loop and what observes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from trainer.formats import Contribution, Result, Row

if TYPE_CHECKING:
    from trainer.engine.view import RunView


class Observer:
    """Base class of observers. They read a run and cannot change it: without them, training gives the same bits.

    The order of the calls is ``on_fit_start``; for every step ``on_step_end``; for every epoch ``on_epoch_end``; at the
    end, also of an interrupted or failed run, ``on_fit_end`` of all observers, then ``on_result`` of all observers.
    An observer whose ``on_fit_start`` has not returned gets none of the later calls.
    """

    on_every_rank: ClassVar[bool] = (
        False  # whether it is called on all ranks of distributed training, not on rank 0 only
    )
    provides_statistics: ClassVar[bool] = (
        False  # whether it is called before those that do not: they read what it collects
    )

    reads_files: ClassVar[bool] = False  # whether it is called last: it reads what the others write

    def on_fit_start(self, view: RunView) -> None:
        """Called before the first step, and again before the first step of a resumed run."""

    def on_step_end(self, view: RunView) -> None:
        """Called after each step."""

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        """Called after each epoch; ``row`` is the new row of the history."""

    def flush(self) -> None:
        """Wait until everything that has been saved is on the disk. Called before the result says so."""

    def on_fit_end(self, view: RunView, result: Result) -> Contribution | None:
        """Called at the end of the run; what is returned is added to ``result.json`` under new keys."""

    def on_result(self, view: RunView, result: Result) -> None:
        """Called with the complete result, which ``result.json`` already holds: the place to print or draw it."""


class ObserverGroup(Observer):
    """Several observers as one; it remembers which have started, since only those have something to end."""

    on_every_rank = True

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.observers = list(observers)
        self.started: list[Observer] = []

    def on_fit_start(self, view: RunView) -> None:
        for observer in self.observers:
            observer.on_fit_start(view)
            self.started.append(observer)

    def on_step_end(self, view: RunView) -> None:
        for observer in self.started:
            observer.on_step_end(view)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        for observer in self.started:
            observer.on_epoch_end(view, row)

    def flush(self) -> None:
        for observer in self.started:
            observer.flush()

    def on_fit_end(self, view: RunView, result: Result) -> Contribution:
        """The contributions of all observers; ValueError if one would replace a key of the result or of another."""
        contributions: Contribution = {}
        for observer in self.started:
            own = observer.on_fit_end(view, result) or {}
            if taken := sorted(own.keys() & (result.keys() | contributions.keys())):
                raise ValueError(f"{type(observer).__name__} cannot set result[{taken[0]!r}], which exists already")
            for key, value in own.items():
                contributions[key] = value
        return contributions

    def on_result(self, view: RunView, result: Result) -> None:
        for observer in self.started:
            observer.on_result(view, result)
