"""Images that are in two splits or under two labels: equal ones, byte for byte, and nearly equal ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.analysis.cleaning import Pair, exact_duplicates, near_duplicates
from trainer.data.images import ImageArray, ImageFiles, Images
from trainer.data.sources import length
from trainer.data.thumbnails import thumbnails
from trainer.measurements import Repeated
from trainer.report.suspects import Place, Suspect

MAX_FILES = 20_000  # of a split, whose digests are computed
MAX_BYTES = 2**21  # of a file that is read for its digest
PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
Fingerprint = bytes | tuple[int, str]  # a digest or, of a file that is not read, its size and path


class Fingerprints:
    """A key per image of each split, equal for equal bytes, and its labels.

    Attributes:
        parts: The images of each split.
        keys: A digest of each image, by split; of files, of the first ``MAX_FILES`` of a split, if they are not too large.
    """

    def __init__(self, parts: Mapping[str, Images]) -> None:
        self.parts = parts
        self.keys = {name: fingerprints(images) for name, images in parts.items()}

    @property
    def compared(self) -> int:
        """How many images have a digest."""
        return sum(isinstance(key, bytes) for keys in self.keys.values() for key in keys)

    def across_splits(self) -> dict[str, int]:
        """Return how many images of one split are also in another: ``train/validation`` counts validation images."""
        sets = {name: set(keys) for name, keys in self.keys.items()}
        return {f"{a}/{b}": sum(key in sets[a] for key in self.keys[b]) for a, b in PAIRS if a in sets and b in sets}

    def contradictory(self, split: str = "train") -> int:
        """Return how many images of a split are equal to one of another class or with another value of a target."""
        labels: dict[Fingerprint, set[bytes]] = {}
        values = label_bytes(self.parts[split])
        for key, value in zip(self.keys[split], values, strict=False):
            labels.setdefault(key, set()).add(value)
        return sum(len(labels[key]) > 1 for key in self.keys[split])

    def different(self, split: str = "train") -> int:
        """Return how many images of a split are different; those without a digest count as such."""
        return len(set(self.keys[split])) + len(self.parts[split]) - len(self.keys[split])

    def most_repeated(self, split: str = "train") -> Repeated | None:
        """Return what is known of the image that a split has most often; None if each is there once."""
        digests = [key for key in self.keys[split] if isinstance(key, bytes)]
        key, count = max(Counter(digests).items(), key=lambda item: item[1], default=(b"", 0))
        if count < 2:
            return None
        values = label_bytes(self.parts[split])
        held = {name for name, keys in self.keys.items() if key in keys}
        across = {f"{a}/{b}": self.keys[b].count(key) for a, b in PAIRS if {a, b} <= held}
        labels = {value for k, value in zip(self.keys[split], values, strict=False) if k == key}
        return Repeated(images=count, labels=len(labels), duplicates=across)


def fingerprints(images: Images) -> list[Fingerprint]:
    """A key per image, equal for equal bytes: a digest; for large files, size and path."""
    if isinstance(images, ImageArray):
        rows = np.ascontiguousarray(images.images).reshape(len(images.images), -1)
        return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    keys: list[Fingerprint] = []
    for path in images.paths[:MAX_FILES]:
        size = length(path)
        small = 0 < size <= MAX_BYTES
        keys.append(hashlib.blake2b(path.read_bytes(), digest_size=16).digest() if small else (size, str(path)))
    return keys


def label_bytes(images: Images) -> list[bytes]:
    """Return the class and all further targets of each image, as bytes that are equal if they are."""
    columns = [images.labels, *images.columns.values()]
    return [b"".join(values[i].tobytes() for values in columns) for i in range(len(images))]


@dataclass
class Examined:
    """The images that are compared with each other.

    Attributes:
        parts: The images of each split.
        split: The split of each examined image (n,).
        index: Its index in the split (n,).
        labels: Its class (n,).
        thumbnails: (n, H, W, C).
    """

    parts: Mapping[str, Images]
    split: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    thumbnails: np.ndarray


def examined(parts: Mapping[str, Images], most: int) -> Examined:
    """Return at most ``most`` images of all splits, evenly spaced, with their thumbnails."""
    total = sum(map(len, parts.values()))
    step = max(1, -(-total // most))
    chosen = {name: np.arange(0, len(images), step) for name, images in parts.items()}
    return Examined(
        parts,
        np.concatenate([np.full(len(indices), name) for name, indices in chosen.items()]),
        np.concatenate(list(chosen.values())),
        np.concatenate([parts[name].labels[indices] for name, indices in chosen.items()]),
        np.concatenate([thumbnails(parts[name], indices) for name, indices in chosen.items()]),
    )


def exact_suspects(prints: Fingerprints) -> list[Suspect]:
    """Return the equal images that lie in two splits or have two labels, each with the first that it equals."""
    places = [(split, i) for split, keys in prints.keys.items() for i in range(len(keys))]
    pairs = exact_duplicates([prints.keys[split][i] for split, i in places])
    return _suspects("exact duplicate", prints.parts, places, pairs)


def near_suspects(images: Examined, prints: Fingerprints) -> list[Suspect]:
    """Return the nearly equal images that lie in two splits or have two labels."""
    places = list(zip(images.split.tolist(), images.index.tolist(), strict=True))
    keys = [prints.keys[split][i] if i < len(prints.keys[split]) else (split, i) for split, i in places]
    pairs = [pair for pair in near_duplicates(images.thumbnails) if keys[pair.first] != keys[pair.second]]
    return _suspects("near duplicate", prints.parts, places, pairs)


def _suspects(
    kind: str, parts: Mapping[str, Images], places: Sequence[tuple[str, int]], pairs: Sequence[Pair]
) -> list[Suspect]:
    labels = {name: label_bytes(part) for name, part in parts.items()}
    suspects = []
    for pair in pairs:
        (split, i), (other, j) = places[pair.first], places[pair.second]
        two_labels = labels[split][i] != labels[other][j]
        if two_labels or split != other:
            text = f"{kind}, two {'labels' if two_labels else 'splits'}"
            suspects.append(Suspect(text, place(parts, other, j), place(parts, split, i), None, pair.similarity))
    return sorted(suspects, key=lambda suspect: suspect.kind)  # two labels first


def place(parts: Mapping[str, Images], split: str, index: int) -> Place:
    """Return where an image is."""
    images = parts[split]
    file = str(images.paths[index]) if isinstance(images, ImageFiles) else ""
    return Place(split, index, file, int(images.labels[index]))


def count_pairs(suspects: Sequence[Suspect]) -> dict[str, int]:
    """Return the number of pairs in two splits, of those with two labels, and of validation images that are training images."""
    counts = {what: sum(s.kind.endswith(what) for s in suspects) for what in ("two splits", "two labels")}
    pairs = [{s.image, s.other} for s in suspects if s.other is not None]
    held_out = [pair for pair in pairs if {place.split for place in pair} == {"train", "validation"}]
    return {**counts, "train/validation": len({p for pair in held_out for p in pair if p.split == "validation"})}
