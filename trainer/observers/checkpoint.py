"""Checkpoints."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from trainer.engine import checkpoint
from trainer.engine.distributed import rank
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.files import require
from trainer.formats import Result, Row
from trainer.observers.context import Context
from trainer.observers.options import Checkpoint


class CheckpointObserver(Observer):
    """Writes ``checkpoints/last.pt`` before the first step, at the end of epochs, after every ``every_steps`` steps and when
    interrupted, and ``checkpoints/best.pt`` when an epoch was the best so far.

    Both are written atomically, one after the other; a thread waits for the disk. The file that ``last.pt`` replaces is
    kept as ``previous.pt``, from which a run resumes if ``last.pt`` is damaged. All ranks take part, because a state is
    collected from all of them.
    """

    on_every_rank: ClassVar[bool] = True

    def __init__(self, option: Checkpoint, context: Context) -> None:
        self.every_epochs, self.every_steps = option.every_epochs, option.every_steps
        self.pending: dict[Path, Future[None]] = {}

    def on_fit_start(self, view: RunView) -> None:
        self.disk = ThreadPoolExecutor(1, "checkpoint")
        if view.folder is None:
            return
        if view.best and rank() == 0:
            # A resumed run: best.pt may be missing, or be of a later epoch than the checkpoint that was restored.
            self._save(checkpoint.best_contents(view), view.folder / "checkpoints" / "best.pt")
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
        if view.epochs_done % self.every_epochs == 0 or view.over:
            self._save_last(view)

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
