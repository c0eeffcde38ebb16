"""Options of the architectures, which build plain torch networks: images (N, C, H, W) to logits (N, K)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from trainer.errors import check
from trainer.existing import Existing, ModelName
from trainer.parameters import PositiveInt, SearchSpace, implemented_by, option

if TYPE_CHECKING:
    from torch import nn

    from trainer.activations import Activation
    from trainer.architectures.preprocessing import Preprocessing

Shape = tuple[int, int, int]  # channels, height, width


@option
class Architecture:
    """Base class of the architectures."""

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from published weights."""
        return False

    def preprocessing(self) -> Preprocessing | None:
        """Return how images were prepared for the pretrained weights, or None."""
        return None

    def without_weights(self) -> Architecture:
        """Return the option of the same network without published weights."""
        return self

    def build(self, shape: Shape, num_classes: int, activation: Activation) -> nn.Module:
        """Return the network for images of ``shape``, with torch's own initialization."""
        raise NotImplementedError


@option
class NormalizedArchitecture(Architecture):
    """An architecture of this package, whose normalization can be chosen."""

    norm: Annotated[
        Literal["batch", "group", "layer", "none"],
        Field(description="normalization layer; group = groups of about 8 channels, layer = one group of all channels"),
    ] = "batch"
    norm_position: Annotated[
        Literal["before", "after"], Field(description="position of the normalization relative to the activation")
    ] = "before"


@option
class MLP(NormalizedArchitecture):
    """Fully connected layers of ``widths`` units and a linear classifier."""

    widths: Annotated[
        tuple[PositiveInt, ...], Field(description="units of each hidden layer; [] = a linear classifier")
    ] = (512, 512)

    build = implemented_by("trainer.architectures.mlp:mlp")


@option
class CNN(NormalizedArchitecture):
    """Blocks of convolution, normalization, activation, and max pooling; then global average pooling and a linear classifier.

    For ``activation=relu``, max pooling is applied before the activation, which is faster and gives identical results.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(description="output channels of each block")] = (32, 64, 128)
    kernel: Annotated[PositiveInt, Field(description="kernel size of the convolutions in pixels; odd")] = 3
    pool: Annotated[
        PositiveInt, Field(description="kernel size and stride of the max pooling of each block; 1 = none")
    ] = 2

    def __post_init__(self) -> None:
        check(
            self,
            widths=(len(self.widths) > 0, "must contain at least one width"),
            kernel=(self.kernel % 2 == 1, "must be an odd integer >= 1"),
        )

    build = implemented_by("trainer.architectures.cnn:cnn")


@option
class ResNet(NormalizedArchitecture):
    """Residual network for CIFAR of 6n + 2 layers: three stages of 16, 32, 64 channels, shortcuts without parameters.

    He et al. 2015, arXiv:1512.03385, §4.2, option A.
    """

    depth: Annotated[int, Field(ge=8, description="number of layers with weights, 6n + 2")] = 20

    def __post_init__(self) -> None:
        check(self, depth=((self.depth - 2) % 6 == 0, "must be 6n + 2: 8, 14, 20, 32, 44, 56, 110"))

    build = implemented_by("trainer.architectures.resnet:resnet")


@option
class CIFAR10Full(NormalizedArchitecture):
    """The network of three convolutions in Caffe's ``cifar10_full``, on which cyclical learning rates were introduced.

    Smith 2015, arXiv:1506.01186. ``norm=response`` is the local response normalization of the published network.
    """

    norm: Annotated[
        Literal["response", "batch", "group", "layer", "none"],
        Field(description="normalization layer; response = local response normalization, as published"),
    ] = "response"

    build = implemented_by("trainer.architectures.cifar10_full:cifar10_full")


@option
class ResNet18CIFAR(NormalizedArchitecture):
    """ResNet-18 for small images: the stem is a 3 x 3 convolution without pooling (He et al. 2015, arXiv:1512.03385)."""

    build = implemented_by("trainer.architectures.resnet:resnet18_cifar")


@option
class Airbench(NormalizedArchitecture):
    """The network of the CIFAR-10 speed record (Jordan 2024, arXiv:2404.00498).

    The stem is a convolution with 2·C·k² filters of k x k pixels, which ``initialization=whitening`` sets and which stay
    frozen unless ``train_stem``. Each block has two 3 x 3 convolutions, the first followed by 2 x 2 max pooling. Global max
    pooling and a linear classifier follow; the logits are divided by 9.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(description="output channels of each block")] = (64, 256, 256)
    stem: Annotated[PositiveInt, Field(description="kernel size of the stem in pixels")] = 2
    train_stem: Annotated[bool, Field(description="train the filters of the stem too; its bias is always trained")] = (
        False
    )

    def __post_init__(self) -> None:
        check(self, widths=(len(self.widths) > 0, "must contain at least one width"))

    build = implemented_by("trainer.architectures.airbench:airbench")


