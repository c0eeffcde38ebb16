"""Observers of a run: the terminal, TensorBoard, checkpoints, the history file. They cannot change a result."""

from trainer.engine.observer import Observer
from trainer.observers.options import (
    Checkpoint,
    Console,
    Diagnosis,
    Filters,
    Histograms,
    HistoryFile,
    Predictions,
    Profile,
    Report,
    TensorBoard,
)

__all__ = [
    "Checkpoint",
    "Console",
    "Diagnosis",
    "Filters",
    "Histograms",
    "HistoryFile",
    "Observer",
    "Predictions",
    "Profile",
    "Report",
    "TensorBoard",
]
