"""The parameters of the jobs that make one model of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.config.schema import Job
from trainer.errors import Problem
from trainer.jobs import run_paths
from trainer.parameters import implemented_by, option

if TYPE_CHECKING:
    from trainer.config.schema import Config


@option
class Ensemble(Job):
    """Average the predictions of several networks, save them as one checkpoint, and print gain and cost.

    Args:
        kind: ``seeds`` trains ``models`` networks that differ in the seed; ``folds`` one per fold of the training and
            validation images, each validated on its fold; ``snapshots`` one network under a cyclic schedule, a member at
            the end of each of the last ``models`` cycles (Huang et al. 2017, arXiv:1704.00109); ``runs`` takes the run
            directories ``runs=[a,b,...]``.
        average: ``probabilities`` is the arithmetic mean, ``logits`` the normalized geometric mean; numbers are averaged in
            original units. The threshold of a label is the mean of the members' thresholds.
    """

    reads: ClassVar[tuple[str, ...]] = ("runs",)
    continues: ClassVar[bool] = True
    kind: Annotated[
        Literal["seeds", "folds", "snapshots", "runs"],
        Field(
            description="how the members differ; folds = cross-validation, snapshots = one per cycle of the "
            "schedule, runs = runs=[a,b,...]"
        ),
    ] = "seeds"
    models: Annotated[int, Field(ge=2, description="number of networks to train, of folds, or of snapshots")] = 5
    top: Annotated[
        Annotated[int, Field(ge=2)] | None,
        Field(description="number of members to keep, by the metric of the run on the validation images; null = all"),
    ] = None
    average: Annotated[
        Literal["probabilities", "logits"], Field(description="outputs that are averaged over the members")
    ] = "probabilities"

    problems = implemented_by("trainer.jobs.ensemble.problems:problems")
    __call__ = implemented_by("trainer.jobs.ensemble.run:ensemble")


@option
class Soup(Job):
    """Average the weights of several networks into one, which costs no more than one (model soup, Wortsman et al. 2022,
    arXiv:2203.05482), save it as a checkpoint, and compare it with its ingredients.

    Batch-norm statistics are estimated again from the training images. The networks must have been fine-tuned from the same
    weights, or be of one run: the mean of networks with different initial weights is as good as chance.

    Args:
        ingredients: ``runs`` are the best weights of the runs ``runs=[a,b,...]``; ``epochs`` are the epochs of one or several
            runs that ``observer.checkpoint.keep_best`` or ``keep_every`` has kept.
        kind: ``greedy`` begins with the best ingredient and adds each further one, from the best to the worst, if the metric of
            the run on the validation images does not get worse; ``uniform`` takes all.
    """

    reads: ClassVar[tuple[str, ...]] = ("runs",)
    ingredients: Annotated[
        Literal["runs", "epochs"],
        Field(description="networks to average; epochs = the kept checkpoints epoch_*.pt of runs=..."),
    ] = "runs"
    kind: Annotated[
        Literal["greedy", "uniform"],
        Field(description="which ingredients are averaged: greedy = those that improve the soup, uniform = all"),
    ] = "greedy"

    __call__ = implemented_by("trainer.jobs.soup:soup")

    def problems(self, config: Config) -> list[Problem]:
        return run_paths.problems(config.runs, at_least=1 if self.ingredients == "epochs" else 2)
