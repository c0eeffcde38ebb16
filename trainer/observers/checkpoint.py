"""Checkpoints."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from trainer.engine import checkpoint
from trainer.engine.distributed import rank
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import require
from trainer.formats import Result, Row
from trainer.history import History, ranked
from trainer.observers.context import Context
from trainer.observers.options import Checkpoint


def kept_epochs(history: History, metric: str, best: int, every: int | None) -> set[int]:
    """Return the epochs of a history, counted from 1, whose weights are kept: the ``best`` ones, and each ``every``-th.

    Of equal ones the earlier is better; an epoch without a value of the metric, or with NaN, is none of the best.

    >>> rows = [{"validation_accuracy": value} for value in (0.5, 0.9, 0.7, 0.9, 0.6)]
    >>> kept_epochs(History(rows), "validation_accuracy", 2, None), kept_epochs(History(rows), "validation_accuracy", 0, 2)
    ({2, 4}, {2, 4})
    """
    values = [math.nan if (value := row.get(metric)) is None else value for row in history]
    multiples = range(every, len(values) + 1, every) if every else ()
    return {i + 1 for i in ranked(values, metric)[:best] if not math.isnan(values[i])} | set(multiples)


def epoch_file(checkpoints: Path, epoch: int) -> Path:
    """Return the file of the weights after an epoch, counted from 1 over all phases."""
    return checkpoints / f"epoch_{epoch:04d}.pt"


def remove_others(checkpoints: Path, names: set[str]) -> None:
    """Remove the files of epochs but for those of these names."""
    for file in checkpoints.glob("epoch_*.pt"):
        if file.name not in names and not file.is_symlink():
            file.unlink(missing_ok=True)


class CheckpointObserver(Observer):
    """Writes ``checkpoints/last.pt`` before the first step, at the end of epochs, after every ``every_steps`` steps and when
    interrupted, and ``checkpoints/best.pt`` when an epoch was the best so far.

    Both are written atomically, one after the other; a thread waits for the disk. The file that ``last.pt`` replaces is
    kept as ``previous.pt``, from which a run resumes if ``last.pt`` is damaged. The weights of the ``keep_best`` best epochs
    so far, and of every ``keep_every``-th, are in ``epoch_<number>.pt``, in the form of ``best.pt``. All ranks take part,
    because a state is collected from all of them.
    """

    on_every_rank: ClassVar[bool] = True

    def __init__(self, option: Checkpoint, context: Context) -> None:
        self.option, self.every_epochs, self.every_steps = option, option.every_epochs, option.every_steps
        self.pending: dict[Path, Future[None]] = {}

    def on_fit_start(self, view: RunView) -> None:
        self.disk = ThreadPoolExecutor(1, "checkpoint")
        if view.folder is None:
            return
        if view.best and rank() == 0:
            # A resumed run: best.pt may be missing, or be of a later epoch than the checkpoint that was restored.
            self._save(checkpoint.best_contents(view), view.folder / "checkpoints" / "best.pt")
        if rank() == 0:
            self._keep(view)
        if view.step == 0:
            # From here on a run without last.pt has lost it: it does not restart from scratch unnoticed.
            self._save_last(view)
        self.flush()

    def on_step_end(self, view: RunView) -> None:
        due = view.interrupted or (self.every_steps and view.step % self.every_steps == 0)
        if due and view.is_finite():
            self._save_last(view)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        if view.diverged:
            return  # last.pt keeps the weights of before
        # Both files hold the history's index of the best row, so a kill between the two writes does no harm.
        if rank() == 0 and view.folder is not None and view.best and view.best["row"] == view.epochs_done - 1:
            self._save(checkpoint.best_contents(view), view.folder / "checkpoints" / "best.pt")
        if rank() == 0:
            self._keep(view, epoch_has_ended=True)
        if view.epochs_done % self.every_epochs == 0 or view.over:
            self._save_last(view)

    def _keep(self, view: RunView, epoch_has_ended: bool = False) -> None:
        """Keep the weights of the epochs that are to be kept, and no others.

        The files are written before ``last.pt``: an epoch after which a run resumes has its file.
        """
        if view.folder is None or not (self.option.keep_best or self.option.keep_every):
            return
        kept = kept_epochs(view.history, view.metric, self.option.keep_best, self.option.keep_every)
        checkpoints = view.folder / "checkpoints"
        if epoch_has_ended and view.epochs_done in kept:
            self._save(checkpoint.epoch_contents(view), epoch_file(checkpoints, view.epochs_done))
        names = {epoch_file(checkpoints, epoch).name for epoch in kept}
        self.pending[checkpoints] = self.disk.submit(remove_others, checkpoints, names)

    def _save_last(self, view: RunView) -> None:
        if view.folder is None:
            return
        content = checkpoint.contents(view)
        if rank() == 0:
            checkpoints = view.folder / "checkpoints"
            self._save(content, checkpoints / "last.pt", checkpoints / "previous.pt")

    def _save(self, content: checkpoint.Content, path: Path, previous: Path | None = None) -> None:
        require(path.parent.parent)
        if path in self.pending:
            self.pending.pop(path).result()
        self.pending[path] = self.disk.submit(checkpoint.write_temporary(content, path, previous))

    def flush(self) -> None:
        for written in self.pending.values():
            written.result()

    def on_fit_end(self, view: RunView, result: Result) -> None:
        self.disk.shutdown(wait=True)
        self.flush()
