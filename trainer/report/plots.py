"""Plots as plain values, which a run directory keeps: they are drawn when the run ends, or later.

Drawing takes half a second for a run, as much as all else that follows a short training.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from trainer.files import atomic_path
from trainer.report.figures import IMAGE_WIDTH, batch_figure, schedule_figure
from trainer.report.prediction_figures import (
    confusion_figure,
    embedding_figure,
    grad_cam_figure,
    highest_loss_figure,
    labels_figure,
    predicted_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_BY: dict[str, Callable[..., Figure]] = {
    "batch": batch_figure,
    "schedule": schedule_figure,
    "confusion": confusion_figure,
    "errors": highest_loss_figure,
    "grad_cam": grad_cam_figure,
    "embedding": embedding_figure,
    "labels": labels_figure,
    "predicted": predicted_figure,
}
TEXTS = "texts"  # the entry of a file with everything that is not an array


class Plot:
    """What a plot shows.

    Args:
        kind: What draws it, a key of ``DRAWN_BY``.
        step: Of the run.
        values: The arguments of that function: arrays, of which those of the type uint8 stand for [0, 1], and texts.
    """

    def __init__(self, kind: str, step: int = 0, **values: np.ndarray | Sequence[str]) -> None:
        self.kind, self.step, self.values = kind, step, values

    def draw(self) -> Figure:
        """Return the figure."""
        return DRAWN_BY[self.kind](**{name: in_unit_interval(value) for name, value in self.values.items()})

    def write(self, path: Path) -> None:
        """Write the plot as ``.npz``, atomically."""
        entries = {name: value for name, value in self.values.items() if isinstance(value, np.ndarray)}
        texts = {name: value for name, value in self.values.items() if name not in entries}
        entries[TEXTS] = np.array(json.dumps({"kind": self.kind, "step": self.step, **texts}))
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, array in entries.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)


def read_plot(path: Path) -> Plot:
    """Return the plot in a file; ValueError if it was compressed: what it holds could then be of any size."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("is compressed")
    with np.load(path, allow_pickle=False) as content:
        texts = json.loads(str(content[TEXTS]))
        return Plot(**texts, **{name: content[name] for name in content.files if name != TEXTS})


def in_unit_interval(value: object) -> object:
    """Return an array of the type uint8 as numbers in [0, 1], anything else as it is."""
    return value.astype(np.float32) / 255 if isinstance(value, np.ndarray) and value.dtype == np.uint8 else value


def kept_images(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C), or heatmaps (N, H, W), in [0, 1] as uint8, not wider than they are drawn.

    >>> kept_images(np.ones((2, 300, 254, 1))).shape, int(kept_images(np.ones((2, 28, 28))).max())
    ((2, 150, 127, 1), 255)
    """
    colors = (255 * np.clip(images, 0, 1)).round().astype(np.uint8)
    n, h, w = images.shape[:3]
    if w <= IMAGE_WIDTH:
        return colors
    size = (IMAGE_WIDTH, max(1, round(IMAGE_WIDTH * h / w)))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in colors]
    return np.stack(small).reshape(n, size[1], size[0], *images.shape[3:])
