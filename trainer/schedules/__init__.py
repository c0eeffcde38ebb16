"""Learning rate schedules: pure functions from time (and, for ``Plateau``, history) to a multiplier of the peak learning rate.

Time ``t`` is measured in epochs from the start of the phase. The training loop writes ``lr · schedule(t, history)`` into the
optimizer before every step. A schedule has no state: it can be plotted before training, and resuming needs no checkpoint of it.
Several schedules are multiplied (``Product``).
"""

from trainer.schedules.base import Product, Schedule, Timed, curve, unreached
from trainer.schedules.cycles import CLR, OneCycle, WarmRestarts
from trainer.schedules.decay import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    Plateau,
    Step,
)
from trainer.schedules.warmup import Warmup

__all__ = [
    "CLR",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Product",
    "Schedule",
    "Step",
    "Timed",
    "WarmRestarts",
    "Warmup",
    "curve",
    "unreached",
]
