"""Checks of the data: duplicates across splits and under two labels, class imbalance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainer.analysis.diagnosis.record import Finding, Record
from trainer.formats import Repeated, SplitPixels

IMBALANCE_RATIO = 5  # frequency of the most over that of the least frequent class
MOVES = 0.005  # fraction of the images that cannot move a score by more than is shown of it, half a percent
STANDARD_ERRORS = 4  # by which two accuracies must differ; chance alone does that in one of 30,000 runs
LOWER = 0.05  # difference of two accuracies from which it matters


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
    '3 pairs in two splits and 1 pair with two labels'
    """
    counts = [(pairs.get("two splits", 0), "in two splits"), (pairs.get("two labels", 0), "with two labels")]
    return " and ".join(f"{count} pair{'s' * (count > 1)} {where}" for count, where in counts if count)


def placeholder(r: Record) -> Repeated | None:
    """The image that many training images are, under several labels."""
    repeated, least = r.dataset_info.get("repeated"), max(10.0, 0.01 * r.dataset_info.get("train", 0))
    return repeated if repeated is not None and repeated["images"] >= least and repeated["labels"] > 1 else None


def repeated_image(r: Record) -> Finding | None:
    """Many training images, of several classes, are one and the same."""
    repeated = placeholder(r)
    if repeated is None:
        return None
    return Finding(
        "repeated image",
        f"{repeated['images']} of {r.dataset_info.get('train', 0)} training images are one and the same, byte for byte, under "
        f"{repeated['labels']} labels",
        "It is a placeholder, or what is left of files that could not be read: it shows nothing that belongs to its labels.",
        ("restore or remove these images; suspects.csv lists them",),
    )


def contradictory_labels(r: Record) -> Finding | None:
    """Equal training images have different labels."""
    repeated = placeholder(r)
    count = r.dataset_info.get("contradictory", 0) - (repeated["images"] if repeated else 0)
    if count <= 0:
        return None
    return Finding(
        "contradictory labels",
        f"{count} training images are equal, byte for byte, to one with another label",
        "At most one of the labels is right; suspects.csv lists the pairs.",
        ("correct the labels, or remove the images",),
    )


def near_duplicates(r: Record) -> Finding | None:
    """Images are nearly equal to one in another split or with another label, and enough of them to move a score.

    Some pairs of small or simple images are alike by chance; the report lists them, but they move no score.
    """
    info = r.dataset_info
    evaluated, total = info.get("validation", 0) + info.get("test", 0), info.get("compared", {}).get("near", 0)
    limits = {"two splits": MOVES * evaluated, "two labels": MOVES * total}
    pairs = {
        where: count for where, count in (info.get("near_duplicates") or {}).items() if count > limits.get(where, 0)
    }
    text = describe_near(pairs)
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
    repeated = placeholder(r)
    known = repeated["duplicates"] if repeated else {}
    text = describe_duplicates({k: n - known.get(k, 0) for k, n in (r.dataset_info.get("duplicates") or {}).items()})
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


def differ(
    accuracies: Mapping[str, float], sizes: Mapping[str, int], higher: str = "validation", lower: str = "test"
) -> bool:
    """Return whether the accuracy on one split is lower than that on the other, by more than chance explains.

    >>> sizes = {"validation": 140, "test": 400}
    >>> differ({"validation": 0.99, "test": 0.5}, sizes), differ({"validation": 0.99, "test": 0.95}, sizes)
    (True, False)
    """
    if not {higher, lower} <= accuracies.keys() & sizes.keys():
        return False
    n, m = max(sizes[higher], 1), max(sizes[lower], 1)
    pooled = (n * accuracies[higher] + m * accuracies[lower]) / (n + m)
    error = math.sqrt(max(pooled * (1 - pooled), 0.01) * (1 / n + 1 / m))
    return accuracies[higher] - accuracies[lower] > max(LOWER, STANDARD_ERRORS * error)


