"""What is wrong with ``job=ensemble`` in a config, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import Problem
from trainer.jobs import run_paths
from trainer.schedules import Product

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.combined_options import Ensemble


def problems(option: Ensemble, config: Config) -> list[Problem]:
    """Return the errors of the option that involve the config."""
    if config.resume is not None:  # its members may exist already, and the runs be gone
        return []
    if option.kind == "runs":
        return run_paths.problems(config.runs)
    found: list[Problem] = []
    if config.runs is not None:
        found.append(Problem("runs", config.runs, "has an effect only with job.kind=runs", "job.kind=runs"))
    if option.kind != "snapshots":
        return found
    ends = cycle_ends(config)
    if len(ends) < 2:
        text = f"has {len(ends)} cycles in {config.epochs:g} epochs; snapshots need at least two"
        hint = f"schedule=warm_restarts schedule.warm_restarts.cycle={max(config.epochs / option.models, 0.1):g}"
        found.append(Problem("schedule", list(config.schedule), text, hint))
    if len(config.recipe.phases(config.epochs, Product(()))) > 1:
        found.append(Problem("job.kind", "snapshots", "needs a recipe with a single phase", "recipe=scratch"))
    return found


def cycle_ends(config: Config) -> list[float]:
    """Return the ends of the schedule's cycles, in epochs."""
    return Product(tuple(config.schedule.values())).over(config.epochs).cycle_ends(config.epochs)
