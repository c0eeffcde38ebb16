"""Architectures: options that build plain torch networks, (N, C, H, W) -> logits (N, K)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import ConfigError, Problem, check, nearest

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
    """A block of convolution, norm, activation and pooling per width, then the mean over the picture and one layer. ``relu``
    comes behind the pooling, which is the same to the last bit and spares most of its work.
    """

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
class CIFAR10Full(Architecture):
    """The three-convolution network of Caffe's ``cifar10_full``, on which cyclical rates were shown (Smith 2015);
    ``norm`` response is the published local response normalisation.
    """

    norm: Literal["response", "batch", "group", "layer", "none"] = "response"

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.literature import cifar10_full

        return cifar10_full(shape, num_classes, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class ResNet18CIFAR(Architecture):
    """ResNet-18 for small pictures: a 3 x 3 stem, no pooling in front (He et al. 2015, widely used on CIFAR)."""

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.literature import resnet18_cifar

        return resnet18_cifar(shape, num_classes, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class Airbench(Architecture):
    """The network of the CIFAR-10 speed record: a convolution of ``stem`` x ``stem`` pixels with 2·C·stem² filters, which
    initialization=whitening fills and which, unless ``train_stem``, keeps what it was filled with; then two 3 x 3 convolutions
    per width, the first with 2 x 2 pooling; then the largest over what is left of the picture. Logits are divided by 9
    (Jordan 2024, arXiv:2404.00498).
    """

    widths: tuple[int, ...] = (64, 256, 256)
    stem: int = 2
    train_stem: bool = False

    def __post_init__(self) -> None:
        check(
            self,
            widths=(len(self.widths) > 0 and all(w >= 1 for w in self.widths), "must be at least one width >= 1"),
            stem=(self.stem >= 1, "must be >= 1 pixel"),
        )

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.literature import airbench

        model = airbench(shape, num_classes, self.widths, self.stem, self.norm, self.norm_position, activation)
        next(model.parameters()).requires_grad_(self.train_stem)  # its bias is trained
        return model


@dataclass(frozen=True, kw_only=True)
class WideResNet(Architecture):
    """Pre-activated residual network of 6n + 4 layers, ``widen_factor`` times as wide; ``dropout`` inside the blocks
    (Zagoruyko & Komodakis 2016, arXiv:1605.07146).
    """

    depth: int = 16
    widen_factor: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check(
            self,
            depth=(self.depth >= 10 and (self.depth - 4) % 6 == 0, "must be 6n + 4: 10, 16, 22, 28, 40"),
            widen_factor=(self.widen_factor >= 1, "must be >= 1"),
            dropout=(0 <= self.dropout < 1, "must be in [0, 1); 0 = off"),
        )

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.literature import wide_resnet

        sizes = self.depth, self.widen_factor, self.dropout
        return wide_resnet(shape, num_classes, *sizes, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class DenseNet(Architecture):
    """DenseNet-BC of 6n + 4 layers, ``growth_rate`` new channels a layer, bottleneck 4, compression 1/2
    (Huang et al. 2016, arXiv:1608.06993).
    """

    depth: int = 100
    growth_rate: int = 12

    def __post_init__(self) -> None:
        check(
            self,
            depth=(self.depth >= 10 and (self.depth - 4) % 6 == 0, "must be 6n + 4: 10, 16, 40, 100, 190"),
            growth_rate=(self.growth_rate >= 1, "must be >= 1"),
        )

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.literature import densenet

        sizes = self.depth, self.growth_rate
        return densenet(shape, num_classes, *sizes, self.norm, self.norm_position, activation)


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any classifier of timm by ``name`` (extra ``[timm]``); ``weights`` is null, ``pretrained`` (timm's download), or a
    local file. Head and stem are fitted as for torchvision's networks.
    """

    name: str = "resnet18"
    weights: str | None = None
    keep_activation: bool = True

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        from trainer.architectures.pretrained import timm_model

        return timm_model(self, shape, num_classes, activation)

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation the pretrained weights were trained with, as timm says."""
        from trainer.architectures.pretrained import timm_normalization

        return timm_normalization(self.name) if self.pretrained else None


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


__all__: list[Any] = [
    "CNN",
    "MLP",
    "Airbench",
    "Architecture",
    "CIFAR10Full",
    "DenseNet",
    "ResNet",
    "ResNet18CIFAR",
    "Timm",
    "Torchvision",
    "WideResNet",
    "unknown_name",
]
