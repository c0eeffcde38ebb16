"""Checkpoints: ``last.pt`` to go on from, ``best.pt`` to use."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import check
from trainer.observers import Observer

if TYPE_CHECKING:
    from trainer.engine.run import Run


@dataclass
class Checkpoint(Observer):
    """Writes ``checkpoints/last.pt`` after every ``every_epochs`` epochs, after ``every_steps`` steps (null: not), at the end
    and when interrupted, and ``checkpoints/best.pt`` when an epoch was the best; each is replaced whole or not at all. A thread
    waits for the disk, one file after the other.
    """

    everywhere: ClassVar[bool] = True  # of several processes each is asked: the state is gathered from all
    every_epochs: int = 1
    every_steps: int | None = None

    def __post_init__(self) -> None:
        check(
            self,
            every_epochs=(self.every_epochs >= 1, "must be >= 1"),
            every_steps=(self.every_steps is None or self.every_steps >= 1, "must be >= 1, or null"),
        )

    def on_fit_start(self, run: Run) -> None:
        self.disk = ThreadPoolExecutor(1, "checkpoint")
        self.under_way: dict[Path, Future[None]] = {}
        if run.folder is not None:
            for left in (run.folder / "checkpoints").glob(".*.tmp"):  # by a process that was killed
                left.unlink(missing_ok=True)

    def on_step_end(self, run: Run) -> None:
        if run.interrupted or (self.every_steps and run.clock.step % self.every_steps == 0):
            self._last(run)

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        from trainer.engine import checkpoint
        from trainer.engine.distributed import rank

        # The history's index of the best row is in both files, so it does not matter between which of them a kill falls.
        if rank() == 0 and run.folder is not None and run.best is not None and run.best["row"] == len(run.history) - 1:
            self._save(checkpoint.best_contents(run), run.folder / "checkpoints" / "best.pt")
        if len(run.history) % self.every_epochs == 0 or run.finished or run.stop_reason():
            self._last(run)

    def _last(self, run: Run) -> None:
        from trainer.engine import checkpoint
        from trainer.engine.distributed import rank

        if run.folder is None:
            return
        content = checkpoint.contents(run)
        if rank() == 0:
            self._save(content, run.folder / "checkpoints" / "last.pt")

    def _save(self, content: dict[str, Any], path: Path) -> None:
        from trainer.engine import checkpoint

        if path in self.under_way:
            self.under_way.pop(path).result()
        self.under_way[path] = self.disk.submit(checkpoint.commit, checkpoint.write_temporary(content, path), path)

    def flush(self) -> None:
        """Wait until all that was saved is on the disk."""
        for written in self.under_way.values():
            written.result()

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        self.disk.shutdown(wait=True)
        self.flush()
