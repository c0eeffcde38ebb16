"""Averaging of the weights during training."""

from trainer.averaging.options import EMA, SWA, Averaging

__all__ = ["EMA", "SWA", "Averaging"]