@option
class WideResNet(NormalizedArchitecture):
    """Pre-activation residual network of 6n + 4 layers with ``widen_factor`` times the channels.

    Zagoruyko & Komodakis 2016, arXiv:1605.07146.
    """

    depth: Annotated[
        int,
        Field(ge=10, description="number of layers with weights, 6n + 4 (the paper's best: 28 with widen_factor 10)"),
    ] = 16
    widen_factor: Annotated[PositiveInt, Field(description="multiple of the 16, 32, 64 channels of the stages")] = 4
    dropout: Annotated[
        float,
        Field(ge=0, lt=1, description="dropout probability between the convolutions of a block; 0 = off"),
        SearchSpace("uniform(0,0.5)"),
    ] = 0.0

    def __post_init__(self) -> None:
        check(self, depth=((self.depth - 4) % 6 == 0, "must be 6n + 4: 10, 16, 22, 28, 40"))

    build = implemented_by("trainer.architectures.wide_resnet:wide_resnet")


@option
class DenseNet(NormalizedArchitecture):
    """DenseNet-BC of 6n + 4 layers: bottlenecks of 4·``growth_rate`` channels, transitions that halve the channels.

    Huang et al. 2016, arXiv:1608.06993.
    """

    depth: Annotated[int, Field(ge=10, description="number of layers with weights, 6n + 4")] = 100
    growth_rate: Annotated[PositiveInt, Field(description="number of channels that each layer adds")] = 12

    def __post_init__(self) -> None:
        check(self, depth=((self.depth - 4) % 6 == 0, "must be 6n + 4: 10, 16, 40, 100, 190"))

    build = implemented_by("trainer.architectures.densenet:densenet")


@option
class PublishedArchitecture(Architecture):
    """A network of a model library, with or without its pretrained weights, adapted to the images and classes of the data."""

    name: str
    weights: str | None = None
    keep_activation: Annotated[
        bool, Field(description="keep the published activations; false = replace them by the activation of the config")
    ] = True

    @property
    def pretrained(self) -> bool:
        return self.weights is not None

    def without_weights(self) -> PublishedArchitecture:
        return dataclasses.replace(self, weights=None)


@option
class Timm(PublishedArchitecture):
    """Any classifier of timm (extra ``[timm]``).

    The classifier is replaced by one for the classes of the data, and the first convolution if the images are not RGB.
    """

    name: Annotated[str, Field(description="name of the model, as listed by timm.list_models()"), ModelName("timm")] = (
        "resnet18"
    )
    weights: Annotated[
        str | None,
        Field(description="weights to start from: pretrained (downloaded by timm), or a local file"),
        Existing("file", or_name=True),
    ] = None

    build = implemented_by("trainer.architectures.pretrained:timm_model")
    preprocessing = implemented_by("trainer.architectures.published_preprocessing:timm_preprocessing")


@option
class Torchvision(PublishedArchitecture):
    """Any classifier of ``torchvision.models``.

    The last layer is replaced by one for the classes of the data, and the first convolution if the images are not RGB.
    """

    name: Annotated[
        str,
        Field(description="name of the model, as listed by torchvision.models.list_models()"),
        ModelName("torchvision"),
    ] = "resnet18"
    weights: Annotated[
        str | None,
        Field(description="weights to start from: a published name such as IMAGENET1K_V1, or a local file"),
        Existing("file", or_name=True),
    ] = None

    build = implemented_by("trainer.architectures.pretrained:torchvision_model")
    preprocessing = implemented_by("trainer.architectures.published_preprocessing:torchvision_preprocessing")


@option
class ExternalArchitecture(Architecture):
    """A third-party network, with the arguments given in the config.

    ``num_classes``, ``in_channels`` and ``shape`` are passed too if ``target`` accepts arguments of these names.
    """

    # All parameters are keywords, which pyright does not see through ``option``.
    target: Callable[..., Any]  # pyright: ignore[reportGeneralTypeIssues]
    arguments: dict[str, Any]  # pyright: ignore[reportGeneralTypeIssues]

    build = implemented_by("trainer.architectures.external:external_model")
