"""A data set's training, validation and test split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trainer.data.images import Images

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel; white = 1


class RawSplits(NamedTuple):
    """The splits a data set comes with, before any are held out. ``validation`` and ``test`` are None if it has none."""

    train: Images
    validation: Images | None
    test: Images | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was used and what was not, one line each


@dataclass
class Splits:
    """The splits a run uses.

    ``shape`` is the (C, H, W) of the images the network sees, ``mean`` and ``std`` are the constants by which each channel is
    normalized (white = 1), ``prior`` holds the frequency of each class in the training split, ``notes`` what was used of the
    data and what was not.
    """

    train: Images
    validation: Images | None
    test: Images | None
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prior: list[float]
    notes: tuple[str, ...] = ()
