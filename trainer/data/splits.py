"""A data set's training, validation and test split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from trainer.data.targets import LABEL, Target

if TYPE_CHECKING:
    from trainer.data.images import Images

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel; white = 1

DROPPED_COLORS = "data.channels=1 drops the colors that the images have"  # a note
OTHER_NORMALIZATION = (
    "warning: the pretrained weights were trained with another normalization: data.normalize=pretrained"  # a note
)


class RawSplits(NamedTuple):
    """The splits a data set comes with, before any are held out. ``validation`` and ``test`` are None if it has none."""

    train: Images
    validation: Images | None
    test: Images | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was used and what was not, one line each
    targets: tuple[Target, ...] = ()  # what its labels are; () = the classes alone


@dataclass
class Splits:
    """The splits a run uses.

    ``shape`` is the (C, H, W) of the images the network sees, ``mean`` and ``std`` are the constants by which each channel is
    normalized (white = 1), ``notes`` what was used of the data and what was not, ``targets`` what its labels are.
    """

    train: Images
    validation: Images | None
    test: Images | None
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    digest: str = ""  # of all images, see trainer.data.identity
    crop_pct: float | None = None  # how files are resized and cropped; None without files
    interpolation: str | None = None
    undivided: bool = False  # whether all images are in `train`, because the data set is to be evaluated as a whole

    @property
    def by_name(self) -> dict[str, Images]:
        """The splits that exist: ``train``, ``validation``, ``test``."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: images for name, images in splits.items() if images is not None}

    def __post_init__(self) -> None:
        self.targets = self.targets or (Target(LABEL, "classification", self.classes),)
