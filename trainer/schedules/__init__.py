"""Schedules: pure functions from time (and, for ``Plateau``, history) to a multiplier of the peak rate.

``t`` is in epochs since the phase began; the loop writes ``lr · schedule(t, history)`` into the optimizer at every step.
A schedule has no state, so it can be drawn before training and resumes by being asked again. Several multiply together.
"""

from trainer.schedules.base import Product, Schedule, Timed, curve
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
    Warmup,
)

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
]
