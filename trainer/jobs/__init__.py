"""Jobs: what a command does with a config, from a training run to the comparison of many."""

from trainer.jobs.combined_options import Ensemble, Soup
from trainer.jobs.data_options import BiasVariance, LearningCurve
from trainer.jobs.options import (
    Compare,
    Doctor,
    Evaluate,
    Export,
    Fit,
    Job,
    Plan,
    Predict,
    RangeTest,
    Report,
)
from trainer.jobs.search_options import Search

__all__ = [
    "BiasVariance",
    "Compare",
    "Doctor",
    "Ensemble",
    "Evaluate",
    "Export",
    "Fit",
    "Job",
    "LearningCurve",
    "Plan",
    "Predict",
    "RangeTest",
    "Report",
    "Search",
    "Soup",
]
