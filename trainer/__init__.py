"""Train image classifiers from composable configs: ``train optimizer=adam schedule=clr``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.api import FinishedRun, Predictor, build, evaluate, fit, load_config, load_run

__version__ = "0.1.0"
__all__ = ["FinishedRun", "Predictor", "build", "evaluate", "fit", "load_config", "load_run"]


def __getattr__(name: str) -> object:
    """Import the Python API at first use, so that the command line answers without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    from trainer import api

    return getattr(api, name)
