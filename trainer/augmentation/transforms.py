"""What every augmentation has in common, and those that are multiplied before pixels are resampled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainer.errors import check

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Shape = tuple[int, int, int]  # channels, height, width
Fill = Literal["constant", "edge", "reflect", "symmetric", "wrap"]


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A random change of a picture, made with probability ``p``, independently for each picture."""

    p: float = 1.0
    changes_classes: ClassVar[bool] = False  # whether it may turn a picture into one of another class
    resizes: ClassVar[bool] = False  # whether it takes pictures of any size

    def __post_init__(self) -> None:
        check(self, p=(0 <= self.p <= 1, "must be from 0 to 1"))

    def albumentations(self, shape: Shape) -> Any:
        """The albumentations transform for pictures of this shape."""
        raise NotImplementedError

    def batch(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """The batch x, uint8 (N, C, H, W), changed by a few tensor operations, in the same memory format."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Geometric(Transform):
    """A transform that may look beyond the picture's edge; ``fill`` (numpy's names) says what lies there.

    For a row ``abcd``: constant ``00|abcd|00``, edge ``aa|abcd|dd``, reflect ``cb|abcd|cb``, symmetric ``ba|abcd|dc``,
    wrap ``cd|abcd|ab``.
    """

    fill: Fill = "constant"


@dataclass(frozen=True, kw_only=True)
class Affine(Geometric):
    """A geometric transform that is a matrix; consecutive ones are multiplied, so that pixels are resampled once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (low, high) in self.bounds().items():
            check(self, **{name: (low <= getattr(self, name) < high, f"must be at least {low:g} and below {high:g}")})

    def bounds(self) -> dict[str, tuple[float, float]]:
        """The range of each parameter that has a simple one."""
        return {}

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        """n matrices (n, 3, 3) that take a pixel (x, y, 1) of a picture of (height, width) to its new place."""
        raise NotImplementedError

    def matrices(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        """As ``draw``, with the identity for those pictures that are left alone."""
        import numpy as np

        drawn = self.draw(rng, n, size)
        if self.p < 1:
            drawn[rng.random(n) >= self.p] = np.eye(3)
        return drawn


def chains(transforms: Sequence[Any]) -> list[list[Any]]:
    """The transforms in order, consecutive affine ones with the same fill together: they are resampled once.

    >>> from trainer.augmentation import Crop, Flip, Rotation, Scale, Shear
    >>> [len(chain) for chain in chains([Flip(), Rotation(), Scale(), Shear(fill="edge"), Crop()])]
    [1, 2, 1, 1]
    """
    found: list[list[Any]] = []
    for transform in transforms:
        before = found[-1][0] if found else None
        if isinstance(transform, Affine) and isinstance(before, Affine) and before.fill == transform.fill:
            found[-1].append(transform)
        else:
            found.append([transform])
    return found


def name_of(transform: Any) -> str:
    """The option's name; for a class which is not ours (``External``) that class's own.

    >>> from trainer.augmentation import VerticalFlip
    >>> name_of(VerticalFlip())
    'vertical_flip'
    """
    if not isinstance(transform, Transform):
        return getattr(getattr(transform, "target", type(transform)), "__name__", str(transform))
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(transform).__name__).lower()
