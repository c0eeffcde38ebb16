"""Jobs: what a command does with a config, from a training run to the comparison of many."""

from trainer.jobs.combined_options import Ensemble, Soup
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
    "Compare",
    "Doctor",
    "Ensemble",
    "Evaluate",
    "Export",
    "Fit",
    "Job",
    "Plan",
    "Predict",
    "RangeTest",
    "Report",
    "Search",
    "Soup",
]
