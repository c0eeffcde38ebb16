"""Checks of splits that differ: of images or labels that come from elsewhere than those of training."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.analysis.diagnosis.copies import leaks
from trainer.analysis.diagnosis.data import MANY_COPIES, imbalanced_classes
from trainer.analysis.diagnosis.record import Finding, Record
from trainer.measurements import DatasetInfo, SplitPixels

STANDARD_ERRORS = 4  # by which two accuracies must differ; chance alone does that in one of 30,000 runs
LOWER = 0.05  # difference of two accuracies from which it matters
MOVED = 0.6  # ratio of the fractions of a class in two splits, below which it is named
RESTORED = 0.5  # part of the difference that a change of the test images must make up for
GRAY = 0.2  # of the color of the others, below which images are gray
BETTER = 0.08  # accuracy on validation images that a change of them must gain at least
FOLLOWED = 0.1  # of the images with borders of others, from which borders tell the classes
TRAINING_BORDERS, OWN_BORDERS = "borders of training images", "borders of validation images"
PARTLY = 0.2  # part of that difference from which it is at least a reason
OF_COLORS = ("standardized", "channels reversed")
FITTED = 0.05  # accuracy by which standardized images must be recognized better than otherwise changed ones
# What is changed, and what it means that the images of a split are recognized then, by the names of `engine.changed_images`.
CHANGED = {
    "standardized": (
        "with the mean and standard deviation of the others",
        "The {split} images have another brightness, contrast or range of values: they come from another source, or were "
        "prepared in another way.",
    ),
    "channels reversed": (
        "with their channels reversed",
        "Their channels are in the other order, such as BGR instead of RGB.",
    ),
    "inverted": ("inverted", "They are negatives: dark is bright in them."),
    "renumbered": (
        "with their labels numbered in another order",
        "The classes of the {split} labels are in another order.",
    ),
    "mirrored": ("mirrored", "They are mirrored."),
    "upside down": ("upside down", "They are upside down."),
    "rotated by 180 degrees": ("rotated by 180 degrees", "They are rotated by 180 degrees."),
    "rotated by 90 degrees to the left": (
        "rotated by 90 degrees to the left",
        "They are rotated by 90 degrees to the right.",
    ),
    "rotated by 90 degrees to the right": (
        "rotated by 90 degrees to the right",
        "They are rotated by 90 degrees to the left.",
    ),
    "transposed": ("transposed", "They are transposed: rows and columns are exchanged."),
}


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
    if not differ(accuracies, sizes) or not r.learned:
        return None
    shown = [f"{100 * accuracies[name]:.1f} % of {sizes[name]} {name} images" for name in ("validation", "test")]
    gap = accuracies["validation"] - accuracies["test"]
    gained = max((value for name, value in info.get("changes", {}).items() if name in OF_COLORS), default=1.0)
    difference, meaning, by_frequency = describe_shift(
        info.get("pixels", {}), gap, colors=gained > accuracies["test"] + PARTLY * gap
    )
    if change := restoring(info.get("changes", {}), accuracies["test"] + RESTORED * gap):
        phrase, meaning = CHANGED[change][0], CHANGED[change][1].format(split="test")
        text = f"; {phrase}, {100 * info.get('changes', {})[change]:.1f} % of the test images are recognized"
        difference, by_frequency = difference * (change == "standardized") + text, False
    imbalanced = imbalanced_classes(info.get("class_counts") or []) is not None
    if by_frequency and not imbalanced and (moved := _frequencies_that_moved(r)):
        difference, meaning = (
            f"{difference}: {moved}",
            f"{meaning} Some of these may be labelled as others in training.",
        )
    if copies := _copies_in_validation(info):
        difference, meaning, by_frequency = "", copies, False
    return Finding(
        "validation and test differ",
        f"{' but '.join(shown)} are recognized{difference}",
        meaning,
        ("compare images and labels of the two splits", "job=evaluate checkpoint=<run directory>"),
        "hint" if by_frequency and imbalanced else "warning",
    )


def _copies_in_validation(info: DatasetInfo) -> str:
    """What it means that many validation images are, or nearly are, training images; empty if they are not."""
    for pairs, word in ((info.get("duplicates"), "also"), (info.get("near_duplicates"), "nearly")):
        copies = (pairs or {}).get("train/validation", 0)
        if copies > MANY_COPIES * info.get("validation", 0):
            return f"{copies} validation images are {word} training images, so they are recognized: the test accuracy is true."
    return ""


def _frequencies_that_moved(r: Record) -> str:
    """The classes that are far rarer, or more frequent, in the validation images than in the test images."""
    own, test = (r.dataset_info.get("pixels", {})[name]["class_fractions"] for name in ("validation", "test"))
    names = r.class_names
    rarer = [name for name, a, b in zip(names, own, test, strict=False) if a < MOVED * b]
    more = [name for name, a, b in zip(names, own, test, strict=False) if b < MOVED * a]
    texts = [f"{', '.join(group[:5])} {word}" for group, word in ((rarer, "rarer"), (more, "more frequent")) if group]
    return f"{' and '.join(texts)} in training" if texts else ""


def validation_differs(r: Record) -> Finding | None:
    """Validation images are recognized as well as training images once they, or the numbers of their classes, are changed."""
    if r.probe is None:
        return None
    accuracy, held_out = r.probe["used"]["accuracy"] or 0.0, r.probe["used"].get("validation_accuracy") or 0.0
    changes = r.dataset_info.get("validation_changes", {})
    change = restoring(changes, held_out + max(RESTORED * (accuracy - held_out), BETTER))
    if not change:
        return _told_by_borders(changes, r.dataset_info.get("validation", 0))
    phrase, meaning = CHANGED[change]
    return Finding(
        "training and validation differ",
        f"{100 * accuracy:.1f} % of the training images but {100 * held_out:.1f} % of the validation images are recognized; "
        f"{phrase}, {100 * changes[change]:.1f} % of the validation images are",
        meaning.format(split="validation"),
        ("compare images and labels of the two splits", "job=doctor"),
    )


def _told_by_borders(changes: Mapping[str, float], images: int) -> Finding | None:
    """Validation images are taken for the class of a training image whose borders they get, but not of a validation image."""
    followed, own = (changes.get(name, 0.0) for name in (TRAINING_BORDERS, OWN_BORDERS))
    sizes = {TRAINING_BORDERS: images, OWN_BORDERS: images}
    if followed - own < FOLLOWED or not differ(changes, sizes, TRAINING_BORDERS, OWN_BORDERS):
        return None
    return Finding(
        "training and validation differ",
        f"with the outer eighth of a training image of another class, {100 * followed:.1f} % of the validation images are taken "
        f"for that class, with that of a validation image {100 * own:.1f} %",
        "Marks or frames at the borders of the training images tell their classes, which those of the validation images do not.",
        ("compare images and labels of the two splits", "job=doctor"),
    )


def restoring(accuracies: Mapping[str, float], least: float) -> str:
    """Return the change of the images of a split with the highest accuracy, if that is at least ``least``; else an empty name.

    Standardizing, which fits two numbers per channel to the images, must be better than the others by more than a little.

    >>> restoring({"mirrored": 0.5, "inverted": 0.9}, 0.7), restoring({"mirrored": 0.5}, 0.7)
    ('inverted', '')
    >>> restoring({"standardized": 0.95, "channels reversed": 0.94}, 0.7)
    'channels reversed'
    """
    ranked = {name: value - FITTED * (name == "standardized") for name, value in accuracies.items() if name in CHANGED}
    best = max(ranked, key=ranked.__getitem__, default="")
    return best if best and accuracies[best] >= least else ""


def describe_shift(pixels: Mapping[str, SplitPixels], gap: float = 1.0, colors: bool = True) -> tuple[str, str, bool]:
    """Return in what validation and test images differ, as the end of a sentence, what that means, and whether it is the
    frequencies of their classes, which explain a ``gap`` of the accuracies.

    Args:
        pixels: The statistics of the splits.
        gap: Of their accuracies.
        colors: Whether test images with other colors are recognized better.

    >>> bright = {"mean": 1.5, "std": 1.0, "class_fractions": [0.5, 0.5]}
    >>> describe_shift({"validation": {**bright, "mean": 0.0}, "test": bright})[0]
    '; the pixels of the validation images have mean 0 and standard deviation 1, those of the test images 1.5 and 1'
    """
    if not {"validation", "test"} <= pixels.keys():
        return "", "The test images, or their labels, come from elsewhere than those of training and validation.", False
    own, test = pixels["validation"], pixels["test"]
    found = _gray(own, test) or _other_values(own, test) or _other_roughness(own, test)
    found = found or (_other_colors(own, test) if colors else None)
    if found is not None:
        return (*found, False)
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


def _gray(own: SplitPixels, test: SplitPixels) -> tuple[str, str] | None:
    """What it means that the images of one split have no colors."""
    color, other = own.get("color", 0.0), test.get("color", 0.0)
    if min(color, other) > GRAY * max(color, other) or max(color, other) < 0.05:
        return None
    gray, colored = ("validation", "test") if color < other else ("test", "validation")
    return (
        f"; the channels of the validation images differ by {color:.2g} standard deviations, of the test images by {other:.2g}",
        f"The {gray} images are gray, the {colored} images have colors.",
    )


def _other_values(own: SplitPixels, test: SplitPixels) -> tuple[str, str] | None:
    """What it means that mean or standard deviation of the pixels differ."""
    if abs(own["mean"] - test["mean"]) <= 0.5 * own["std"] and 2 / 3 < test["std"] / max(own["std"], 1e-9) < 1.5:
        return None
    return (
        f"; the pixels of the validation images have mean {own['mean']:.2g} and standard deviation {own['std']:.2g}, those of "
        f"the test images {test['mean']:.2g} and {test['std']:.2g}",
        "The test images look different: they come from another source, or were prepared in another way.",
    )


def _other_roughness(own: SplitPixels, test: SplitPixels) -> tuple[str, str] | None:
    """What it means that neighboring pixels differ more, or less."""
    rough, smooth = test.get("roughness", 0.0), own.get("roughness", 0.0)
    if 2 / 3 * smooth <= rough <= 1.5 * smooth:
        return None
    return (
        f"; neighboring pixels of the validation images differ by {smooth:.2g} standard deviations, of the test images by "
        f"{rough:.2g}",
        f"The test images are {'noisier or sharper' if rough > smooth else 'smoother'}: they come from another source, or "
        "were resized or compressed in another way.",
    )


def _other_colors(own: SplitPixels, test: SplitPixels) -> tuple[str, str] | None:
    """What it means that the means of the channels differ."""
    means, others = own.get("channel_means") or [], test.get("channel_means") or []
    if not any(abs(a - b) > 0.1 * own["std"] for a, b in zip(means, others, strict=False)):
        return None
    shown = [", ".join(f"{mean:.2g}" for mean in of_split) for of_split in (means, others)]
    return (
        f"; the channels of the validation images have means {shown[0]}, those of the test images {shown[1]}",
        "The colors of the test images are others: another camera, light or white balance.",
    )


def validation_harder(r: Record) -> Finding | None:
    """Far fewer validation images than test images are recognized."""
    info, accuracies = r.dataset_info, r.dataset_info.get("accuracies", {})
    sizes = {"validation": info.get("validation", 0), "test": info.get("test", 0)}
    if leaks(r) or not differ(accuracies, sizes, "test", "validation"):
        return None  # test images that are training images are recognized because of that
    shown = [f"{100 * accuracies[name]:.1f} % of {sizes[name]} {name} images" for name in ("validation", "test")]
    return Finding(
        "validation harder than test",
        f"only {shown[0]} are recognized, but {shown[1]}",
        "Validation images are held out from the training images: labels of both may be wrong, or their images worse.",
        ("compare images and labels of the two splits", "job=doctor"),
    )
