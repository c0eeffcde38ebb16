"""Averaging of the weights along training."""

from trainer.averaging.options import (
    EMA,
    SWA,
    Averaging,
)

__all__ = [
    "EMA",
    "SWA",
    "Averaging",
]
