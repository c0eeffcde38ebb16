"""Suspicious images as a table and as a contact sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.data.decode import Undecodable
from trainer.files import write_text
from trainer.report.figures import drawing, image_grid, plot_label, save_figure

if TYPE_CHECKING:
    from trainer.data.images import Images

COLUMNS = (
    "kind",
    "split",
    "index",
    "file",
    "label",
    "other_split",
    "other_index",
    "other_file",
    "other_label",
    "score",
)
SHOWN = 24  # suspects on the contact sheet
COLUMNS_OF_SHEET = 8
SIZE = 96  # pixels of an image on the sheet


class Place(NamedTuple):
    """Where an image is: its split, its index in it, its file (empty for arrays), and its class."""

    split: str
    index: int
    file: str
    label: int


class Suspect(NamedTuple):
    """A suspicious image.

    Attributes:
        kind: Such as ``exact duplicate, two splits`` or ``label error``.
        image: The image.
        other: The image that it duplicates, or None.
        suggested: The class that it rather has, or None.
        score: The similarity of duplicates, else the probability of the label.
    """

    kind: str
    image: Place
    other: Place | None
    suggested: str | None
    score: float


def write_suspects(
    run_dir: Path, suspects: Sequence[Suspect], parts: Mapping[str, Images], classes: Sequence[str], sheet: Path
) -> None:
    """Write ``suspects.csv``, one row per suspect, and ``sheet``, a PNG of the first ``SHOWN`` of them."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    for s in suspects:
        other = (
            (s.other.split, s.other.index, s.other.file, label(s.other, classes))
            if s.other
            else ("", "", "", s.suggested)
        )
        image = (s.image.split, s.image.index, s.image.file, label(s.image, classes))
        writer.writerow([s.kind, *image, *other, f"{s.score:.4f}"])
    write_text(run_dir / "suspects.csv", output.getvalue())
    if suspects:
        with drawing("suspects"):
            images, titles = zip(*(cell for s in suspects[:SHOWN] for cell in cells(s, parts, classes)), strict=True)
            save_figure(image_grid(np.stack(images), list(titles), COLUMNS_OF_SHEET), sheet)


def label(place: Place, classes: Sequence[str]) -> str:
    """Return the name of an image's class; empty for data without classes."""
    return classes[place.label] if 0 <= place.label < len(classes) else ""


def cells(suspect: Suspect, parts: Mapping[str, Images], classes: Sequence[str]) -> list[tuple[np.ndarray, str]]:
    """Return the images (H, W, 3) in [0, 1] of a suspect, with their titles: of duplicates both."""
    kind = suspect.kind.split(",")[0]
    title = f"{plot_label(label(suspect.image, classes), 16)}\n{suspect.image.split} {suspect.image.index}"
    if suspect.other is None:
        suggestion = plot_label(str(suspect.suggested), 12)
        return [(image_at(suspect.image, parts), f"{title}\nrather {suggestion}")]
    other = f"{plot_label(label(suspect.other, classes), 16)}\n{suspect.other.split} {suspect.other.index}"
    return [
        (image_at(suspect.image, parts), f"{title}\n{kind}"),
        (image_at(suspect.other, parts), f"{other}\nof the former"),
    ]


def image_at(place: Place, parts: Mapping[str, Images]) -> np.ndarray:
    """Return an image for the sheet, (SIZE, SIZE, 3) in [0, 1]; black if it cannot be decoded."""
    try:
        image = parts[place.split].center_crop(place.index, SIZE)
    except Undecodable:
        image = np.zeros((SIZE, SIZE, 1), np.uint8)
    return np.broadcast_to(image[..., :3] if image.shape[2] >= 3 else image[..., :1], (SIZE, SIZE, 3)) / 255
