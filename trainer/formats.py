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
    frozen: NotRequired[int]  # number of weights with more than one dimension that are not trained


class TaskInfo(TypedDict, total=False):
    """What is known of one task."""

    name: str  # empty for a single one
    target: str
    kind: str  # classification | multilabel | regression
    main_metric: str
    classes: list[str]  # names of the classes, labels or numbers
    class_counts: list[int]  # training images of each class, or positives of each label
    class_weights: list[float] | None  # in the training loss; None = all equal
    epoch_counts: list[int]  # images of each class in an epoch, where ``data.sampling`` changes them
    prior_entropy: float  # nats
    guessing_loss: float  # of the best constant prediction
    validation: int  # number of validation images with a label
    remedies: list[str]  # overrides against class imbalance that the run does not have yet


class ProbeScores(TypedDict):
    """Scores on training images without augmentation, and on validation images, in evaluation mode."""

    loss: float
    accuracy: float | None
    validation_loss: NotRequired[float]
    validation_accuracy: NotRequired[float | None]


class Branch(ProbeScores):
    """The scores after a short training at another learning rate; the loss is infinite, or None in a file, if it diverged."""

    factor: float  # of the peak learning rate of the run
    lr: float


class Probe(TypedDict):
    """What was measured after training, to tell the causes of a symptom apart; see ``trainer.engine.probes``."""

    steps: int  # of each branch
    used: ProbeScores  # of the weights that are used: those of the best epoch, averaged where these are as good
    ranks: list[int]  # number of validation images by the rank of their label among the predictions; [] without classes
    loss_of_batch_statistics: NotRequired[float]  # of training images, with batch norms as in training, of tiny batches
    from_start: NotRequired[list[Branch]]  # from the initial weights
    from_used: NotRequired[list[Branch]]  # from the weights that are used
    unregularized: NotRequired[list[Branch]]  # the same without regularizers, weight decay and dropout
    unregularized_start: NotRequired[list[Branch]]  # likewise from the initial weights
    longer_start: NotRequired[list[Branch]]  # from the initial weights of a regularized run, longer than the others
    unregularized_longer_start: NotRequired[list[Branch]]  # as long, without regularizers, weight decay and dropout
    unaugmented_start: NotRequired[list[Branch]]  # from the initial weights without augmentation
    unfrozen_start: NotRequired[list[Branch]]  # from the initial weights, with the frozen layers trained, too
    larger_batches: NotRequired[list[Branch]]  # from the initial weights, with larger batches than the tiny ones
    auto_start: NotRequired[list[Branch]]  # from unusual initial weights, and from those of initialization=auto
    one_batch: NotRequired[list[Branch]]  # from the initial weights, on one batch alone
    enough: NotRequired[float]  # the probe_fraction that branches which were left out would have needed


class SplitPixels(TypedDict):
    """Statistics of some images of a split, as the network gets them."""

    mean: float
    std: float
    roughness: float  # mean difference of neighboring pixels, in standard deviations
    channel_means: NotRequired[list[float]]  # of color images
    color: NotRequired[float]  # mean difference of a channel from the mean of all, in standard deviations; 0 = gray
    class_fractions: list[float]


class Repeated(TypedDict):
    """The image that the training images hold most often, byte for byte."""

    images: int
    labels: int  # how many different ones it has
    duplicates: dict[str, int]  # as in ``DatasetInfo``


class ConfusedPair(TypedDict):
    """Two classes, by index, and what becomes of the validation images of the two that are predicted as one of them."""

    classes: list[int]
    images: int
    errors: int
    confident_errors: int  # in the half that is predicted with the higher probability


class Confusions(TypedDict):
    """The classes that the weights that are used confuse with each other on the validation images."""

    images: int
    correct: int
    pairs: list[ConfusedPair]  # those with the highest fraction of errors, the highest first


class DatasetInfo(TaskInfo, total=False):
    """What the diagnosis knows, ``dataset_info.json``; the splits hold their number of images. A single task stands here too."""

    tasks: list[TaskInfo]
    learns_weights: bool  # whether the weights of the losses of several tasks are learned
    train: int
    test: int
    duplicates: dict[str, int]  # by "<split>/<split>"
    contradictory: int  # training images that are equal to one with another label
    repeated: Repeated  # absent if no training image is there twice
    different: int  # training images that are different, byte for byte
    near_duplicates: dict[
        str, int
    ]  # pairs in "two splits", in "train/validation", with "two labels"; absent if unknown
    compared: dict[str, int]  # "images" in all, "exact" = compared byte for byte, "near" = by thumbnail
    batch_size: int
    steps_per_epoch: int
    parameters: int  # that are trained
    lr: float
    other_normalization: bool  # whether pretrained weights were trained with another normalization
    dropped_colors: bool  # whether images with colors are used as gray ones
    pretrained: bool
    mixed: bool  # whether a regularizer mixes the targets
    metric: str
    status: str
    stop_reason: str
    accuracies: dict[str, float]  # of a single task with classes, on "validation" and "test"
    test_fractions: list[float]  # frequencies of the classes in the test images
    pixels: dict[str, SplitPixels]  # of "validation" and "test", where the accuracies differ
    changes: dict[str, float]  # likewise: accuracy on changed test images (``engine.changed_images``)
    validation_changes: dict[str, float]  # on validation images, where training images are recognized more often
    probe: Probe
    confusions: Confusions  # of a single task with classes
    typed: list[str]  # the overrides of the command
    config: Mapping[str, object]  # what the overrides that a finding suggests are compared with


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
