"""Sweeps (``-m``): every combination of the values, a manifest with the state of each job, a table."""

from trainer.sweep.run import run_hydra, run_sweep

__all__ = ["run_hydra", "run_sweep"]