def test_differs(r: Record) -> Finding | None:
    """Far fewer test images than validation images are recognized."""
    info = r.dataset_info
    accuracies, sizes = (
        info.get("accuracies", {}),
        {"validation": info.get("validation", 0), "test": info.get("test", 0)},
    )
    if not differ(accuracies, sizes):
        return None
    shown = [f"{100 * accuracies[name]:.1f} % of {sizes[name]} {name} images" for name in ("validation", "test")]
    difference, meaning, by_frequency = describe_shift(
        info.get("pixels", {}), accuracies["validation"] - accuracies["test"]
    )
    copies = (info.get("duplicates") or {}).get("train/validation", 0)
    if copies:
        meaning = f"{copies} validation images are also training images, so that they are recognized: the test accuracy is true."
    return Finding(
        "validation and test differ",
        f"{' but '.join(shown)} are recognized{difference}",
        meaning,
        ("compare images and labels of the two splits", "job=evaluate checkpoint=<run directory>"),
        "hint" if by_frequency and imbalanced_classes(info.get("class_counts") or []) else "warning",
    )


def describe_shift(pixels: Mapping[str, SplitPixels], gap: float = 1.0) -> tuple[str, str, bool]:
    """Return in what validation and test images differ, as the end of a sentence, what that means, and whether it is the
    frequencies of their classes, which explain a ``gap`` of the accuracies.

    >>> bright = {"mean": 1.5, "std": 1.0, "class_fractions": [0.5, 0.5]}
    >>> describe_shift({"validation": {**bright, "mean": 0.0}, "test": bright})[0]
    '; the pixels of the validation images have mean 0 and standard deviation 1, those of the test images 1.5 and 1'
    """
    if not {"validation", "test"} <= pixels.keys():
        return "", "The test images, or their labels, come from elsewhere than those of training and validation.", False
    own, test = pixels["validation"], pixels["test"]
    if abs(own["mean"] - test["mean"]) > 0.5 * own["std"] or not 2 / 3 < test["std"] / max(own["std"], 1e-9) < 1.5:
        text = (
            f"; the pixels of the validation images have mean {own['mean']:.2g} and standard deviation {own['std']:.2g}, those "
            f"of the test images {test['mean']:.2g} and {test['std']:.2g}"
        )
        return (
            text,
            "The test images look different: they come from another source, or were prepared in another way.",
            False,
        )
    rough, smooth = test.get("roughness", 0.0), own.get("roughness", 0.0)
    if not 2 / 3 * smooth <= rough <= 1.5 * smooth:
        return (
            f"; neighboring pixels of the validation images differ by {smooth:.2g} standard deviations, of the test images by "
            f"{rough:.2g}",
            f"The test images are {'noisier or sharper' if rough > smooth else 'smoother'}: they come from another source, or "
            "were resized or compressed in another way.",
            False,
        )
    colors, other = own.get("channel_means") or [], test.get("channel_means") or []
    if any(abs(a - b) > 0.1 * own["std"] for a, b in zip(colors, other, strict=False)):
        shown = [", ".join(f"{mean:.2g}" for mean in means) for means in (colors, other)]
        return (
            f"; the channels of the validation images have means {shown[0]}, those of the test images {shown[1]}",
            "The colors of the test images are others: their channels may be in another order, such as BGR instead of RGB.",
            False,
        )
    moved = [b - a for a, b in zip(own["class_fractions"], test["class_fractions"], strict=True)]
    if sum(map(abs, moved)) > min(0.4, gap):
        return (
            f"; {100 * sum(map(abs, moved)) / 2:.0f} % of the test images would need another class for equal frequencies",
            "The classes are not as frequent in the test images as in training and validation.",
            True,
        )
    return (
        "; their pixels and the frequencies of their classes are alike",
        "The labels of the test images may be numbered in another way, or the images differ in what averages do not show.",
        False,
    )
