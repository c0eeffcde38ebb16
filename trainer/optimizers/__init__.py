"""Optimizers: options, parameter groups, and update rules that torch does not have."""

from trainer.optimizers.options import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamUncorrected,
    AdamW,
    ExternalOptimizer,
    Momentum,
    Muon,
    Nesterov,
    Optimizer,
    RMSprop,
    schedule_problems,
)

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamUncorrected",
    "AdamW",
    "ExternalOptimizer",
    "Momentum",
    "Muon",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "schedule_problems",
]
