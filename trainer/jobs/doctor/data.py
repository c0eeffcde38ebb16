"""Checks of the data: duplicates, class frequencies, images of a single color, contradictory labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.analysis.diagnosis.copies import describe_duplicates
from trainer.analysis.diagnosis.data import imbalanced_classes
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.targets import LABEL, Target, is_missing
from trainer.jobs.doctor.table import Check
from trainer.observers.duplicates import Fingerprints
from trainer.progress import activity

if TYPE_CHECKING:
    from trainer.data import Splits

Images = ImageArray | ImageFiles
LEAKED = 0.01  # fraction of a split that has to be duplicated for the check to fail


@activity("examining the data")
def check_data(splits: Splits) -> list[Check]:
    """Check images and labels."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {name: images for name, images in parts.items() if images is not None}
    prints = Fingerprints(parts)
    checks = [*leakage(prints), *class_frequencies(splits)]
    if constant := count_constant(splits.train):
        text = f"{constant} of the examined training images are blank (a single color)"
        checks.append(Check("images", "warning", text, "check whether these files are broken"))
    if contradictory := prints.contradictory():
        text = f"{contradictory} training images have a duplicate with a different label"
        checks.append(Check("labels", "warning", text, "check the labels"))
    if not checks:
        total = sum(map(len, parts.values()))
        text = (
            f"{total:,} images: no duplicates across splits, no blank images, no identical images with different labels"
        )
        checks.append(Check("images", "ok", text))
    return checks


def leakage(prints: Fingerprints) -> list[Check]:
    """Check for images that are in two splits."""
    counts = {pair: n for pair, n in prints.across_splits().items() if n}
    if not counts:
        return []
    fraction = max(n / len(prints.parts[pair.split("/")[1]]) for pair, n in counts.items())
    status = "fail" if fraction > LEAKED else "warning"
    return [Check("leakage", status, describe_duplicates(counts), "remove the duplicates")]


def class_frequencies(splits: Splits) -> list[Check]:
    """Check every target that has classes for classes without training images, and for class imbalance."""
    return [
        check
        for target in splits.targets
        if target.kind == "classification"
        for check in frequencies(target, splits.train.target(target.name))
    ]


def frequencies(target: Target, values: np.ndarray) -> list[Check]:
    """Check the classes of one target; missing ones are left out."""
    of = "" if target.name == LABEL else f"{target.name}: "
    counts = np.bincount(values[~is_missing(target, values)], minlength=len(target.classes))
    missing = [target.classes[i] for i in np.flatnonzero(counts == 0)]
    if missing:
        return [Check("classes", "fail", f"{of}no training image of {', '.join(missing[:10])}", "check the labels")]
    imbalance = imbalanced_classes(counts.tolist())
    if imbalance is None:
        return []
    rare, frequent = imbalance
    text = f"{of}{counts[frequent]} images of {target.classes[frequent]}, {counts[rare]} of {target.classes[rare]}"
    return [Check("classes", "warning", text, "accuracy hides rare classes: read the table per class of job=evaluate")]


def count_constant(images: Images, max_images: int = 2000) -> int:
    """Return how many images have the same color everywhere, of up to ``max_images`` evenly spaced ones."""
    count = 0
    for i in range(0, len(images), max(1, len(images) // max_images)):
        image = images.read(i, 64) if isinstance(images, ImageFiles) else images.read(i)
        count += bool((image == image[:1, :1]).all())
    return count
