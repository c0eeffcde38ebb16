"""The types of what a run directory and a checkpoint hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict  # the standard library's has no extra_items before Python 3.15

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]

Link: TypeAlias = Literal["softmax", "sigmoid", "identity"]  # how outputs become probabilities, or numbers
Scores: TypeAlias = dict[str, float]  # the value of each metric on one split, such as accuracy in [0, 1] and loss


class Row(TypedDict, extra_items=float | None):
    """A row of the history, ``history.jsonl``: one epoch. All other columns are metrics, such as ``validation_accuracy``."""

    phase: str
    epoch: float  # at its end, in epochs of its phase
    step: int  # optimizer steps so far, over all phases
    lr: float  # of the last step
    mean_lr: NotRequired[float | None]  # over the steps of the epoch; absent in histories of earlier releases
    momentum: float | None
    seconds: float  # of training
    images_per_second: float


class WeightStatistics(TypedDict):
    """The statistics of a weight and its gradient."""

    tag: str  # number, class and name of the layer
    rms: float
    grad_rms: float | None
    update_ratio: float | None  # norm of the last update / norm of the weight
    nonfinite: float
    quantiles: list[float]
    grad_quantiles: list[float]


class ActivationStatistics(TypedDict):
    """The statistics of the outputs of an activation function, or of a layer."""

    tag: str
    kind: str  # its class
    mean: float
    std: float
    zero: float
    dead: float | None  # fraction of the units that are above zero on no image
    saturated: float | None  # fraction of the outputs at the ends of the range of the function
    nonfinite: float
    quantiles: list[float]


class Snapshot(TypedDict):
    """The statistics of the layers at one step, a line of ``layers.jsonl``; None where a value was not finite."""

    step: int
    epoch: float
    phase: str
    lr: NotRequired[float]  # the learning rate of the step
    grad_norm: float | None
    batch_loss: float | None  # mean over the batches since the last snapshot
    batch_loss_std: float | None
    batches: int
    finite: bool  # whether all losses since the last snapshot were finite
    first_nonfinite: NotRequired[str | None]  # the first layer whose output is not finite
    weights: list[WeightStatistics]
    activations: list[ActivationStatistics]
    input_mean: NotRequired[float | None]  # of the pixels of the batch, as the network gets them
    input_std: NotRequired[float | None]
    batch_classes: NotRequired[int | None]  # number of classes in the batch; None without classes or of several tasks
    batch_images: NotRequired[int]  # the last one of an epoch may have fewer
    frozen: NotRequired[int]  # number of weights with more than one dimension that are not trained


class FindingContent(TypedDict):
    """A finding of the diagnosis in ``findings.json`` and ``result.json``; see ``trainer.analysis.diagnosis.Finding``."""

    name: str
    evidence: str
    meaning: str
    attempt: Sequence[str]
    kind: str


class Resume(TypedDict):
    """A continuation of a run, a line of ``resumed.jsonl``."""

    epochs: int  # after how many it was resumed
    steps: int
    overrides: list[str]
    changes: dict[str, list[str]]  # settings that differ from those of before: each then and now
    numerics: NotRequired[dict[str, list[str]]]  # hardware, threads, libraries, code: each then and now


class Environment(TypedDict):
    """What identifies machine and program, ``environment.json``."""

    trainer: str
    python: str
    platform: str
    device: str
    versions: dict[str, str]
    git: GitCommit | None
    command: list[str]
    begun: str
    run: NotRequired[str]  # id of the run, which its checkpoints hold, too; earlier releases wrote none


class GitCommit(TypedDict):
    """The commit of the working directory, and whether files have changed since."""

    commit: str
    changed: bool


class SplitScores(TypedDict):
    """The scores of one set of weights; None for a split without images. Metrics of the history may be missing."""

    validation: Mapping[str, float | None] | None
    test: Scores | None


class Outcome(TypedDict, extra_items=Json):
    """What the training loop returns.

    ``stop_reason`` is ``finished``, ``interrupted``, or a regularizer's reason; ``seconds`` are those of training from the start,
    ``observer_seconds`` those of the observers in this process, checkpoints included, ``observer_fraction`` is their ratio.
    """

    stop_reason: str
    seconds: float
    images_per_second: float
    observer_seconds: float
    observer_fraction: float


class Summary(TypedDict, total=False, extra_items=Json):
    """The scores of a training run, in its ``result.json``: ``validation`` and ``test`` are those of the best weights."""

    metric: str
    steps: int
    parameters: int
    tta: str
    micro_batch: int  # if it is smaller than configured, for lack of memory
    epoch: float  # of an interrupted run, which has no best epoch
    best_epoch: float
    last_epoch: float
    last: SplitScores
    validation: Mapping[str, float | None] | None
    test: Scores | None
    averaged: SplitScores


class Contribution(TypedDict, total=False, extra_items=Json):
    """What an observer adds to the result, under any keys."""

    findings: list[FindingContent]


class Result(Summary, Contribution, total=False):
    """``result.json`` of a training run; empty while the run lasts."""

    status: str  # finished | interrupted | diverged | failed
    complete: bool  # of a finished run: whether its report has been written, too
    stop_reason: str
    seconds: float
    images_per_second: float
    observer_seconds: float
    observer_fraction: float
