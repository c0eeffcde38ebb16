"""How much each searched key matters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from trainer.search.sample import optuna_distribution, quiet_optuna, to_optuna
from trainer.search.space import Space
from trainer.search.stages import Result

LEAST = 16  # trials below which an importance says nothing


def importances(space: Space, results: Sequence[Result]) -> dict[str, float]:
    """Return the importance of each dimension, largest first; their sum is 1. Empty with too few trials.

    Functional ANOVA of a random forest (Hutter et al. 2014) where every trial has every dimension, and PED-ANOVA (Watanabe
    et al. 2023, arXiv:2304.10255) where some exist only with a certain option. Pruned trials count with their best value.
    """
    scored = [r for r in results if r.score is not None and r.point and space.contains(r.point)]
    if len(scored) < LEAST or len({r.score for r in scored}) < 3 or len(space) < 2:
        return {}
    optuna = quiet_optuna()
    study = optuna.create_study(direction="maximize")
    for result in scored:
        existing = [d for d in space if d.name in result.point]
        distributions = {d.name: optuna_distribution(d.distribution) for d in existing}
        params = {d.name: to_optuna(d.distribution, result.point[d.name]) for d in existing}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=result.score))
    conditional = any(set(r.point) != {d.name for d in space} for r in scored)
    evaluators = optuna.importance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = (
            evaluators.PedAnovaImportanceEvaluator() if conditional else evaluators.FanovaImportanceEvaluator(seed=0)
        )
        values = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in values.items()}
