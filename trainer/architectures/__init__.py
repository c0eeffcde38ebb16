"""Architectures."""

from trainer.architectures.options import (
    CNN,
    MLP,
    Airbench,
    Architecture,
    CIFAR10Full,
    DenseNet,
    ResNet,
    ResNet18CIFAR,
    Shape,
    Timm,
    Torchvision,
    WideResNet,
    unknown_name,
)

__all__ = [
    "CNN",
    "MLP",
    "Airbench",
    "Architecture",
    "CIFAR10Full",
    "DenseNet",
    "ResNet",
    "ResNet18CIFAR",
    "Shape",
    "Timm",
    "Torchvision",
    "WideResNet",
    "unknown_name",
]
