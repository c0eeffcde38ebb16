"""Regularizers."""

from trainer.regularizers.options import (
    L1,
    L2,
    Chain,
    Cutmix,
    Cutout,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
    Regularizer,
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
    "Regularizer",
    "SoftSharing",
    "StochasticDepth",
]
