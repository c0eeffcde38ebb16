"""The types of what the diagnosis measures of a run, ``dataset_info.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired

from typing_extensions import TypedDict  # as in trainer.formats


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
    lower_start: NotRequired[
        list[Branch]
    ]  # from the initial weights at a tenth of the learning rate, longer than the others
    longer_used: NotRequired[list[Branch]]  # from the weights that are used, longer than the others
    longer_start: NotRequired[list[Branch]]  # from the initial weights of a regularized run, longer than the others
    unregularized_longer_start: NotRequired[list[Branch]]  # as long, without regularizers, weight decay and dropout
    unaugmented_start: NotRequired[list[Branch]]  # from the initial weights without augmentation
    unaugmented: NotRequired[list[Branch]]  # likewise from the weights that are used
    unfrozen_start: NotRequired[list[Branch]]  # from the initial weights, with the frozen layers trained, too
    larger_batches: NotRequired[list[Branch]]  # from the initial weights, with larger batches than the tiny ones
    auto_start: NotRequired[list[Branch]]  # from unusual initial weights, and from those of initialization=auto
    unusual: NotRequired[float]  # the most unusual of these, relative to the size that initialization=auto gives it
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
    nonfinite_batches: list[int]  # of a run that has diverged: training batches with NaN or Inf, and those examined
    accuracies: dict[str, float]  # of a single task with classes, on "validation" and "test"
    test_fractions: list[float]  # frequencies of the classes in the test images
    pixels: dict[str, SplitPixels]  # of "validation" and "test", where the accuracies differ
    changes: dict[str, float]  # likewise: accuracy on changed test images (``engine.changed_images``)
    validation_changes: dict[str, float]  # on validation images, where training images are recognized more often
    probe: Probe
    confusions: Confusions  # of a single task with classes
    typed: list[str]  # the overrides of the command
    config: Mapping[str, object]  # what the overrides that a finding suggests are compared with
