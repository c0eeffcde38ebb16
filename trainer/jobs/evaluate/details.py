"""What an evaluation shows of one task besides its scores, and the images that it is of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from rich.table import Table

from trainer.data.images import ImageFiles, Images
from trainer.report.prediction_figures import highest_loss_figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from trainer.data import Splits


class ImageFile(TypedDict):
    """Where an image is."""

    file: NotRequired[str]  # its path, unless it is not in a file of its own


@dataclass
class Details:
    """One task.

    Attributes:
        content: What ``result.json`` holds of it.
        table: A row per class, label or number.
        figures: What draws the plots, by name.
        lines: What is printed below the table.
        notes: What is to be known of the data.
    """

    content: dict[str, object]
    table: Table
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class SplitImages:
    """The images of several splits, one after the other."""

    def __init__(self, splits: Splits, names: Sequence[str]) -> None:
        self.splits = [splits.by_name[name] for name in names]
        self.height = splits.shape[1]

    def locate(self, index: int) -> tuple[Images, int]:
        """Return the images that contain the image with an index over all splits, and its index in them."""
        for images in self.splits:
            if index < len(images):
                return images, index
            index -= len(images)
        raise IndexError(index)

    def file(self, index: int) -> ImageFile:
        """Return where an image is."""
        images, index = self.locate(index)
        return {"file": str(images.paths[index])} if isinstance(images, ImageFiles) else {}

    def figure(self, indices: Sequence[int], captions: list[str]) -> Figure:
        """Return the plot of some images, each below its caption."""
        located = [self.locate(index) for index in indices]
        shown = [images.center_crop(index, self.height) / 255 for images, index in located]
        return highest_loss_figure(np.stack(shown), captions)


def defined(values: Mapping[str, float], column: str) -> float | None:
    """Return the value of a metric; None where it is not defined."""
    return values[column] if math.isfinite(values[column]) else None


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as text; empty where it is not defined.

    >>> percent(0.5), percent(None)
    ('50.0 %', '')
    """
    return "" if value is None else f"{100 * value:.{digits}f} %"
