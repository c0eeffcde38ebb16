"""Checks of classes that are mixed up: the labels of two are exchanged, or one has lost its images to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from trainer.analysis.diagnosis.data import imbalanced_classes
from trainer.analysis.diagnosis.record import Finding, Record, number
from trainer.measurements import ConfusedPair, Confusions

MIXED_ERRORS = 8  # from which on two classes can be called mixed up
MOVED = 0.6  # of the images that a class is expected to have, below which it has lost some to another
ALIKE = 0.25  # by which the frequency of a class may differ from what is expected, relative to it
UNEXPLAINED = 0.35  # of the loss of guessing, that guessing among the classes that are mixed up does not explain
MIXED_RATE = 0.2  # of the images of two classes that are predicted as the other one
CHANCE = 0.4  # likewise, from which on it is not much better to guess


def classes_mixed_up(r: Record) -> Finding | None:
    """Some classes are confused far more than others: even where the network is confident, or while it knows all others."""
    counts, confusions = r.dataset_info.get("class_counts") or [], r.dataset_info.get("confusions")
    if (moved := _labelled_as_another(r)) is not None:
        return moved
    if confusions is None or not confusions["pairs"] or len(counts) < 3 or imbalanced_classes(counts):
        return None  # rare classes are taken for frequent ones
    first = confusions["pairs"][0]
    if first["errors"] < MIXED_ERRORS or error_rate(first) < MIXED_RATE:
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
    if _underfits(r, mixed):
        return None
    groups = [[r.class_names[i] for i in group] for group in mixed]
    pairs = [next(p for p in confusions["pairs"] if p["classes"] == group[:2]) for group in mixed]
    these = "; ".join(f"{', '.join(group[:-1])} and {group[-1]}" for group in groups)
    others = [pair for pair in confusions["pairs"] if not any(set(pair["classes"]) <= set(group) for group in mixed)]
    evidence = [
        f"{100 * error_rate(pair):.0f} % of {pair['images']} validation images of {group[0]} and {group[1]} are predicted as "
        f"the other one, and {100 * _confident_rate(pair):.0f} % of the half with the highest probabilities"
        for pair, group in zip(pairs, groups, strict=True)
    ]
    rest = max(map(error_rate, others), default=0.0)
    return Finding(
        "classes mixed up",
        f"{'; '.join(evidence)}; of other pairs of classes, at most {100 * rest:.0f} %",
        meaning.format(these),
        (f"compare images and labels of {these}", "job=doctor"),
        kind,
    )


def _underfits(r: Record, mixed: Sequence[Sequence[int]]) -> bool:
    """Whether the loss of the training images is higher than guessing among the classes of each group would explain."""
    counts = r.dataset_info.get("class_counts") or []
    if not r.struggles or r.probe is None or r.chance_loss is None:
        return False
    guessed = sum(sum(counts[i] for i in group) * math.log(len(group)) for group in mixed) / max(sum(counts), 1)
    return number(r.probe["used"]["loss"]) - guessed > UNEXPLAINED * r.chance_loss


def _labelled_as_another(r: Record) -> Finding | None:
    """One class lacks as many images as another one has too many, and both are confused; all others are as frequent as expected.

    Expected are the frequencies of the test images or, as labels may be wrong there too, equal ones.
    """
    counts, confusions = r.dataset_info.get("class_counts") or [], r.dataset_info.get("confusions")
    if confusions is None or len(counts) < 4:
        return None
    names = r.class_names
    confused = {tuple(sorted(pair["classes"])) for pair in confusions["pairs"] if pair["errors"]}
    tested = r.dataset_info.get("test_fractions") or []
    for fractions, expected in ((tested, "the test images"), ([1 / len(counts)] * len(counts), "the other classes")):
        moved = _moved_images(counts, fractions) if len(fractions) == len(counts) else []
        if moved and all(tuple(sorted(pair)) in confused for pair in moved):
            return _moved(counts, [(names[a], names[b], counts[a], counts[b]) for a, b in moved], expected)
    return None


def _moved(counts: Sequence[int], moved: Sequence[tuple[str, str, int, int]], expected: str) -> Finding:
    return Finding(
        "classes mixed up",
        "; ".join(f"{a} has {few} training images, {b} {many}, and both are confused" for a, b, few, many in moved)
        + f"; as frequent as in {expected}, classes would have about {median(counts):g}",
        f"What the one lacks, the other has too much: many images of {moved[0][0]} have the label {moved[0][1]}"
        + "".join(f", many of {a} the label {b}" for a, b, _, _ in moved[1:])
        + ".",
        (*(f"compare images and labels of {a} and {b}" for a, b, _, _ in moved), "job=doctor"),
    )


def _moved_images(counts: Sequence[int], fractions: Sequence[float]) -> list[tuple[int, int]]:
    """The pairs of classes of which the first has lost images to the second, if that explains all differences of frequency.

    Args:
        counts: Images of each class.
        fractions: Their expected fractions.

    >>> _moved_images([100, 10, 190, 102], [0.25] * 4), _moved_images([100, 10, 100, 100], [0.25] * 4)
    ([(1, 2)], [])
    """
    scale = _scale(counts, fractions)
    expected = [scale * fraction for fraction in fractions]
    lost = [i for i, n in enumerate(counts) if n < MOVED * expected[i]]
    gained = {i for i, n in enumerate(counts) if n > (2 - MOVED) * expected[i]}
    pairs: list[tuple[int, int]] = []
    for i in lost:
        missing = expected[i] - counts[i]
        best = min(gained, key=lambda j: abs(counts[j] - expected[j] - missing), default=None)
        if best is None or abs(counts[best] - expected[best] - missing) > ALIKE * expected[best]:
            return []
        gained.discard(best)
        pairs.append((i, best))
    others = set(range(len(counts))) - {i for pair in pairs for i in pair}
    alike = all(abs(counts[i] - expected[i]) < ALIKE * expected[i] for i in others)
    return pairs if len(others) >= len(counts) / 2 and alike else []


def _scale(counts: Sequence[int], fractions: Sequence[float]) -> float:
    """The number of images of which most classes have their expected fraction."""
    return median([n / fraction for n, fraction in zip(counts, fractions, strict=True) if fraction] or [0.0])


def _confused_by_chance(confusions: Confusions, classes: int) -> list[list[int]]:
    """The classes that even confident predictions take for each other, as one group, the most confused first; else none."""
    pairs = confusions["pairs"]
    mixed = set(pairs[0]["classes"])
    for pair in pairs:
        if mixed & set(pair["classes"]) and error_rate(pair) >= CHANCE:
            mixed |= set(pair["classes"])
    errors = sum(pair["errors"] for pair in pairs if set(pair["classes"]) <= mixed)
    rest = max((error_rate(pair) for pair in pairs if not set(pair["classes"]) <= mixed), default=0.0)
    rate, confident = error_rate(pairs[0]), _confident_rate(pairs[0])
    merged = (confusions["correct"] + errors) / confusions["images"]
    by_chance = merged >= 0.8 and rate >= 3 * rest and confident >= 0.6 * rate
    # In harder data, too, if confident predictions are as often wrong as others, and no other pair is confused half as often.
    by_chance |= merged >= 0.65 and rate >= max(1.8 * rest, CHANCE) and confident >= 0.9 * rate
    group = [*pairs[0]["classes"], *sorted(mixed - set(pairs[0]["classes"]))]
    return [group] if by_chance and len(group) <= max(2, classes // 3) else []


def _outstanding(confusions: Confusions, classes: int) -> list[list[int]]:
    """The pairs of classes that are confused far more than any other pair, while all others are told apart; else none."""
    pairs = confusions["pairs"]
    often = [pair for pair in pairs if pair["errors"] >= MIXED_ERRORS and error_rate(pair) >= MIXED_RATE]
    # One error among few images says little about a rate.
    rest = max(((pair["errors"] - 1) / max(pair["images"], 1) for pair in pairs if pair not in often), default=0.0)
    merged = (confusions["correct"] + sum(pair["errors"] for pair in often)) / confusions["images"]
    apart = len({name for pair in often for name in pair["classes"]}) == 2 * len(often) <= max(2, classes // 2)
    return [pair["classes"] for pair in often] if merged >= 0.9 and apart and error_rate(often[-1]) >= 5 * rest else []


def _confident_rate(pair: ConfusedPair) -> float:
    """The errors among the half of the predictions with the highest probabilities."""
    return pair["confident_errors"] / max(pair["images"] // 2, 1)


def error_rate(pair: ConfusedPair) -> float:
    return pair["errors"] / max(pair["images"], 1)
