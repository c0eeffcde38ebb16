"""Observers of a run: the terminal, TensorBoard, checkpoints, the history file. They cannot change a result."""

from trainer.engine.observer import Observer
from trainer.observers.options import (
    Checkpoint,
    Console,
    Csv,
    Diagnosis,
    Filters,
    Histograms,
    HistoryFile,
    Mlflow,
    Predictions,
    Profile,
    Report,
    TensorBoard,
    Wandb,
)

__all__ = [
    "Checkpoint",
    "Console",
    "Csv",
    "Diagnosis",
    "Filters",
    "Histograms",
    "HistoryFile",
    "Mlflow",
    "Observer",
    "Predictions",
    "Profile",
    "Report",
    "TensorBoard",
    "Wandb",
]
