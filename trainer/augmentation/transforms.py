"""Base classes of the transforms, and how consecutive transforms are combined."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from trainer.errors import Problem
from trainer.parameters import Probability, implemented_by, option

if TYPE_CHECKING:
    import numpy as np
    from albumentations import BasicTransform
    from torch import Tensor

TTA = Literal["none", "mirror", "mirror_shift"]  # test-time augmentation
Shape = tuple[int, int, int]  # channels, height, width
Fill = Annotated[
    Literal["constant", "edge", "reflect", "symmetric", "wrap"],
    Field(description="padding mode for pixels beyond the border, as in numpy.pad; constant = zeros"),
]
P = Annotated[Probability, Field(description="probability of applying the transform to an image")]


@option
class Transform:
    """A random transform, applied with probability ``p``, independently for each image.

    Each transform has one description and two forms that draw from the same distribution: ``albumentations`` changes one
    image at a time, ``batch`` (or, of affine transforms, ``matrices``) a whole batch. The output has the shape of the input.
    """

    p: P = 1.0
    moves_pixels: ClassVar[bool] = False  # whether positions in the image change
    changes_colors_only: ClassVar[bool] = False  # whether grayscale images stay as they are
    resizes: ClassVar[bool] = False  # whether it takes images of any size

    @property
    def changes_classes(self) -> bool:
        """Whether it may turn an image into one of another class, and nobody has said that this is meant (``force``)."""
        return False

    def albumentations(self, shape: Shape) -> BasicTransform:
        """Return the albumentations transform for images of this shape."""
        raise NotImplementedError

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the batch x, uint8 or float32 (N, C, H, W) in 0 to 255, changed, in the same memory format."""
        raise NotImplementedError


def crops_originals(transforms: Mapping[str, object]) -> str | None:
    """Return the name of the first transform if it takes original images of any size."""
    name, first = next(((name, t) for name, t in transforms.items() if t is not None), (None, None))
    return name if isinstance(first, Transform) and first.resizes else None


def flip_problems(transforms: Mapping[str, object], text: str) -> Iterator[Problem]:
    """Yield an error with this text for each transform that may turn an image into one of another class."""
    for name, transform in transforms.items():
        if isinstance(transform, Transform) and transform.changes_classes:
            hint = f"leave it out, or set augmentation.{name}.force=true"
            yield Problem(f"augmentation.{name}", "on", text, hint)


@option
class Geometric(Transform):
    """A transform that may move pixels from beyond the border into the image; ``fill`` is the padding mode, as in numpy.pad.

    For a row ``abcd``: constant ``00|abcd|00``, edge ``aa|abcd|dd``, reflect ``cb|abcd|cb``, symmetric ``ba|abcd|dc``,
    wrap ``cd|abcd|ab``.
    """

    fill: Fill = "constant"
    moves_pixels: ClassVar[bool] = True


@option
class Affine(Geometric):
    """A geometric transform that is a matrix. Matrices of consecutive ones are multiplied, so that pixels are resampled once."""

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        """Return n random matrices (n, 3, 3) that map a pixel (x, y, 1) of an image of (height, width) to its new place."""
        raise NotImplementedError

    matrices = implemented_by("trainer.augmentation.affine:matrices")


class ExternalTransform(Protocol):
    """A third-party transform (``trainer.instantiate.External``): an albumentations class and its arguments."""

    target: Callable[..., BasicTransform]
    arguments: dict[str, Any]
    key: str


AnyTransform = Transform | ExternalTransform


def has_batched_form(transform: AnyTransform) -> bool:
    """Return whether a transform can change a whole batch."""
    if isinstance(transform, Affine):
        return True
    return isinstance(transform, Transform) and type(transform).batch is not Transform.batch


def unsupported(transforms: Sequence[AnyTransform]) -> list[str]:
    """Return the names of the transforms without a batched form.

    >>> from trainer.augmentation import Elastic, Flip
    >>> unsupported([Flip(), Elastic()])
    ['elastic']
    """
    return [transform_name(t) for t in transforms if not has_batched_form(t)]


def chains(transforms: Sequence[AnyTransform]) -> list[list[AnyTransform]]:
    """Return the transforms in order, with consecutive affine ones of the same fill in one list.

    >>> from trainer.augmentation import Crop, Flip, Rotation, Scale, Shear
    >>> [len(chain) for chain in chains([Flip(), Rotation(), Scale(), Shear(fill="edge"), Crop()])]
    [1, 2, 1, 1]
    """
    result: list[list[AnyTransform]] = []
    for transform in transforms:
        previous = result[-1][0] if result else None
        if isinstance(transform, Affine) and isinstance(previous, Affine) and previous.fill == transform.fill:
            result[-1].append(transform)
        else:
            result.append([transform])
    return result


def transform_name(transform: AnyTransform) -> str:
    """Return the name of a transform's option file, or of a third-party class.

    >>> from trainer.augmentation import VerticalFlip
    >>> transform_name(VerticalFlip())
    'vertical_flip'
    """
    if not isinstance(transform, Transform):
        return transform.target.__name__
    if own := getattr(transform, "__name__", ""):  # a transform of the user
        return own
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(transform).__name__).lower()
