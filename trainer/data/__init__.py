"""Data sets, their splits, and the loaders that bring images to the model."""

from trainer.data.options import (
    CelebA,
    Dataset,
    Digits,
    Fake,
    FileDataset,
    MNIST5k,
    MNIST5kMultitask,
    TorchvisionFiles,
    TorchvisionSet,
    WithoutTestSplit,
)
from trainer.data.own import Arrays, Folder, OwnData, OwnImages, Table
from trainer.data.splits import Normalization, Splits

__all__ = [
    "Arrays",
    "CelebA",
    "Dataset",
    "Digits",
    "Fake",
    "FileDataset",
    "Folder",
    "MNIST5k",
    "MNIST5kMultitask",
    "Normalization",
    "OwnData",
    "OwnImages",
    "Splits",
    "Table",
    "TorchvisionFiles",
    "TorchvisionSet",
    "WithoutTestSplit",
]
