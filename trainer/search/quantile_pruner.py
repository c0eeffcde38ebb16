"""The rule that ends the worst part of the trials. A module of its own because it imports Optuna."""

from __future__ import annotations

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class QuantilePruner(BasePruner):
    """Ends a trial whose best value so far is worse than a quantile of the best values so far of the other trials.

    Trials that have been ended count with their best value until then. Optuna's ``MedianPruner`` counts those only that were
    trained to their end: their median rises with every trial that it ends, until hardly any passes (6 of 265 in a simulation).

    Args:
        quantile: 0.25 ends about the worst quarter, 0.5 the worse half.
        first: Number of other trials that must have got as far.
        warmup: Epochs before which no trial is ended.
    """

    def __init__(self, quantile: float, first: int, warmup: int) -> None:
        self.quantile, self.first, self.warmup = quantile, first, warmup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """See ``optuna.pruners.BasePruner.prune``."""
        step = trial.last_step
        if step is None or step < self.warmup:
            return False
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        as_far = [t for t in others if t.state.is_finished() or (t.last_step or 0) >= step]
        values = [value for t in as_far if (value := best(t, step, sign)) is not None]
        own = best(trial, step, sign)
        return len(values) >= self.first and own is not None and own < float(np.quantile(values, self.quantile))


def best(trial: FrozenTrial, step: int, sign: float) -> float | None:
    """Return the best of the values up to an epoch, times ``sign``; None without any."""
    return max((sign * value for epoch, value in trial.intermediate_values.items() if epoch <= step), default=None)
