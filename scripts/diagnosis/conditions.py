"""What is induced: each condition changes a healthy config, its data or its network, and names the findings that are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from diagnosis import flaws
from diagnosis.settings import Setting
from trainer.data import Splits
from trainer.engine.run import Run

Change = Callable[[Setting], tuple[str, ...]]
GROUPS = ("data", "initialization", "update", "fit", "generalization")
# Findings that are told apart only within a group; each belongs to one.
GROUP_OF = {
    finding: group
    for group, findings in {
        "data": ("train/test leakage", "contradictory labels", "near duplicates", "class imbalance", "label noise",
                 "repeated image", "labels unrelated to the images", "classes mixed up", "inputs not normalized",
                 "inputs not finite", "sorted data", "other normalization than the pretrained weights",
                 "validation and test differ", "validation harder than test", "training and validation differ"),
        "initialization": ("vanishing activations", "exploding activations", "vanishing gradients", "exploding gradients",
                           "dead units", "saturated units", "high initial loss", "identical units", "poor initialization"),
        "update": ("NaN or Inf loss", "exploding loss", "learning rate too high", "learning rate too low", "noisy",
                   "ends at a high learning rate", "frozen layers", "batch norm of tiny batches", "batches too small",
                   "lagging average", "clipped too strongly"),
        "fit": ("not learning", "still improving", "underfitting", "too strongly regularized", "too strongly augmented"),
        "generalization": ("overfitting",),
    }.items()
    for finding in findings
}  # fmt: skip
# Statements about the measurement, not about a failure.
NOTES = ("good fit", "differences within noise", "average not used")


@dataclass(frozen=True)
class Condition:
    """A failure that is induced.

    Attributes:
        name: What it is.
        group: Of ``GROUPS``.
        right: The findings that name its cause.
        change: The overrides that induce it, for a setting.
        control: The same config without the fault, where that is not the healthy config of the setting.
        splits: A change of the data.
        model: A change of the network before training.
        run: A change of the run before training.
        hidden: Whether the score does not show it, so that it counts in any case.
        skip: Settings in which it makes no sense, by a part of their names.
        also: Findings that are true of the control, too, and count neither way.
    """

    name: str
    group: str
    right: tuple[str, ...]
    change: Change = lambda s: ()
    control: Change = lambda s: ()
    splits: Callable[[Splits, int], Splits] | None = None
    model: Callable[[nn.Module], None] | None = None
    run: Callable[[Run], None] | None = None
    hidden: bool = False
    skip: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def lr(factor: float, *more: str) -> Change:
    return lambda s: (f"optimizer.lr={s.lr * factor:g}", *more)


def epochs(factor: float, *more: str) -> Change:
    return lambda s: (f"epochs={max(1, round(s.epochs * factor))}", *more)


def of(*overrides: str) -> Change:
    return lambda s: overrides


def deep(*more: str) -> Change:
    return lambda s: (*s.deep, f"epochs={min(s.epochs, 8)}", f"optimizer.lr={s.lr / 4:g}", *more)


def adam_lr(adam: float, sgd: float, *more: str) -> Change:
    """A factor of the learning rate by optimizer: Adam's steps do not shrink with the gradient."""
    return lambda s: lr(adam if s.optimizer == "adam" else sgd, *more)(s)


def transfer(s: Setting) -> tuple[str, ...]:
    """Only the head is trained, on the features of the healthy config: other layers would adapt to another normalization."""
    return ("initialization=pretrained", PRETRAINED, "recipe=transfer", f"epochs={max(2, s.epochs // 3)}")


