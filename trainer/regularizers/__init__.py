"""Regularizers: methods that reduce the gap between training and test accuracy."""

from trainer.regularizers.base import Chain, Regularizer
from trainer.regularizers.options import (
    L1,
    L2,
    Cutmix,
    Cutout,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
    MixupOrCutmix,
    SoftSharing,
    StochasticDepth,
)

__all__ = [
    "L1",
    "L2",
    "Chain",
    "Cutmix",
    "Cutout",
    "Dropout",
    "EarlyStopping",
    "LabelSmoothing",
    "Mixup",
    "MixupOrCutmix",
    "Regularizer",
    "SoftSharing",
    "StochasticDepth",
]
