"""Checks of the data: duplicates across splits and under two labels, class imbalance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.analysis.diagnosis.record import Finding, Record

IMBALANCE_RATIO = 5  # frequency of the most over that of the least frequent class


def imbalanced_classes(counts: Sequence[int]) -> tuple[int, int] | None:
    """Return the least and the most frequent class if their frequencies differ by more than ``IMBALANCE_RATIO``.

    >>> imbalanced_classes([10, 60, 30]), imbalanced_classes([10, 50])
    ((0, 1), None)
    """
    counts = list(counts)
    if len(counts) < 2 or min(counts) * IMBALANCE_RATIO >= max(counts):
        return None
    return counts.index(min(counts)), counts.index(max(counts))


def describe_duplicates(duplicates: Mapping[str, int]) -> str:
    """Return duplicates, by ``"<split>/<split>"``, as a sentence; empty if there are none.

    >>> describe_duplicates({"train/test": 5, "train/validation": 0})
    '5 images of test are also in train'
    """
    pairs = [(*pair.split("/"), n) for pair, n in duplicates.items() if n]
    return ", ".join(f"{n} images of {second} are also in {first}" for first, second, n in pairs)


def describe_near(pairs: Mapping[str, int]) -> str:
    """Return the numbers of nearly equal pairs as a phrase; empty if there are none.

    >>> describe_near({"two splits": 3, "two labels": 1})
    '3 pairs in two splits and 1 pairs with two labels'
    """
    counts = [(pairs.get("two splits", 0), "in two splits"), (pairs.get("two labels", 0), "with two labels")]
    return " and ".join(f"{count} pairs {where}" for count, where in counts if count)


def contradictory_labels(r: Record) -> Finding | None:
    """Equal training images have different labels."""
    count = r.dataset_info.get("contradictory", 0)
    if not count:
        return None
    return Finding(
        "contradictory labels",
        f"{count} training images are equal, byte for byte, to one with another label",
        "At most one of the labels is right; suspects.csv lists the pairs.",
        ("correct the labels, or remove the images",),
    )


def near_duplicates(r: Record) -> Finding | None:
    """Images are nearly equal to one in another split or with another label."""
    text = describe_near(r.dataset_info.get("near_duplicates") or {})
    if not text:
        return None
    return Finding(
        "near duplicates",
        f"{text}, such as resized or recompressed copies",
        "suspects.csv lists them; pairs in two splits make the scores too optimistic.",
        ("remove the copies from the data, if they are some",),
        "hint",
    )


def leakage(r: Record) -> Finding | None:
    """Images are in more than one split."""
    text = describe_duplicates(r.dataset_info.get("duplicates") or {})
    if not text:
        return None
    return Finding(
        "train/test leakage",
        text,
        "The same images, byte for byte, are used for training and evaluation: the scores are too optimistic.",
        ("remove the duplicates from the data",),
    )


def class_imbalance(r: Record) -> Finding | None:
    """One class is much more frequent than another."""
    counts = r.dataset_info.get("class_counts") or []
    classes = imbalanced_classes(counts) if r.classifies else None
    if classes is None:
        return None
    names = r.dataset_info.get("classes") or [str(i) for i in range(len(counts))]
    rare, frequent = classes
    return Finding(
        "class imbalance",
        f"{names[rare]} has {counts[rare]} training images, {names[frequent]} {counts[frequent]}",
        f"Always predicting {names[frequent]} gives {100 * r.majority:.0f} % accuracy: read the table per class, not "
        "accuracy alone.",
        (*(r.dataset_info.get("remedies") or ()), "job=evaluate checkpoint=<run directory>"),
        "hint",
    )