# Replaced by a checkpoint of the healthy config, which is trained for it.
PRETRAINED = "initialization.path=PRETRAINED"
SMALL_STD, LARGE_STD = (
    ("initialization=normal", "initialization.std=0.01"),
    ("initialization=normal", "initialization.std=0.5"),
)
TOO_HIGH = ("learning rate too high", "exploding loss", "NaN or Inf loss")
FEW = ("overfitting", "still improving")  # of a config with few training images
SMALL_BATCHES = ("batches too small", "batch norm of tiny batches")
DECAY = ("noisy", "ends at a high learning rate", *TOO_HIGH)
CONDITIONS = (
    Condition("lr far too low", "update", ("learning rate too low",), lr(1e-4)),
    Condition("lr too low", "update", ("learning rate too low",), adam_lr(0.01, 0.003)),
    Condition("lr too high", "update", TOO_HIGH, adam_lr(20, 20)),
    Condition("lr far too high", "update", TOO_HIGH, adam_lr(100, 100)),
    Condition("diverging", "update", TOO_HIGH, adam_lr(1e4, 1e3)),
    Condition("NaN", "update", ("NaN or Inf loss",), adam_lr(1e30, 1e13)),
    Condition("plateau at a constant lr", "update", DECAY, adam_lr(5, 5, "schedule=constant")),
    Condition("cycle cut in the middle", "update", DECAY,
              lambda s: (f"optimizer.lr={5 * s.lr:g}", "schedule=clr", f"schedule.clr.step_size={s.epochs / 3}")),
    Condition("noise of small batches", "update", ("noisy", *SMALL_BATCHES, *DECAY),
              lr(1, "batch_size=2", "schedule=constant", "data.limit=400"), of("data.limit=400"),
              skip=("shapes", "resnet"), also=FEW),
    Condition("batch norm of tiny batches", "update", SMALL_BATCHES, lr(0.2, "batch_size=2", "data.limit=400"),
              of("data.limit=400"), skip=("mlp", "nesterov", "shapes", "without"), also=FEW),
    Condition("average that lags", "update", ("lagging average",),
              lr(1, "averaging=ema", "averaging.decay=0.9999", "metric=averaged_accuracy"), hidden=True),
    Condition("schedule that falls too early", "update", ("learning rate too low",),
              lambda s: ("schedule=exponential", f"schedule.exponential.k={60 / s.epochs:g}")),
    Condition("clipping to a tiny norm", "update", ("clipped too strongly",), of("optimizer.clip_norm=0.0001"), skip=("adam",)),
    Condition("frozen layers", "update", ("frozen layers",), model=flaws.frozen),
    Condition("small initial weights", "initialization", ("vanishing activations",), deep("activation=tanh", *SMALL_STD),
              deep("activation=tanh")),
    Condition("large initial weights", "initialization", ("exploding activations", "high initial loss", "exploding gradients"),
              deep(*LARGE_STD), deep()),
    Condition("zero initial weights", "initialization", ("identical units", "vanishing activations"), of("initialization=zeros")),
    Condition("saturated tanh", "initialization", ("saturated units", "exploding gradients", "exploding activations"),
              deep("activation=tanh", "initialization=normal", "initialization.std=1"), deep("activation=tanh")),
    Condition("vanishing gradients", "initialization", ("vanishing gradients", "vanishing activations"),
              deep("activation=sigmoid", "initialization=normal", "initialization.std=0.1"), deep()),
    Condition("exploding gradients", "initialization", ("exploding gradients", "exploding activations", "saturated units"),
              deep("activation=tanh", "initialization=normal", "initialization.std=0.4"), deep("activation=tanh")),
    Condition("dead ReLUs by the lr", "initialization", ("dead units", *DECAY), adam_lr(30, 12, "schedule=constant"),
              skip=("resnet",)),
    Condition("dead ReLUs by the bias", "initialization", ("dead units", "vanishing activations"), model=flaws.dead_bias),
    Condition("too small a network", "fit", ("underfitting",), lambda s: s.small),
    Condition("too strong weight decay", "fit", ("too strongly regularized",),
              lambda s: ("optimizer.weight_decay=0.3",) if s.optimizer != "adam" else
              ("optimizer=adamw", f"optimizer.lr={s.lr:g}", f"optimizer.weight_decay={0.1 / s.lr:g}")),
    Condition("too strong dropout", "fit", ("too strongly regularized",),
              of("regularizer=[dropout]", "regularizer.dropout.p=0.95", "regularizer.dropout.where=all"), skip=("resnet",)),
    Condition("augmentation that hides the class", "fit", ("too strongly augmented",),
              of("augmentation=[translation,random_erasing]", "augmentation.translation.fraction=0.5",
                 "augmentation.random_erasing.p=1")),
    Condition("too few epochs", "fit", ("still improving",), lambda s: ("epochs=1", "batch_size=128")),
    Condition("overfitting, strong", "generalization", ("overfitting",), epochs(10, "data.limit=60"), skip=("shapes",)),
    Condition("overfitting, mild", "generalization", ("overfitting",), epochs(6, "data.limit=150"), skip=("shapes",)),
    Condition("train/test leakage", "data", ("train/test leakage",), splits=flaws.leaked, hidden=True),
    Condition("shuffled labels", "data", ("labels unrelated to the images",), splits=flaws.shuffled_labels),
    Condition("label noise", "data", ("label noise",), epochs(1.5), splits=flaws.label_noise, hidden=True),
    Condition("two classes mixed up", "data", ("classes mixed up",), splits=flaws.mixed_classes),
    Condition("blank images", "data", ("repeated image",), splits=flaws.blank_images, hidden=True),
    Condition("class imbalance", "data", ("class imbalance",), splits=flaws.imbalanced, hidden=True),
    Condition("sorted data", "data", ("sorted data",), splits=flaws.sorted_by_class, run=flaws.unshuffled),
    Condition("other normalization than pretrained", "data", ("other normalization than the pretrained weights",),
              lambda s: (*transfer(s), "data.normalize=none"), lambda s: (*transfer(s), "data.normalize=pretrained"),
              skip=("shapes",)),
    Condition("test images of another kind", "data", ("validation and test differ",), splits=flaws.inverted_test, hidden=True),
    Condition("test labels numbered otherwise", "data", ("validation and test differ",), splits=flaws.shifted_test, hidden=True),
    Condition("wrong normalization", "data", ("inputs not normalized",), splits=flaws.dark),
)  # fmt: skip
# Configs that should give no finding, added to each setting.
HEALTHY: dict[str, Change] = {
    "plain": of(),
    "mixup": of("regularizer=[mixup]"),
    "cutmix": epochs(1.5, "regularizer=[cutmix]"),
    "label smoothing": of("regularizer=[label_smoothing]"),
    "dropout": epochs(1.5, "regularizer=[dropout]"),
    "L2": of("regularizer=[l2]"),
    "EMA": of("averaging=ema"),
    "SWA": lambda s: ("averaging=swa", f"averaging.start={s.epochs * 0.6:g}"),
    "warmup": of("schedule=[warmup,cosine]"),
    "one cycle": of("schedule=one_cycle"),
    "warm restarts": lambda s: ("schedule=warm_restarts", f"schedule.warm_restarts.cycle={s.epochs / 2:g}"),
    "cyclical lr": lambda s: ("schedule=clr", f"schedule.clr.step_size={s.epochs / 4:g}", "schedule.clr.floor=0.01"),
    "step decay": lambda s: ("schedule=step", f"schedule.step.every={s.epochs / 4:g}", "schedule.step.factor=0.3"),
    "low constant lr": lr(0.2, "schedule=constant"),
    "half the lr": lr(0.5),
    "twice the lr": adam_lr(1.5, 2),
    "augmentation": epochs(1.5, "augmentation=[translation]"),
    "early stopping": of("regularizer=[early_stopping]"),
    "batches of 64": of("batch_size=64"),
    "batches of 16": lr(0.5, "batch_size=16"),
    "clipping": of("optimizer.clip_norm=1"),
    "tanh": of("activation=tanh"),
    "Kaiming": of("initialization=kaiming_normal"),
    "twice as long": epochs(2),
}
