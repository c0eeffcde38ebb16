"""Data sets, their splits, and the loaders that bring images to the model."""

from trainer.data.options import (
    Arrays,
    Dataset,
    Digits,
    Fake,
    FileDataset,
    Folder,
    MNIST5k,
    Normalization,
    NoTestSplit,
    Splits,
    TorchvisionFiles,
    TorchvisionSet,
    told,
)

__all__ = [
    "Arrays",
    "Dataset",
    "Digits",
    "Fake",
    "FileDataset",
    "Folder",
    "MNIST5k",
    "NoTestSplit",
    "Normalization",
    "Splits",
    "TorchvisionFiles",
    "TorchvisionSet",
    "told",
]
