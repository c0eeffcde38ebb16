"""What the doctor looks at in the data: pictures and labels that look wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.jobs.doctor.table import Check

if TYPE_CHECKING:
    from trainer.data import Splits


def pictures(splits: Splits) -> list[Check]:
    """Pictures and labels that look wrong."""
    import numpy as np

    from trainer.observers.diagnosis import duplicates

    parts = {name: part for name in ("train", "validation", "test") if (part := getattr(splits, name)) is not None}
    twins = {pair: n for pair, n in duplicates(parts).items() if n}
    checks = []
    if twins:
        text = ", ".join(
            f"{n} pictures of {pair.split('/')[1]} are in {pair.split('/')[0]} too" for pair, n in twins.items()
        )
        leaked = max(n / len(parts[pair.split("/")[1]]) for pair, n in twins.items())
        checks.append(Check("splits", "fail" if leaked > 0.01 else "look", text, "take the duplicates out"))
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    absent = [splits.classes[i] for i in np.flatnonzero(counts == 0)]
    if absent:
        checks.append(
            Check("classes", "fail", f"no training picture of {', '.join(absent[:10])}", "look at the labels")
        )
    elif counts.max() > 10 * counts.min():
        common, rare = int(counts.argmax()), int(counts.argmin())
        text = f"{counts.max()} pictures of {splits.classes[common]}, {counts.min()} of {splits.classes[rare]}"
        checks.append(Check("classes", "look", text, "accuracy would hide the rare one: look at the table per class"))
    constant = flat(splits.train)
    if constant:
        text = f"{constant} of the training pictures looked at are of one colour"
        checks.append(Check("pictures", "look", text, "look at them: broken files?"))
    clash = contradictions(splits.train)
    if clash:
        text = f"{clash} training pictures have a twin with another label"
        checks.append(Check("labels", "look", text, "look at the labels"))
    if not checks:
        text = f"{sum(map(len, parts.values())):,} pictures: none in two parts, none of one colour, no twins with other labels"
        checks.append(Check("pictures", "ok", text))
    return checks


def flat(part: Any, most: int = 2000) -> int:
    """How many pictures have one value everywhere, of up to ``most`` picked evenly."""
    found = 0
    for i in range(0, len(part), max(1, len(part) // most)):
        image = part.read(i, 64) if hasattr(part, "paths") else part.read(i)
        found += bool((image == image[:1, :1]).all())
    return found


def contradictions(part: Any) -> int:
    """How many pictures are equal, byte for byte, to one of another class."""
    from trainer.observers.diagnosis import fingerprints

    labels: dict[Any, set[int]] = {}
    prints = fingerprints(part)
    for key, label in zip(prints, part.labels.tolist(), strict=False):
        labels.setdefault(key, set()).add(label)
    return sum(len(labels[key]) > 1 for key in prints)
