"""Initialization of the weights."""

from trainer.initialization.options import (
    HEAD_STD,
    Initialization,
    Pretrained,
    pass_on,
    unit_variance,
    whiten,
)

__all__ = [
    "HEAD_STD",
    "Initialization",
    "Pretrained",
    "pass_on",
    "unit_variance",
    "whiten",
]
