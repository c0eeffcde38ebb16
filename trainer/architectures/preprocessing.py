"""How images were prepared for pretrained weights: normalization, crop and interpolation."""

from __future__ import annotations

from dataclasses import dataclass

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel
IMAGENET: Normalization = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How images were prepared for the evaluation of published weights.

    Attributes:
        normalization: Mean and standard deviation of each channel; white = 1.
        crop_pct: Fraction of the shorter side that the central crop covers.
        interpolation: ``bilinear`` or ``bicubic``.
        size: Height and width of the crop, in pixels.
        notes: What is assumed.
    """

    normalization: Normalization
    crop_pct: float
    interpolation: str
    size: int
    notes: tuple[str, ...] = ()
