"""Checks of what the network is given: inputs that are not normalized, labels that are wrong or belong to other images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.analysis.diagnosis.data import differ, imbalanced_classes
from trainer.analysis.diagnosis.record import Finding, Record, number
from trainer.formats import ConfusedPair

MIXED_ERRORS = 8  # from which on two classes can be called mixed up
MIXED_RATE = 0.2  # of the images of two classes that are predicted as the other one
CHANCE = 0.4  # likewise, from which on it is not much better to guess
KINDS_OF_BRANCH = ("from_start", "from_used", "unregularized", "unregularized_start")


def inputs_not_normalized(r: Record) -> Finding | None:
    """The inputs are far from mean 0 and standard deviation 1, and the network struggles."""
    if r.first is None or not r.weak:
        return None
    mean, std = r.first.get("input_mean"), r.first.get("input_std")
    if mean is None or std is None or (abs(mean) < 5 and 0.05 < std < 5):
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
    losses = [number(b.get("validation_loss")) for kind in KINDS_OF_BRANCH for b in r.branches(kind).values()]
    if "validation_loss" not in probe["used"] or not losses or min(losses) < 0.95 * chance:
        return None
    fits = [number(b["loss"]) for b in r.branches("one_batch").values()]
    memorized = number(probe["used"]["loss"]) < 0.9 * chance
    if not memorized and min(fits, default=math.inf) > 0.3 * chance:
        return None
    shown = (
        f"the training loss is {probe['used']['loss']:.3g}"
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
    ranks = [] if r.probe is None else r.probe.get("ranks") or []
    total, classes = sum(ranks), len(ranks)
    errors = total - ranks[0] if ranks else 0
    if imbalanced_classes(r.dataset_info.get("class_counts") or []):
        return None
    if classes < 4 or errors < 25 or ranks[0] < 0.35 * total:
        return _systematic_noise(r)
    tail = sum(ranks[classes // 2 :]) / errors
    uniform = (classes - classes // 2) / (classes - 1)
    if tail < 0.7 * uniform:
        return _systematic_noise(r)
    return _noise(
        f"of {errors} wrong predictions of {total} validation images, {100 * tail:.0f} % have their label in the less probable "
        f"half of the classes, of labels at random {100 * uniform:.0f} %",
        f"The network confuses no similar classes: up to {100 * errors / total:.0f} % of the labels are wrong.",
    )


def _systematic_noise(r: Record) -> Finding | None:
    """Pairs of classes are confused as often among the predictions with the highest probabilities as among the others."""
    confusions = r.dataset_info.get("confusions")
    if confusions is None or not confusions["images"] or classes_mixed_up(r) is not None:
        return None
    errors = sum(pair["errors"] for pair in confusions["pairs"])
    confident = sum(pair["confident_errors"] for pair in confusions["pairs"])
    accuracy = confusions["correct"] / confusions["images"]
    if errors < 25 or accuracy < 0.65 or confident < 0.35 * errors:
        return None
    return _noise(
        f"of {errors} confusions of two classes in the validation images, {100 * confident / errors:.0f} % are in the half with "
        "the highest probabilities, of labels that are wrong at random 50 %",
        f"Difficult images are predicted with less confidence: up to {100 * (1 - accuracy):.0f} % of the labels are wrong.",
    )


def _noise(evidence: str, meaning: str) -> Finding:
    return Finding(
        "label noise",
        evidence,
        f"{meaning} Correct them first.",
        ("job=doctor", "regularizer=[early_stopping,label_smoothing]"),
    )


def validation_harder(r: Record) -> Finding | None:
    """Far fewer validation images than test images are recognized."""
    info, accuracies = r.dataset_info, r.dataset_info.get("accuracies", {})
    sizes = {"validation": info.get("validation", 0), "test": info.get("test", 0)}
    if not differ(accuracies, sizes, "test", "validation"):
        return None
    shown = [f"{100 * accuracies[name]:.1f} % of {sizes[name]} {name} images" for name in ("validation", "test")]
    return Finding(
        "validation harder than test",
        f"only {shown[0]} are recognized, but {shown[1]}",
        "Validation images are held out from the training images: labels of both may be wrong, or their images worse.",
        ("compare images and labels of the two splits", "job=doctor"),
    )


def classes_mixed_up(r: Record) -> Finding | None:
    """Some classes are confused far more than others: even where the network is confident, or while it knows all others."""
    counts, confusions = r.dataset_info.get("class_counts") or [], r.dataset_info.get("confusions")
    if confusions is None or not confusions["pairs"] or imbalanced_classes(counts):
        return None  # rare classes are taken for frequent ones
    mixed, errors, rest = _most_confused(confusions["pairs"])
    first = confusions["pairs"][0]
    merged, rate = (confusions["correct"] + errors) / confusions["images"], _error_rate(first)
    confident = first["confident_errors"] / max(first["images"] // 2, 1)
    by_chance = merged >= 0.8 and rate >= min(3 * rest, CHANCE) and confident >= 0.6 * rate
    outstanding = merged >= 0.9 and rate >= 5 * rest and len(mixed) == 2
    if first["errors"] < MIXED_ERRORS or rate < MIXED_RATE or len(mixed) > max(2, len(counts) // 3) or len(counts) < 3:
        return None
    if not (by_chance or outstanding):
        return None
    names = r.dataset_info.get("classes") or []
    shown = [names[i] if i < len(names) else str(i) for i in mixed]
    these, half = f"{', '.join(shown[:-1])} and {shown[-1]}", f"{100 * confident:.0f} %"
    return Finding(
        "classes mixed up",
        f"{100 * rate:.0f} % of {first['images']} validation images of {shown[0]} and {shown[1]} are predicted as the other one, "
        f"and {half} of the half with the highest probabilities; of other pairs of classes, at most {100 * rest:.0f} %",
        f"Difficult images are predicted with less confidence: labels of {these} are mixed up, or both show the same."
        if by_chance
        else f"All other classes are told apart: some labels of {these} are mixed up, or their images are hardly different.",
        (f"compare images and labels of {these}", "job=doctor"),
        "warning" if by_chance else "hint",
    )


def _most_confused(pairs: Sequence[ConfusedPair]) -> tuple[list[int], int, float]:
    """Return the classes of the first pair, and those that can hardly be told from them; the errors among them; and the highest
    error rate of any other pair.
    """
    mixed = set(pairs[0]["classes"])
    for pair in pairs:
        if mixed & set(pair["classes"]) and _error_rate(pair) >= CHANCE:
            mixed |= set(pair["classes"])
    errors = sum(pair["errors"] for pair in pairs if set(pair["classes"]) <= mixed)
    rest = max((_error_rate(pair) for pair in pairs if not set(pair["classes"]) <= mixed), default=0.0)
    ordered = [*pairs[0]["classes"], *sorted(mixed - set(pairs[0]["classes"]))]
    return ordered, errors, rest


def _error_rate(pair: ConfusedPair) -> float:
    return pair["errors"] / max(pair["images"], 1)
