"""Architectures: options that build plain torch networks, (N, C, H, W) -> logits (N, K)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.checks import ConfigError, Problem, check, nearest

if TYPE_CHECKING:
    from torch import nn

    from trainer.activations import Activation

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What our own architectures share: the normalisation, and whether it stands before the non-linearity or after."""

    norm: Literal["batch", "group", "layer", "none"] = "batch"
    norm_position: Literal["before", "after"] = "before"

    @property
    def pretrained(self) -> bool:
        return False

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MLP(Architecture):
    """Fully connected layers of ``widths``, then the classes; no width at all is a linear classifier."""

    widths: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        check(self, widths=(all(w >= 1 for w in self.widths), "must be widths >= 1"))

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.networks import mlp

        return mlp(shape, num_classes, self.widths, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class CNN(Architecture):
    """A block of convolution, norm, activation and pooling per width, then the mean over the picture and one layer."""

    widths: tuple[int, ...] = (32, 64, 128)
    kernel: int = 3
    pool: int = 2

    def __post_init__(self) -> None:
        check(
            self,
            widths=(len(self.widths) > 0 and all(w >= 1 for w in self.widths), "must be at least one width >= 1"),
            kernel=(self.kernel >= 1 and self.kernel % 2 == 1, "must be odd and >= 1"),
            pool=(self.pool >= 1, "must be >= 1; 1 = no pooling"),
        )

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.networks import cnn

        return cnn(shape, num_classes, self.widths, self.kernel, self.pool, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class ResNet(Architecture):
    """The residual network for small pictures: 6n + 2 layers in three stages of 16, 32, 64 channels, shortcuts without
    parameters (He et al. 2015, arXiv:1512.03385, §4.2, option A).
    """

    depth: int = 20

    def __post_init__(self) -> None:
        fits = self.depth >= 8 and (self.depth - 2) % 6 == 0
        check(self, depth=(fits, "must be 6n + 2: 8, 14, 20, 32, 44, 56, 110"))

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.networks import resnet

        return resnet(shape, num_classes, (self.depth - 2) // 6, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class Torchvision:
    """Any classifier of ``torchvision.models`` by ``name``; ``weights`` is null, an enum name such as IMAGENET1K_V1, or a
    local file. The last layer is replaced where the number of classes differs, the first where the pictures are not RGB.
    ``keep_activation``: its published non-linearities (true), or the config's ``activation`` throughout.
    """

    name: str = "resnet18"
    weights: str | None = None
    keep_activation: bool = True

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.pretrained import torchvision_model

        return torchvision_model(self, shape, num_classes, activation)

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation the pretrained weights were trained with: ImageNet's."""
        return ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if self.pretrained else None


def unknown_name(name: str, names: list[str]) -> ConfigError:
    return ConfigError(
        Problem("architecture.name", name, "is no such model", nearest(name, names) or ", ".join(names[:12]))
    )


__all__: list[Any] = ["CNN", "MLP", "Architecture", "ResNet", "Torchvision", "unknown_name"]
