"""Checks of what the network is given: inputs that are not normalized, labels that are wrong or belong to other images."""

from __future__ import annotations

import math
from statistics import median

from trainer.analysis.diagnosis.data import imbalanced_classes
from trainer.analysis.diagnosis.mixed_classes import classes_mixed_up, error_rate
from trainer.analysis.diagnosis.record import IMAGES, Finding, Record, number
from trainer.analysis.diagnosis.schedule import STARVED
from trainer.analysis.diagnosis.splits import differ, validation_harder

CONFIDENT = (
    0.35  # of confusions in the half with the highest probabilities, from which labels may be wrong; at random 0.5
)
COMMON = 1.5  # times as many images as the median class, from which a class may have images of all others
ANY_RATE = 0.08  # of the images of two classes that are predicted as the other one, by which such classes are confused
SEEN = 160  # images, that a short training must have seen to tell whether there is anything to learn
MEMORIZED = 0.1  # by which more training images are recognized than others, from which they have been memorized
LEAST = 0.35  # accuracy from which errors tell of their labels
HALF = 0.5  # likewise, below which an underfitted network errs widely, too
# Errors with an improbable label, relative to those at random: where less than half is recognized, else, with better test images.
TAIL_OF_FEW, TAIL, TAIL_TESTED = 0.73, 0.7, 0.5
KINDS_OF_BRANCH = ("from_start", "from_used", "unregularized", "unregularized_start")


def inputs_not_finite(r: Record) -> Finding | None:
    """The inputs of the first batch, or of some of those of a run that has diverged, are NaN or Inf."""
    wrong, examined = r.dataset_info.get("nonfinite_batches") or (0, 0)
    measured = r.first is not None and {"input_mean", "input_std"} <= r.first.keys()
    values = (r.first.get("input_mean"), r.first.get("input_std")) if measured and r.first is not None else ()
    if not all(math.isfinite(number(value)) for value in values):
        which = "the first batch"
    elif 0 < wrong < examined:  # in all of them, weights that are NaN may have made them
        which = f"{wrong} of {examined} training batches"
    else:
        return None
    return Finding(
        "inputs not finite",
        f"pixels of {which}, as the network gets them, are NaN or Inf",
        "No network learns from them, at any learning rate: the data, their normalization, or an augmentation or a regularizer "
        "of your own makes them, such as by a division by zero in images of a single color.",
        ("augmentation=[]", "regularizer=[]", "data.normalize=dataset"),
        "urgent",
    )


def inputs_not_normalized(r: Record) -> Finding | None:
    """The inputs are far from mean 0 and standard deviation 1, and the network struggles."""
    if r.first is None or not r.weak:
        return None
    mean, std = r.first.get("input_mean"), r.first.get("input_std")
    if mean is None or std is None or not math.isfinite(mean + std) or (abs(mean) < 5 and 0.05 < std < 5):
        return None
    return Finding(
        "inputs not normalized",
        f"the pixels of the first batch have mean {mean:.3g} and standard deviation {std:.3g} (about 0 and 1 is usual)",
        "Initial weights and learning rates are made for inputs of standard deviation 1.",
        ("data.normalize=dataset", "architecture.norm=batch"),
    )


def labels_unrelated(r: Record) -> Finding | None:
    """A batch, or the training set, can be memorized, but nothing that is learned holds for the validation images."""
    probe, chance = r.probe, r.chance_loss
    if probe is None or chance is None or r.learned or imbalanced_classes(r.dataset_info.get("class_counts") or []):
        return None
    if r.lr and r.mean_lr < STARVED * r.lr:
        return None  # neither the run nor short trainings had time to learn
    trained = [b for kind in KINDS_OF_BRANCH for b in r.branches(kind).values()]
    losses = [number(b.get("validation_loss")) for b in trained]
    if "validation_loss" not in probe["used"] or not losses or min(losses) < 0.95 * chance:
        return None
    if max(b.get("validation_accuracy") or 0.0 for b in trained) > r.by_chance:
        return None
    fits = [number(b["loss"]) for b in r.branches("one_batch").values()]
    used = probe["used"]
    accuracy, held_out = used["accuracy"] or 0.0, used.get("validation_accuracy") or 0.0
    memorized = number(used["loss"]) < 0.9 * chance or accuracy > max(held_out, r.majority) + MEMORIZED
    if not memorized and probe["steps"] * r.dataset_info.get("batch_size", IMAGES) < SEEN:
        return None  # short trainings with tiny batches have seen too few images to learn anything
    if not memorized and min(fits, default=math.inf) > 0.3 * chance:
        return None
    shown = (
        f"the training loss is {used['loss']:.3g}, the accuracy on training images {100 * accuracy:.0f} %"
        if memorized
        else f"a single batch is fitted to {min(fits):.2g}"
    )
    return Finding(
        "labels unrelated to the images",
        f"{shown}, but the lowest validation loss of any learning rate is {min(losses):.3g}; guessing gives {chance:.3g}",
        "The network can memorize, but what it learns says nothing about other images: images and labels may be in different "
        "orders, or the images do not show what the labels say.",
        ("compare images and labels in report/batch.png", "job=doctor"),
    )


