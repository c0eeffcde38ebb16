"""Observers watch a run: the terminal, TensorBoard, checkpoints, the history file. None can change a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.engine.run import Run


class Observer:
    """What all observers are: each place is silent unless an observer speaks there."""

    def on_fit_start(self, run: Run) -> None:
        pass

    def on_step_end(self, run: Run) -> None:
        pass

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        pass

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        pass
