"""Checks of what the network is given: inputs that are not normalized, labels that are wrong or belong to other images."""

from __future__ import annotations

import math

from trainer.analysis.diagnosis.data import imbalanced_classes
from trainer.analysis.diagnosis.record import Finding, Record, number
from trainer.formats import ConfusedPair, Confusions

MIXED_ERRORS = 8  # from which on two classes can be called mixed up
LIKELY = 3  # pairs that are confused most, whose frequencies are compared with those of the test images
MIXED_RATE = 0.2  # of the images of two classes that are predicted as the other one
CHANCE = 0.4  # likewise, from which on it is not much better to guess
STARVED = 0.05  # mean of a schedule, relative to its peak, below which the run learned nothing because of it
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
    if r.lr and r.mean_lr < STARVED * r.lr:
        return None  # neither the run nor short trainings had time to learn
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


def classes_mixed_up(r: Record) -> Finding | None:
    """Some classes are confused far more than others: even where the network is confident, or while it knows all others."""
    counts, confusions = r.dataset_info.get("class_counts") or [], r.dataset_info.get("confusions")
    if (moved := _labelled_as_another(r)) is not None:
        return moved
    if confusions is None or not confusions["pairs"] or len(counts) < 3 or imbalanced_classes(counts):
        return None  # rare classes are taken for frequent ones
    first = confusions["pairs"][0]
    if first["errors"] < MIXED_ERRORS or _error_rate(first) < MIXED_RATE:
        return None
    if mixed := _confused_by_chance(confusions, len(counts)):
        kind = "warning"
        meaning = (
            "Difficult images are predicted with less confidence: labels of {} are mixed up, or both show the same."
        )
    elif mixed := _outstanding(confusions, len(counts)):
        kind = "hint"
        meaning = (
            "All other classes are told apart: some labels of {} are mixed up, or their images are hardly different."
        )
    else:
        return None
    names = r.dataset_info.get("classes") or []
    groups = [[names[i] if i < len(names) else str(i) for i in group] for group in mixed]
    pairs = [next(p for p in confusions["pairs"] if p["classes"] == group[:2]) for group in mixed]
    these = "; ".join(f"{', '.join(group[:-1])} and {group[-1]}" for group in groups)
    others = [pair for pair in confusions["pairs"] if not any(set(pair["classes"]) <= set(group) for group in mixed)]
    evidence = [
        f"{100 * _error_rate(pair):.0f} % of {pair['images']} validation images of {group[0]} and {group[1]} are predicted as "
        f"the other one, and {100 * _confident_rate(pair):.0f} % of the half with the highest probabilities"
        for pair, group in zip(pairs, groups, strict=True)
    ]
    rest = max(map(_error_rate, others), default=0.0)
    return Finding(
        "classes mixed up",
        f"{'; '.join(evidence)}; of other pairs of classes, at most {100 * rest:.0f} %",
        meaning.format(these),
        (f"compare images and labels of {these}", "job=doctor"),
        kind,
    )


def _labelled_as_another(r: Record) -> Finding | None:
    """Of two classes that are confused, one is as much rarer than in the test images as the other is more frequent."""
    pixels, confusions = r.dataset_info.get("pixels", {}), r.dataset_info.get("confusions")
    if not {"validation", "test"} <= pixels.keys() or confusions is None:
        return None
    own, test = (pixels[name]["class_fractions"] for name in ("validation", "test"))
    names = r.dataset_info.get("classes") or [str(i) for i in range(len(own))]
    texts: list[tuple[str, str, float]] = []
    for pair in confusions["pairs"][:LIKELY]:
        rare, frequent = sorted(pair["classes"], key=lambda i: own[i] - test[i])
        same = abs(own[rare] + own[frequent] - test[rare] - test[frequent]) < 0.25 * (test[rare] + test[frequent])
        if pair["errors"] >= MIXED_ERRORS // 2 and own[rare] < 0.5 * test[rare] and same:
            texts.append((names[rare], names[frequent], own[rare] / test[rare]))
    if not texts:
        return None
    return Finding(
        "classes mixed up",
        "; ".join(
            f"{a} is {100 * ratio:.0f} % as frequent in training as in the test images, {b} more frequent by as much, and "
            "both are confused"
            for a, b, ratio in texts
        ),
        f"Many images of {texts[0][0]} have the label {texts[0][1]}"
        + "".join(f", many of {a} the label {b}" for a, b, _ in texts[1:])
        + ".",
        (*(f"compare images and labels of {a} and {b}" for a, b, _ in texts), "job=doctor"),
    )


def _confused_by_chance(confusions: Confusions, classes: int) -> list[list[int]]:
    """The classes that even confident predictions take for each other, as one group, the most confused first; else none."""
    pairs = confusions["pairs"]
    mixed = set(pairs[0]["classes"])
    for pair in pairs:
        if mixed & set(pair["classes"]) and _error_rate(pair) >= CHANCE:
            mixed |= set(pair["classes"])
    errors = sum(pair["errors"] for pair in pairs if set(pair["classes"]) <= mixed)
    rest = max((_error_rate(pair) for pair in pairs if not set(pair["classes"]) <= mixed), default=0.0)
    rate, confident = _error_rate(pairs[0]), _confident_rate(pairs[0])
    merged = (confusions["correct"] + errors) / confusions["images"]
    by_chance = merged >= 0.8 and rate >= min(3 * rest, CHANCE) and confident >= 0.6 * rate
    group = [*pairs[0]["classes"], *sorted(mixed - set(pairs[0]["classes"]))]
    return [group] if by_chance and len(group) <= max(2, classes // 3) else []


def _outstanding(confusions: Confusions, classes: int) -> list[list[int]]:
    """The pairs of classes that are confused far more than any other pair, while all others are told apart; else none."""
    pairs = confusions["pairs"]
    often = [pair for pair in pairs if pair["errors"] >= MIXED_ERRORS and _error_rate(pair) >= MIXED_RATE]
    # One error among few images says little about a rate.
    rest = max(((pair["errors"] - 1) / max(pair["images"], 1) for pair in pairs if pair not in often), default=0.0)
    merged = (confusions["correct"] + sum(pair["errors"] for pair in often)) / confusions["images"]
    apart = len({name for pair in often for name in pair["classes"]}) == 2 * len(often) <= max(2, classes // 2)
    return [pair["classes"] for pair in often] if merged >= 0.9 and apart and _error_rate(often[-1]) >= 5 * rest else []


def _confident_rate(pair: ConfusedPair) -> float:
    """The errors among the half of the predictions with the highest probabilities."""
    return pair["confident_errors"] / max(pair["images"] // 2, 1)


def _error_rate(pair: ConfusedPair) -> float:
    return pair["errors"] / max(pair["images"], 1)
