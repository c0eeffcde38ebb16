"""Architectures: options that build networks, and the networks."""

from trainer.architectures.options import (
    CNN,
    MLP,
    Airbench,
    Architecture,
    CIFAR10Full,
    DenseNet,
    ExternalArchitecture,
    ResNet,
    ResNet18CIFAR,
    Shape,
    Timm,
    Torchvision,
    WideResNet,
)

__all__ = [
    "CNN",
    "MLP",
    "Airbench",
    "Architecture",
    "CIFAR10Full",
    "DenseNet",
    "ExternalArchitecture",
    "ResNet",
    "ResNet18CIFAR",
    "Shape",
    "Timm",
    "Torchvision",
    "WideResNet",
]
