"""Checks of the data: images that are there many times or under two labels, class imbalance."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.analysis.diagnosis.record import Finding, Record
from trainer.measurements import Repeated

IMBALANCE_RATIO = 5  # frequency of the most over that of the least frequent class
COSTS = 0.1  # accuracy that validation images, with the same rare classes, have more than test images, from which it matters
UNEQUAL = 8  # ratio of the parts of two classes in the loss, from which their weights are unequal
MANY_COPIES = 0.05  # of the images of evaluation, from which near duplicates are more than a hint


def imbalanced_classes(counts: Sequence[int]) -> tuple[int, int] | None:
    """Return the least and the most frequent class if their frequencies differ by more than ``IMBALANCE_RATIO``.

    >>> imbalanced_classes([10, 60, 30]), imbalanced_classes([10, 50])
    ((0, 1), None)
    """
    counts = list(counts)
    if len(counts) < 2 or min(counts) * IMBALANCE_RATIO >= max(counts):
        return None
    return counts.index(min(counts)), counts.index(max(counts))


def placeholder(r: Record) -> Repeated | None:
    """The image that many training images are, under several labels."""
    repeated, least = r.dataset_info.get("repeated"), max(10.0, 0.01 * r.dataset_info.get("train", 0))
    return repeated if repeated is not None and repeated["images"] >= least and repeated["labels"] > 1 else None


def repeated_image(r: Record) -> Finding | None:
    """Many training images, of several classes, are one and the same."""
    repeated = placeholder(r)
    if repeated is None:
        return _copied_images(r)
    return Finding(
        "repeated image",
        f"{repeated['images']} of {r.dataset_info.get('train', 0)} training images are one and the same, byte for byte, under "
        f"{repeated['labels']} labels",
        "It is a placeholder, or what is left of files that could not be read: it shows nothing that belongs to its labels.",
        ("restore or remove these images; suspects.csv lists them",),
    )


def _copied_images(r: Record) -> Finding | None:
    """Most training images are copies of a few, with equal labels."""
    different, total = r.dataset_info.get("different", 0), r.dataset_info.get("train", 0)
    if not 0 < different < 0.5 * total:
        return None
    return Finding(
        "repeated image",
        f"only {different} of {total} training images are different, byte for byte",
        "An epoch shows the same few images again and again: the network cannot learn more from them than they show.",
        ("remove the copies, or restore the images that they have replaced",),
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


def class_weights(r: Record) -> Finding | None:
    """The weights of the classes in the loss make some of them count far more than others, and the network is not good."""
    weights, counts = r.dataset_info.get("class_weights") or [], r.dataset_info.get("class_counts") or []
    if not r.classifies or len(weights) != len(counts) or len(counts) < 2 or not r.weak:
        return None
    share = [w * n for w, n in zip(weights, counts, strict=True)]
    least, most = share.index(min(share)), share.index(max(share))
    if share[most] <= UNEQUAL * share[least] or share[most] * min(counts) <= 2 * share[least] * max(counts):
        return None
    names = r.class_names
    return Finding(
        "unequal class weights",
        f"task.class_weights makes {names[most]} {100 * share[most] / sum(share):.2g} % of the training loss, {names[least]} "
        f"{100 * share[least] / sum(share):.2g} %",
        f"The network learns to prefer {names[most]} over {names[least]}.",
        ("task.class_weights=none", "task.class_weights=balanced"),
    )


def class_imbalance(r: Record) -> Finding | None:
    """One class is much more frequent than another."""
    counts = r.dataset_info.get("class_counts") or []
    classes = imbalanced_classes(counts) if r.classifies else None
    if classes is None:
        return None
    names, accuracies = r.class_names, r.dataset_info.get("accuracies", {})
    rare, frequent = classes
    return Finding(
        "class imbalance",
        f"{names[rare]} has {counts[rare]} training images, {names[frequent]} {counts[frequent]}",
        f"Always predicting {names[frequent]} gives {100 * r.majority:.0f} % accuracy: read the table per class, not "
        "accuracy alone.",
        (*(r.dataset_info.get("remedies") or ()), "job=evaluate checkpoint=<run directory>"),
        "warning" if accuracies.get("validation", 0.0) - accuracies.get("test", 1.0) > COSTS else "hint",
    )
