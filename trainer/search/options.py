"""The settings of a search: the parameters of ``job=search``."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from trainer.errors import check
from trainer.parameters import NonNegativeInt, PositiveFloat, PositiveInt, option

STAGES = (1.0, 5.0, 20.0)  # epochs
LEAST_STEPS = 40  # after which the score of a trial says something


def stages_up_to(epochs: float) -> str:
    """Return the override with which the last stage of a search is so many epochs long, after the usual ones that are shorter.

    >>> stages_up_to(20), stages_up_to(3), stages_up_to(0.5)
    ('job.epochs=[1,5,20]', 'job.epochs=[1,3]', 'job.epochs=[0.5]')
    """
    lengths = (*(length for length in STAGES[:-1] if length < epochs), epochs)
    return f"job.epochs=[{','.join(f'{length:.15g}' for length in lengths)}]"


@option
class SearchSettings:
    """Space, stages, sampler, and resources of a search."""

    space: Annotated[
        dict[str, object],
        Field(description="distribution of each searched key: log(a,b), uniform(a,b), choice(a,b); {} = as declared"),
    ] = dataclasses.field(default_factory=dict)
    epochs: Annotated[
        Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | Literal["auto"],
        Field(
            description="length of the trials of each stage, in epochs; auto = [1,5,20] without stages of fewer than 40 steps; "
            "if the last one is left, it is run twice, the second time in a narrower space"
        ),
    ] = "auto"
    trials: Annotated[
        tuple[PositiveInt, ...] | Literal["auto"],
        Field(description="trials of each stage; auto = by the number of keys, or as many as the budget allows"),
    ] = "auto"
    keep: Annotated[
        float,
        Field(
            gt=0, le=1, description="best fraction of a stage's trials, around which the space of the next stage lies"
        ),
    ] = 0.25
    sampler: Annotated[
        Literal["auto", "sobol", "random", "grid", "gp", "tpe", "cmaes"],
        Field(
            description="how points are chosen; sobol = scrambled quasi-random points, which fill the space evenly; gp = where a "
            "Gaussian process expects most; auto = sobol, and gp in a stage as long as the one before it"
        ),
    ] = "auto"
    pruner: Annotated[
        Literal["none", "quartile", "median", "successive_halving", "hyperband"],
        Field(
            description="which trials end early, by their metric after each epoch: those worse than three quarters (quartile) "
            "or half (median) of all, from a third of their length on; diverged ones always do"
        ),
    ] = "quartile"
    finalists: Annotated[
        PositiveInt,
        Field(description="trials of the last stage with the highest expected scores, to repeat with other seeds"),
    ] = 3
    seeds: Annotated[
        NonNegativeInt | Literal["auto"],
        Field(
            description="seeds with which the finalists and the config as typed are repeated; 0 = none; auto = 5, or with a "
            "budget as many as it allows, at most 40, the best finalist more than the others"
        ),
    ] = "auto"
    budget: Annotated[
        str | PositiveFloat | None,
        Field(description="wall-clock time such as 10min or 2h, kept up to the length of one trial; null = no limit"),
    ] = None
    workers: Annotated[PositiveInt, Field(description="trials at once on this machine, which share its cores")] = 1
    storage: Annotated[
        str | None,
        Field(
            description="where trials are recorded: sqlite:///..., postgresql://..., or a journal file; null = "
            "search.journal in the run directory"
        ),
    ] = None
    study: Annotated[
        str | None,
        Field(description="name of the search in the storage; null = name of the run directory"),
    ] = None
    reports: Annotated[bool, Field(description="write a run directory with a report for every trial")] = False

    def __post_init__(self) -> None:
        lengths = STAGES if self.epochs == "auto" else self.epochs
        rising = all(a < b for a, b in pairwise(lengths))
        fits = self.trials == "auto" or len(self.trials) == len(lengths)
        check(
            self,
            epochs=(rising, "must be increasing: each stage trains longer than the one before"),
            trials=(fits, f"must have one number per stage: job.epochs has {len(lengths)}"),
        )

    def lengths(self, steps_per_epoch: int) -> tuple[float, ...]:
        """Return the length of each stage; of the automatic ones, without numbers of trials, those that tell configs apart.

        After a few steps the score of a config is that of its first weights. Where only the last length is left, there are two
        stages of it, the second one in a narrower space.
        """
        if self.epochs != "auto":
            return self.epochs
        if self.trials != "auto":
            return STAGES
        shorter = tuple(length for length in STAGES[:-1] if length * steps_per_epoch >= LEAST_STEPS)
        return (*(shorter or STAGES[-1:]), STAGES[-1])
