"""Optimizers."""

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
    Rule,
    schedule_fits,
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
    "Rule",
    "schedule_fits",
]
