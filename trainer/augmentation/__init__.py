"""Augmentation."""

from trainer.augmentation.options import (
    BrightnessContrast,
    Crop,
    Flip,
    GaussianNoise,
    Rotation,
    Scale,
    Shear,
    Translation,
    VerticalFlip,
)

__all__ = [
    "BrightnessContrast",
    "Crop",
    "Flip",
    "GaussianNoise",
    "Rotation",
    "Scale",
    "Shear",
    "Translation",
    "VerticalFlip",
]
