"""Tasks as options of the config: what is learned from the labels, by which loss, measured by which metrics."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from trainer.data.targets import Kind
from trainer.errors import Problem, check
from trainer.history import MINIMIZED, key_word
from trainer.parameters import NonNegativeFloat, PositiveFloat, implemented_by, option
from trainer.tasks import metrics
from trainer.tasks.history_columns import history_columns, possible_columns

Weights = dict[str, float] | tuple[NonNegativeFloat, ...]
LossTable = dict[str, object]
TargetName = Annotated[
    str | None, Field(description="target of the data that is learned; null = its only one of the kind of the task")
]
MetricNames = Annotated[
    tuple[str, ...],
    Field(description="further metrics of the validation and test images; docs/task.md lists them"),
]
OwnMetrics = Annotated[
    dict[str, dict[str, object]] | None,
    Field(
        description="metrics of your own by name: _target_ = function of outputs and targets, or class with update, compute"
        " and reset; other keys are its arguments"
    ),
]


@option
class SingleTask:
    """What the tasks that learn one target have in common."""

    target: TargetName = None
    metrics: MetricNames = ()
    own_metrics: OwnMetrics = None
    kind: ClassVar[Kind]
    main_metric: ClassVar[str]
    running_metric: ClassVar[str]  # computed on training batches as well

    def columns(self, averaged: bool, wanted: Collection[str] = ()) -> tuple[str, ...] | None:
        """Return the columns of the history that hold metrics; None if they depend on the data.

        Args:
            averaged: Whether there is an averaged model.
            wanted: Columns that the config names, see ``including``.
        """
        further = self.including(wanted).further
        if any(name.endswith(("_per_class", "_per_target")) for name in further):
            return None
        return history_columns(("loss", self.running_metric), (*further, *(self.own_metrics or ())), averaged)

    def sampling_problems(self, sampling: str) -> list[Problem]:
        """Return why the classes cannot be drawn in these proportions (``data.sampling``)."""
        return []

    def possible_columns(self) -> tuple[str, ...]:
        """Return the columns that the history has if the config names them."""
        return possible_columns(self.kind)

    @property
    def further(self) -> tuple[str, ...]:
        """Names of the metrics that need the outputs of a whole split."""
        names = dict.fromkeys((self.main_metric, *self.metrics))
        return tuple(name for name in names if name != self.running_metric)

    def including(self, columns: Collection[str], name: str = "") -> Self:
        """Return the task with the metrics of columns of the history that the config names, such as ``validation_auroc``.

        Args:
            columns: Columns; those that are not of this task's metrics are left out.
            name: Prefix of the task's columns.

        >>> Classification().including(["validation_auroc", "train_loss", "validation_recall_cat"]).metrics
        ('auroc',)
        """
        prefixes = [f"{split}_{name}_" if name else f"{split}_" for split in ("validation", "averaged")]
        names = [c.removeprefix(prefix) for c in columns for prefix in prefixes if c.startswith(prefix)]
        new = [n for n in names if n not in ("loss", self.running_metric) and is_metric(self.kind, n)]
        return replace(self, metrics=tuple(dict.fromkeys((*self.metrics, *new))))

    build = implemented_by("trainer.tasks.build:build_single")
    restore = implemented_by("trainer.tasks.build:restore_single")


@option
class Classification(SingleTask):
    """One class per image.

    The loss is linear in the target, a row of class weights: ``cross_entropy`` (softmax), ``bce`` (a sigmoid per class, mean
    over classes), ``focal`` (Lin et al. 2017, arXiv:1708.02002) or ``poly1`` (Leng et al. 2022, arXiv:2204.12511). Class
    weights have a mean of 1 over the training images: ``balanced`` in inverse proportion to the number of images,
    ``effective_number`` by (1 − beta)/(1 − beta^n) (Cui et al. 2019, arXiv:1901.05555). They act in training only: the
    losses of validation and test are not weighted.
    """

    loss: Annotated[
        Literal["cross_entropy", "bce", "focal", "poly1"] | LossTable,
        Field(description="loss; a table with _target_ = your own, called with logits (N, K) and targets (N, K)"),
    ] = "cross_entropy"
    gamma: Annotated[
        NonNegativeFloat | None, Field(description="exponent of the focal loss; null = 2; 0 = cross_entropy")
    ] = None
    epsilon: Annotated[
        Annotated[float, Field(ge=-1)] | None,
        Field(description="first coefficient of poly1; null = 1; 0 = cross_entropy"),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced", "effective_number"] | Weights,
        Field(
            description="weight of each class in the training loss; a list in the order of the classes, or {class: weight}"
        ),
    ] = "none"
    beta: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(description="of effective_number; null = 0.999; 0 = equal weights, near 1 = balanced"),
    ] = None
    kind = "classification"
    main_metric = "accuracy"
    running_metric = "accuracy"

    def __post_init__(self) -> None:
        check(
            self,
            gamma=(self.gamma is None or self.loss == "focal", "has an effect with task.loss=focal only"),
            epsilon=(self.epsilon is None or self.loss == "poly1", "has an effect with task.loss=poly1 only"),
            beta=(
                self.beta is None or self.class_weights == "effective_number",
                "has an effect with task.class_weights=effective_number only",
            ),
            class_weights=(
                self.class_weights == "none" or not isinstance(self.loss, dict),
                "needs one of the built-in losses, which are linear in the target",
            ),
            **_common_rules(self),
        )

    def sampling_problems(self, sampling: str) -> list[Problem]:
        return _both_raise_rare_classes(self.class_weights, sampling)


@option
class Multilabel(SingleTask):
    """Any number of labels per image: a sigmoid per label.

    The loss is the mean over labels of the binary cross-entropy, or of the asymmetric loss, in which easy negatives count
    less (Ridnik et al. 2021, arXiv:2009.14119). A label is predicted where its probability reaches its threshold, which
    maximizes F1 on the validation images and is stored in the checkpoint.
    """

    loss: Annotated[
        Literal["bce", "asymmetric"] | LossTable,
        Field(description="loss; a table with _target_ = your own, called with logits (N, K) and targets (N, K)"),
    ] = "bce"
    gamma_positive: Annotated[
        NonNegativeFloat | None, Field(description="exponent of the positives in the asymmetric loss; null = 1")
    ] = None
    gamma_negative: Annotated[
        NonNegativeFloat | None, Field(description="exponent of the negatives in the asymmetric loss; null = 4")
    ] = None
    clip: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(description="probability below which negatives do not count in the asymmetric loss; null = 0.05"),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"] | Weights,
        Field(
            description="weight of the positives of each label in the training loss; balanced = negatives/positives, at most 20"
        ),
    ] = "none"
    thresholds: Annotated[
        Literal["validation"] | Annotated[float, Field(gt=0, lt=1)],
        Field(
            description="probability from which a label is predicted; validation = per label, chosen on validation images"
        ),
    ] = "validation"
    kind = "multilabel"
    main_metric = "map"
    running_metric = "label_accuracy"

    def __post_init__(self) -> None:
        asymmetric = (self.loss == "asymmetric", "has an effect with task.loss=asymmetric only")
        check(
            self,
            **{
                name: (getattr(self, name) is None or asymmetric[0], asymmetric[1])
                for name in ("gamma_positive", "gamma_negative", "clip")
            },
            class_weights=(
                self.class_weights == "none" or not isinstance(self.loss, dict), "needs one of the built-in losses"
            ),
            **_common_rules(self),
        )  # fmt: skip

    def sampling_problems(self, sampling: str) -> list[Problem]:
        return _both_raise_rare_classes(self.class_weights, sampling)


def _both_raise_rare_classes(weights: str | Weights, sampling: str) -> list[Problem]:
    if sampling == "natural" or weights not in ("balanced", "effective_number"):
        return []
    text = f"raises rare classes, which data.sampling={sampling} does already"
    return [Problem("task.class_weights", weights, text, "task.class_weights=none, or data.sampling=natural")]


@option
class Regression(SingleTask):
    """One or several numbers per image.

    The network predicts numbers that are standardized by the mean and standard deviation of the training images; losses are
    those of standardized numbers, metrics and predictions are in original units.
    """

    loss: Annotated[
        Literal["mse", "l1", "huber"] | LossTable,
        Field(
            description="loss of standardized numbers; a table with _target_ = your own, called with two tensors (N, T)"
        ),
    ] = "mse"
    delta: Annotated[
        PositiveFloat | None,
        Field(description="error, in standard deviations, from which the Huber loss grows linearly; null = 0.5"),
    ] = None
    geometry: Annotated[
        Literal["refuse", "invariant"],
        Field(
            description="what an augmentation that moves pixels does to the numbers; refuse = not known, no such augmentation;"
            " invariant = nothing, as to a count"
        ),
    ] = "refuse"
    kind = "regression"
    main_metric = "mae"
    running_metric = "mae"

    def __post_init__(self) -> None:
        check(
            self,
            delta=(self.delta is None or self.loss == "huber", "has an effect with task.loss=huber only"),
            **_common_rules(self),
        )


def is_metric(kind: Kind, name: str) -> bool:
    """Return whether there is a metric of this name."""
    return not metrics.check(kind, [name])


def _common_rules(task: Classification | Multilabel | Regression) -> dict[str, tuple[bool, str]]:
    own = task.loss if isinstance(task.loss, dict) else None
    rules = {"loss": (own is None or "_target_" in own, "must name the class or function under _target_")}
    if problems := metrics.check(task.kind, task.metrics):
        rules["metrics"] = (
            False,
            "; ".join(": ".join(filter(None, (f"{name} {text}", hint))) for name, text, hint in problems),
        )
    if texts := [text for name, table in (task.own_metrics or {}).items() if (text := own_metric_problem(name, table))]:
        rules["own_metrics"] = (False, "; ".join(texts))
    return rules


def own_metric_problem(name: str, table: Mapping[str, object]) -> str:
    """Return what is wrong with a metric of the user's; empty if nothing is.

    >>> own_metric_problem("gap", {"_target_": "mine.gap"}), own_metric_problem("gap_error", {"_target_": "mine.gap"})
    ('', '')
    >>> own_metric_problem("f1_error", {"_target_": "mine.gap"})
    "f1_error: whether its smallest or its largest value is the best is not clear, of 'f1' or of 'error'; another name"
    """
    if re.fullmatch("[a-z][a-z0-9_]*", name) is None:
        return f"{name}: a name consists of lowercase letters, digits and _, and begins with a letter"
    if name in ("loss", *(known for kind in metrics.METRICS.values() for known in kind)) or re.fullmatch(
        r"top\d+", name
    ):
        return f"{name}: is a metric of the program, task.metrics=[{name}]; another name, such as my_{name}"
    word, last = key_word(name), name.rpartition("_")[2]
    if (word in MINIMIZED) != (last in MINIMIZED):
        text = "whether its smallest or its largest value is the best is not clear"
        return f"{name}: {text}, of {word!r} or of {last!r}; another name"
    return "" if "_target_" in table else f"{name}: must name the class or function under _target_"


KINDS: dict[str, type[Classification | Multilabel | Regression]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
}