def label_noise(r: Record) -> Finding | None:
    """Wrong predictions have their label anywhere among the less probable classes, as labels that are wrong themselves have, or
    are as frequent where the network is confident.
    """
    if (found := _common_label(r) or _only_in_training(r)) is not None:
        return found
    ranks = [] if r.probe is None else r.probe.get("ranks") or []
    total, classes = sum(ranks), len(ranks)
    errors = total - ranks[0] if ranks else 0
    if imbalanced_classes(r.dataset_info.get("class_counts") or []):
        return None
    tested = validation_harder(r) is not None  # by test images, whose labels are right where they are recognized
    if classes < 4 or errors < 25 or ranks[0] < LEAST * total:
        return _systematic_noise(r)
    tail = sum(ranks[classes // 2 :]) / errors
    uniform = (classes - classes // 2) / (classes - 1)
    if tail < (TAIL_TESTED if tested else TAIL if ranks[0] >= HALF * total else TAIL_OF_FEW) * uniform:
        return _systematic_noise(r)
    return _noise(
        f"of {errors} wrong predictions of {total} validation images, {100 * tail:.0f} % have their label in the less probable "
        f"half of the classes, of labels at random {100 * uniform:.0f} %",
        f"The network confuses no similar classes: labels are wrong, at most {100 * errors / total:.0f} % of them.",
    )


def _common_label(r: Record) -> Finding | None:
    """One class has images of all others: it is far more frequent than they are, and confused with each of them most."""
    counts, confusions = r.dataset_info.get("class_counts") or [], r.dataset_info.get("confusions")
    if confusions is None or len(counts) < 4 or max(counts) < COMMON * median(counts):
        return None
    common, tested = counts.index(max(counts)), r.dataset_info.get("test_fractions") or []
    if len(tested) == len(counts) and tested[common] > max(counts) / sum(counts) / COMMON:
        return None  # it is as frequent in the test images, whose labels may be right
    first = [pair for pair in confusions["pairs"] if pair["errors"]][: len(counts) - 1]
    with_it = [pair for pair in first if common in pair["classes"] and error_rate(pair) >= ANY_RATE]
    errors, confident = (sum(pair[key] for pair in with_it) for key in ("errors", "confident_errors"))
    if len(with_it) < 0.8 * min(len(counts) - 1, 10) or confident < CONFIDENT * errors:
        return None
    names = r.class_names
    return _noise(
        f"{names[common]} has {counts[common]} training images, the median class {median(counts):g}, and is confused with "
        f"{len(with_it)} other classes more than they are with each other",
        f"Images of all classes have the label {names[common]}, as where a missing label has become the first one.",
    )


def _only_in_training(r: Record) -> Finding | None:
    """Training images, as they are and in evaluation mode, are recognized far less often than images the network has not seen."""
    used = None if r.probe is None else r.probe["used"]
    own, held_out = (None, None) if used is None else (used["accuracy"], used.get("validation_accuracy"))
    if own is None or held_out is None:
        return None
    sizes = {"validation": r.dataset_info.get("validation", 0), "train": min(r.dataset_info.get("train", 0), IMAGES)}
    if not differ({"validation": held_out, "train": own}, sizes, "validation", "train"):
        return None
    return _noise(
        f"{100 * held_out:.1f} % of the validation images are recognized, but only {100 * own:.1f} % of the training images, as "
        "they are",
        "No network fits new images better than its own: labels of training images are wrong, or these images are worse.",
    )


def _systematic_noise(r: Record) -> Finding | None:
    """Pairs of classes are confused as often among the predictions with the highest probabilities as among the others."""
    confusions = r.dataset_info.get("confusions")
    if confusions is None or not confusions["images"] or classes_mixed_up(r) is not None:
        return None
    if r.dataset_info.get("dropped_colors"):
        return None  # classes that differ in color are confused with any confidence
    errors = sum(pair["errors"] for pair in confusions["pairs"])
    confident = sum(pair["confident_errors"] for pair in confusions["pairs"])
    accuracy = confusions["correct"] / confusions["images"]
    least = 0.5 if validation_harder(r) is not None else 0.65  # test labels that are recognized are right
    if errors < 25 or accuracy < least or confident < CONFIDENT * errors + 0.4 * math.sqrt(errors):
        return None
    return _noise(
        f"of {errors} confusions of two classes in the validation images, {100 * confident / errors:.0f} % are in the half with "
        "the highest probabilities, of labels that are wrong at random 50 %",
        f"Difficult images are predicted with less confidence: labels are wrong, at most {100 * (1 - accuracy):.0f} % of them.",
    )


def _noise(evidence: str, meaning: str) -> Finding:
    return Finding(
        "label noise",
        evidence,
        f"{meaning} Correct them first.",
        ("job=doctor", "regularizer=[early_stopping,label_smoothing]"),
    )
