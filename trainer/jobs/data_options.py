"""The parameters of the jobs that train on parts of the data to tell what limits a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from trainer.config.schema import Job
from trainer.errors import Problem
from trainer.parameters import implemented_by, option

if TYPE_CHECKING:
    from trainer.config.schema import Config

Budget = Annotated[
    Literal["steps", "epochs"],
    Field(
        description="what training on few and many images has in common: the number of steps (epochs is multiplied) or epochs"
    ),
]


@option
class LearningCurve(Job):
    """Is more data worth it? Train on half, a quarter, ... of the training images with several seeds, and extrapolate.

    Each seed has its own images of each size, those of a smaller size among those of a larger one. The error of the weights that
    are used, on the test images or else the validation images, is fitted by floor + scale · n^(−exponent) (Hestness et al. 2017,
    arXiv:1712.00409) and extrapolated to twice the images, with the 95 % interval over the seeds. How well the smaller sizes
    predict the largest one is reported next to it; learning curves need not follow a power law.

    Writes ``learning_curve.md``, ``.png`` and ``.csv`` and a run directory per network. The same command again continues.
    """

    continues: ClassVar[bool] = True
    sizes: Annotated[
        int,
        Field(
            ge=3, le=12, description="number of training-set sizes, each half of the next; the largest is all images"
        ),
    ] = 5
    seeds: Annotated[int, Field(ge=2, description="number of networks of each size, with other images and weights")] = 3
    budget: Budget = "steps"

    __call__ = implemented_by("trainer.jobs.learning_curve:learning_curve")


@option
class BiasVariance(Job):
    """Which part of the error is bias, which variance? Train on several training sets, each with several seeds, and compare.

    The training sets are random subsets with a ``fraction`` of the training images. The squared error of the predictions on the
    test images, or else the validation images (of probabilities the Brier score), is the sum of bias, variance over training sets
    and variance over seeds (Yang et al. 2020, arXiv:2002.11328, with the law of total variance). The noise of the labels is part
    of the bias; subsets that overlap make the variance over training sets too small.

    Writes ``bias_variance.md`` and ``.png`` and a run directory per network. The same command again continues.
    """

    continues: ClassVar[bool] = True
    sets: Annotated[int, Field(ge=2, description="number of training sets; the intervals need at least 3")] = 4
    seeds: Annotated[int, Field(ge=2, description="number of networks that are trained on each training set")] = 2
    fraction: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training images in each training set")
    ] = 0.5
    budget: Budget = "steps"

    __call__ = implemented_by("trainer.jobs.bias_variance:bias_variance")

    def problems(self, config: Config) -> list[Problem]:
        if config.name("task") == "multitask" and getattr(config.task, "main", None) is None:
            text = "has several tasks, whose squared errors have no common unit"
            return [Problem("task", "multitask", text, "task.main=<name of a task>")]
        return []
