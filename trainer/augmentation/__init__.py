"""Augmentation: random changes of the training images, per batch or per image."""

from trainer.augmentation.options import (
    Blur,
    BrightnessContrast,
    Crop,
    Elastic,
    Flip,
    GaussianNoise,
    Perspective,
    RandomResizedCrop,
    Rotation,
    Scale,
    Shear,
    Translation,
    TrivialAugment,
    VerticalFlip,
)

__all__ = [
    "Blur",
    "BrightnessContrast",
    "Crop",
    "Elastic",
    "Flip",
    "GaussianNoise",
    "Perspective",
    "RandomResizedCrop",
    "Rotation",
    "Scale",
    "Shear",
    "Translation",
    "TrivialAugment",
    "VerticalFlip",
]
