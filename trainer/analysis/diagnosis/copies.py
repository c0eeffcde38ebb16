"""Checks of copies: images of one split that are, or nearly are, in another one."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.analysis.diagnosis.data import MANY_COPIES, placeholder
from trainer.analysis.diagnosis.record import Finding, Record

LEAKED = 0.02  # of the images of a split, that are copies, from which its score is wrong
MOVES = 0.01  # fraction of the images, up to which thumbnails may be alike by chance and hardly move a score


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
    many = pairs.get("two splits", 0) > MANY_COPIES * evaluated
    return Finding(
        "near duplicates",
        f"{text}, such as resized or recompressed copies",
        "suspects.csv lists them; pairs in two splits make the scores too optimistic.",
        ("remove the copies from the data, if they are some",),
        "warning" if many else "hint",
    )


def leakage(r: Record) -> Finding | None:
    """Images are in more than one split."""
    text = describe_duplicates(_copies(r))
    if not text:
        return None
    return Finding(
        "train/test leakage",
        text,
        "The same images, byte for byte, are used for training and evaluation: the scores are too optimistic.",
        ("remove the duplicates from the data",),
    )


def leaks(r: Record) -> bool:
    """Whether so many images of a split are in another one that its scores are wrong, which comes before anything they tell."""
    sizes = {"validation": r.dataset_info.get("validation", 0), "test": r.dataset_info.get("test", 0)}
    return any(n > LEAKED * sizes.get(pair.split("/")[1], n) for pair, n in _copies(r).items())


def _copies(r: Record) -> dict[str, int]:
    """The images that are in two splits, by ``"<split>/<split>"``, without one that stands for missing images."""
    repeated = placeholder(r)
    known = repeated["duplicates"] if repeated else {}
    return {pair: n - known.get(pair, 0) for pair, n in (r.dataset_info.get("duplicates") or {}).items()}
