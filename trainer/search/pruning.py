"""Which trials end early, by the metric after each epoch."""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING

from trainer.formats import JsonObject
from trainer.search.ledger import Ledger
from trainer.search.sample import quiet_optuna

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

FIRST = 4  # other trials before a quantile of them counts
QUANTILES = {"quartile": 0.25, "median": 0.5}


def make_pruner(name: str, epochs: float, least: float) -> BasePruner | None:
    """Return the pruner; None for ``none``.

    Args:
        name: ``job.pruner``.
        epochs: Length of the trials: the largest resource of Hyperband (Li et al. 2018, arXiv:1603.06560).
        least: Epochs before which a quantile does not count, nor in the first third of a trial: with a schedule, which
            config is ahead changes.
    """
    optuna = quiet_optuna()
    last = max(1, round(epochs))
    if name in QUANTILES:
        from trainer.search.quantile_pruner import QuantilePruner

        return QuantilePruner(QUANTILES[name], FIRST, max(1, math.ceil(least), math.ceil(last / 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        if name == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=last, reduction_factor=3)
    return None


def hopeless(ledger: Ledger, stage: str, pruner: BasePruner | None, trial_id: int, step: int) -> bool:
    """Whether a pruner would end a trial after this epoch.

    What an earlier attempt at the trial, which was killed, has reported of later epochs does not count.
    """
    if pruner is None:
        return False
    optuna = quiet_optuna()
    study = optuna.load_study(study_name=f"{ledger.name}/{stage}", storage=ledger.storage)
    trial = copy.deepcopy(ledger.storage.get_trial(trial_id))
    trial.intermediate_values = {k: v for k, v in trial.intermediate_values.items() if k <= step}
    trial.system_attrs = _before(trial.system_attrs, step)
    return pruner.prune(study, trial)


def _before(attributes: JsonObject, step: int) -> JsonObject:
    """The attributes without the rungs of successive halving beyond an epoch: rung k is reached after 3^k epochs.

    >>> _before({"completed_rung_0": 0.5, "completed_rung_1": 0.6, "other": 1}, 2)
    {'completed_rung_0': 0.5, 'other': 1}
    """
    rungs = {f"completed_rung_{k}" for k in range(20) if 3**k > step}
    return {key: value for key, value in attributes.items() if key not in rungs}
