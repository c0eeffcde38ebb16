"""Options of the regularizers, which act on the model, on the batch, on the loss, or stop training."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from pydantic import Field

from trainer.columns import shown
from trainer.errors import ConfigError, Problem
from trainer.existing import Existing
from trainer.history import History, better_is
from trainer.parameters import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    SearchSpace,
    implemented_by,
    option,
)
from trainer.regularizers.base import Regularizer, Setup, TaskInfo


@option
class EarlyStopping(Regularizer):
    """Stop after ``patience`` epochs in which ``metric`` did not improve by more than ``min_delta`` over its best value.

    The decision depends on the history alone, so that a run resumes exactly. The best checkpoint is kept and evaluated.
    """

    metric: Annotated[str, Field(description="column of the history that should improve; auto = of the task")] = "auto"
    patience: Annotated[
        PositiveInt, Field(description="number of epochs without improvement after which training stops")
    ] = 5
    min_delta: Annotated[
        NonNegativeFloat, Field(description="the metric must improve by more than this to count as improved")
    ] = 0.0

    @property
    def watched_metric(self) -> str | None:
        return self.metric

    def for_task(self, task: TaskInfo) -> EarlyStopping:
        return dataclasses.replace(self, metric=task.main_metric) if self.metric == "auto" else self

    def stop(self, history: History) -> str | None:
        if len(history) and self.metric not in history[-1]:
            columns = ", ".join(k for k in history[-1] if isinstance(history[-1][k], float))
            text = "is not a column of the history"
            raise ConfigError(Problem("regularizer.early_stopping.metric", self.metric, text, columns))
        sign = 1.0 if better_is(self.metric) == "min" else -1.0
        best, best_row = math.inf, -1
        for i, row in enumerate(history):
            if sign * row[self.metric] < best - self.min_delta:
                best, best_row = sign * row[self.metric], i
        if len(history) - 1 - best_row < self.patience:
            return None
        if best_row < 0:
            return f"early stopping: {self.metric} was NaN or Inf in every epoch"
        best_value, epoch = shown(self.metric, history[best_row][self.metric]), history[best_row]["epoch"]
        ago = f"{self.patience} epoch{'s' * (self.patience != 1)} ago"
        if self.min_delta:
            text = f"last improved by more than {self.min_delta:g}, to {best_value},"
            return f"early stopping: {self.metric} {text} at epoch {epoch:g}, {ago}"
        return f"early stopping: {self.metric} was best ({best_value}) at epoch {epoch:g}, {ago}"

    def needs(self, setup: Setup) -> list[str]:
        return [] if setup.validation else ["early stopping needs validation images: data.validation=0.1"]


@option
class Dropout(Regularizer):
    """Inverted dropout: in training each value is zeroed with probability ``p``, and divided by 1 − p otherwise.

    The expectation is thus that of evaluation, where nothing is dropped. Source: Srivastava et al. 2014.
    """

    p: Annotated[
        float, Field(gt=0, lt=1, description="probability that a value is zeroed"), SearchSpace("uniform(0.05,0.6)")
    ] = 0.5
    where: Annotated[
        Literal["head", "all"], Field(description="head = before the last layer, all = after every activation")
    ] = "head"

    model = implemented_by("trainer.regularizers.hooks:insert_dropout")


@option
class StochasticDepth(Regularizer):
    """Stochastic depth: in training the branch of residual block l of L is zeroed with probability p·l/L.

    Otherwise it is divided by 1 − p·l/L, so that the expectation is that of evaluation. Source: Huang et al. 2016,
    arXiv:1603.09382.
    """

    p: Annotated[
        float,
        Field(
            gt=0, lt=1, description="probability of dropping the last residual branch; that of block l of L is p l/L"
        ),
        SearchSpace("uniform(0.05,0.6)"),
    ] = 0.5
    mode: Annotated[
        Literal["batch", "row"],
        Field(description="batch = drop a branch for the whole batch, as published, row = per image"),
    ] = "batch"

    model = implemented_by("trainer.regularizers.hooks:drop_branches")


@option
class LabelSmoothing(Regularizer):
    """Label smoothing (Szegedy et al. 2015, arXiv:1512.00567): part of the probability of the true class is
    distributed over the other classes.

    Form ``others``: 1 − eps for the class and eps/(K − 1) for each other class. Form ``all``: (1 − eps)·y + eps/K, as in torch;
    with eps·K/(K − 1) in place of eps it equals ``others``.
    """

    eps: Annotated[
        float,
        Field(gt=0, lt=1, description="probability taken from the true class"),
        SearchSpace("uniform(0.02,0.25)"),
    ] = 0.1
    form: Annotated[
        Literal["others", "all"],
        Field(description="others = eps/(K - 1) for each other class, all = eps/K for all classes, as in torch"),
    ] = "others"

    batch = implemented_by("trainer.regularizers.batches:label_smoothing")
    for_task = implemented_by("trainer.regularizers.batches:TaskLabelSmoothing")


@option
class Mixup(Regularizer):
    """Mixup (Zhang et al. 2017, arXiv:1710.09412): λ·x + (1 − λ)·x′ for pairs of images, and the same for their targets.

    One mixing coefficient λ ~ Beta(alpha, alpha) is drawn per batch.
    """

    alpha: Annotated[
        PositiveFloat,
        Field(description="parameter of Beta(alpha, alpha), the distribution of the mixing coefficient; 1 = uniform"),
        SearchSpace("log(0.05,1)"),
    ] = 0.2
    p: Annotated[Probability, Field(description="probability of mixing a batch")] = 1.0

    batch = implemented_by("trainer.regularizers.batches:mixup")

    def needs(self, setup: Setup) -> list[str]:
        return ["a batch of one image leaves nothing to mix: batch_size must be >= 2"] if setup.batch_size == 1 else []


@option
class Cutmix(Mixup):
    """CutMix (Yun et al. 2019, arXiv:1905.04899): a box of each image is replaced by that of another one.

    The box has the area 1 − λ with λ ~ Beta(alpha, alpha), before it is clipped at the border. Targets are mixed by the area.
    """

    alpha: Annotated[
        PositiveFloat,
        Field(description="parameter of Beta(alpha, alpha), the distribution of the area; 1 = uniform"),
        SearchSpace("log(0.1,2)"),
    ] = 1.0

    batch = implemented_by("trainer.regularizers.batches:cutmix")


@option
class MixupOrCutmix(Regularizer):
    """Mixup or CutMix, one of the two drawn for each batch (Touvron 2021, arXiv:2012.12877).

    ``regularizer=[mixup,cutmix]`` applies both to every batch instead.
    """

    mixup_alpha: Annotated[
        PositiveFloat,
        Field(description="parameter of Beta(alpha, alpha), the distribution of the mixing coefficient of mixup"),
        SearchSpace("log(0.05,1)"),
    ] = 0.8
    cutmix_alpha: Annotated[
        PositiveFloat, Field(description="parameter of Beta(alpha, alpha), the distribution of the area of CutMix")
    ] = 1.0
    cutmix_fraction: Annotated[Probability, Field(description="probability of CutMix; otherwise mixup")] = 0.5
    p: Annotated[Probability, Field(description="probability of mixing a batch")] = 1.0

    batch = implemented_by("trainer.regularizers.batches:mixup_or_cutmix")
    needs = Mixup.needs


@option
class Cutout(Regularizer):
    """Cutout (DeVries & Taylor 2017, arXiv:1708.04552): a square around a random center is masked out; it may extend
    beyond the border."""

    length: Annotated[
        PositiveInt,
        Field(description="side of the square in pixels; 16 for CIFAR-10 in the paper"),
        SearchSpace("int(2,16)"),
    ] = 8
    value: Annotated[float, Field(description="value of the masked pixels, after normalization; 0 = mean")] = 0.0

    batch = implemented_by("trainer.regularizers.batches:cutout")

    def needs(self, setup: Setup) -> list[str]:
        side = min(setup.shape[1:])
        return [f"length {self.length} masks out whole images of side {side}"] if self.length >= 2 * side else []


@option
class L2(Regularizer):
    """L2 penalty: strength·Σ w² is added to the loss, except for biases and normalization layers.

    Its gradient is 2·strength·w, so that it equals ``optimizer.weight_decay`` = 2·strength for plain SGD.
    """

    strength: Annotated[
        PositiveFloat, Field(description="coefficient of the sum of squared weights"), SearchSpace("log(1e-6,1e-2)")
    ] = 1e-4

    penalty = implemented_by("trainer.regularizers.penalties:l2")


@option
class L1(Regularizer):
    """L1 penalty: strength·Σ |w| is added to the loss, except for biases and normalization layers. It drives weights to 0."""

    strength: Annotated[
        PositiveFloat, Field(description="coefficient of the sum of absolute weights"), SearchSpace("log(1e-7,1e-3)")
    ] = 1e-5

    penalty = implemented_by("trainer.regularizers.penalties:l1")


@option
class SoftSharing(Regularizer):
    """Soft weight sharing: strength·Σ (w − w₀)² is added to the loss, except for biases and normalization layers.

    The reference w₀ are the weights of a checkpoint of the same architecture, or by default the initial weights, which for
    pretrained weights is L2-SP (Li et al. 2018, arXiv:1802.01483). Layers whose shapes differ from those of the reference, such
    as a new head, are not penalized.
    """

    strength: Annotated[
        PositiveFloat, Field(description="coefficient of the sum of squared differences"), SearchSpace("log(1e-5,1e-1)")
    ] = 1e-3
    reference: Annotated[
        str | None,
        Field(description="checkpoint file with the reference weights; null = the initial weights"),
        Existing("file or directory"),
    ] = None

    def for_inference(self) -> SoftSharing:
        return SoftSharing(strength=self.strength)  # the file of the reference may no longer exist

    model = implemented_by("trainer.regularizers.penalties:add_reference")
    penalty = implemented_by("trainer.regularizers.penalties:soft_sharing")
