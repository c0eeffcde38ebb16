"""Augmentation: random changes of the training images that preserve their classes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainer.augmentation.transforms import Affine, Geometric, P, Transform
from trainer.errors import check
from trainer.parameters import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    implemented_by,
    option,
)

Force = Annotated[bool, Field(description="apply it also to data whose classes a flip changes, such as digits")]
Range = tuple[PositiveFloat, PositiveFloat]


def ascending(limits: tuple[float, float]) -> tuple[bool, str]:
    """Return the rule that the first limit is at most the second."""
    return limits[0] <= limits[1], "must be [low, high] with low <= high"


@option
class Flip(Transform):
    """Mirrors left and right. An error on data whose classes this changes (digits, letters), unless ``force`` is set."""

    p: P = 0.5
    force: Force = False
    moves_pixels: ClassVar[bool] = True
    albumentations = implemented_by("trainer.augmentation.albumentations:flip")
    batch = implemented_by("trainer.augmentation.batched:flip")

    @property
    def changes_classes(self) -> bool:
        return not self.force


@option
class VerticalFlip(Flip):
    """Mirrors top and bottom. An error on data whose classes this changes (digits, letters), unless ``force`` is set."""

    albumentations = implemented_by("trainer.augmentation.albumentations:vertical_flip")
    batch = implemented_by("trainer.augmentation.batched:vertical_flip")


@option
class Crop(Geometric):
    """Pads each side by ``padding`` pixels and crops to the original size at a random position (He 2015, arXiv:1512.03385).

    This is a translation by up to ``padding`` whole pixels, each equally likely. 0 leaves the image as it is.
    """

    padding: Annotated[NonNegativeInt, Field(description="pixels added to each side; 4 for 32 x 32")] = 4
    albumentations = implemented_by("trainer.augmentation.albumentations:crop")
    batch = implemented_by("trainer.augmentation.batched:crop")


@option
class Rotation(Affine):
    """Rotates about the center by an angle drawn uniformly from -``degrees`` to ``degrees``."""

    degrees: Annotated[
        float, Field(ge=0, le=180, description="maximum angle of rotation in either direction, in degrees")
    ] = 15.0
    albumentations = implemented_by("trainer.augmentation.albumentations:rotation")
    draw = implemented_by("trainer.augmentation.affine:draw_rotations")


@option
class Scale(Affine):
    """Scales about the center by a factor drawn uniformly from ``factor``; below 1 the image shrinks and ``fill`` shows."""

    factor: Annotated[Range, Field(description="minimum and maximum scale factor")] = (0.9, 1.1)
    albumentations = implemented_by("trainer.augmentation.albumentations:scaling")
    draw = implemented_by("trainer.augmentation.affine:draw_scalings")

    def __post_init__(self) -> None:
        check(self, factor=ascending(self.factor))


@option
class Translation(Affine):
    """Shifts by whole pixels, each shift of up to round(``fraction`` · side) equally likely, in x and in y."""

    fraction: Annotated[float, Field(ge=0, lt=1, description="maximum shift, as a fraction of width and height")] = 0.1
    albumentations = implemented_by("trainer.augmentation.albumentations:translation")
    draw = implemented_by("trainer.augmentation.affine:draw_translations")

    def max_shift(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the largest shift in x and in y, in pixels, for an image of (height, width)."""
        return round(self.fraction * size[1]), round(self.fraction * size[0])


@option
class Shear(Affine):
    """Shears along x and along y, about the center, by angles drawn uniformly from -``degrees`` to ``degrees``."""

    degrees: Annotated[float, Field(ge=0, lt=45, description="maximum shear angle along x and along y, in degrees")] = (
        10.0
    )
    albumentations = implemented_by("trainer.augmentation.albumentations:shear")
    draw = implemented_by("trainer.augmentation.affine:draw_shears")


@option
class GaussianNoise(Transform):
    """Adds to each value of each pixel a sample of a normal distribution with standard deviation 255 · ``std``."""

    std: Annotated[Probability, Field(description="standard deviation, as a fraction of the full range")] = 0.05
    albumentations = implemented_by("trainer.augmentation.albumentations:gaussian_noise")
    batch = implemented_by("trainer.augmentation.batched:gaussian_noise")


@option
class BrightnessContrast(Transform):
    """Turns each value v into α v + 255 β, with α from 1 ± ``contrast`` and β from ± ``brightness`` drawn once per image."""

    brightness: Annotated[
        Probability, Field(description="maximum absolute change of brightness, as a fraction of the full range")
    ] = 0.2
    contrast: Annotated[
        Probability, Field(description="the contrast factor is drawn from [1 - contrast, 1 + contrast]")
    ] = 0.2
    albumentations = implemented_by("trainer.augmentation.albumentations:brightness_contrast")
    batch = implemented_by("trainer.augmentation.batched:brightness_contrast")


@option
class HueSaturation(Transform):
    """Rotates the hue of an image by an angle, and multiplies its saturation by a factor, drawn uniformly; luma stays.

    With v = (R, G, B), luma Y = .299 R + .587 G + .114 B and the chrominance (I, Q) of YIQ, v becomes Y + s·rot(θ) (I, Q) in RGB:
    θ from ±2π · ``hue``, s from 1 ± ``saturation``. Without ``hue`` it is PIL's ``Color``. Grayscale images stay as they are.
    """

    hue: Annotated[
        float,
        Field(ge=0, le=0.5, description="maximum rotation of the hue, as a fraction of the circle; 0.5 = any hue"),
    ] = 0.05
    saturation: Annotated[
        Probability, Field(description="the saturation factor is drawn from [1 - saturation, 1 + saturation]")
    ] = 0.3
    changes_colors_only: ClassVar[bool] = True
    albumentations = implemented_by("trainer.augmentation.albumentations:hue_saturation")
    batch = implemented_by("trainer.augmentation.batched:hue_saturation")


@option
class RandomErasing(Transform):
    """Erases a box of random area, aspect ratio and place (Zhong 2017, arXiv:1708.04896).

    The area is drawn uniformly from ``area``, the ratio of height to width log-uniformly from ``ratio``. A box that does not
    fit is drawn again, up to ten times. The regularizer ``cutout`` erases a square of fixed size from every image instead.
    """

    p: P = 0.25
    area: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]],
        Field(description="minimum and maximum area of the box, as a fraction of the image"),
    ] = (0.02, 0.33)
    ratio: Annotated[Range, Field(description="minimum and maximum ratio of height to width")] = (0.3, 3.3333)
    value: Annotated[
        Literal["noise", "black", "gray"],
        Field(description="what replaces the pixels; noise = a uniform random value for each value of each pixel"),
    ] = "noise"
    albumentations = implemented_by("trainer.augmentation.albumentations:random_erasing")
    batch = implemented_by("trainer.augmentation.batched:random_erasing")

    def __post_init__(self) -> None:
        check(self, area=ascending(self.area), ratio=ascending(self.ratio))


@option
class Perspective(Geometric):
    """Changes the perspective: each corner moves inward by |N(0, s)| of a side, s uniform from 0 to ``strength``.

    Jaderberg 2015 (arXiv:1506.02025). No batched form.
    """

    strength: Annotated[
        float, Field(ge=0, le=0.3, description="scale of the displacement of the corners, as a fraction of the side")
    ] = 0.1
    albumentations = implemented_by("trainer.augmentation.albumentations:perspective")


@option
class Elastic(Geometric):
    """Elastic deformation (Simard 2003): pixels move by ``alpha`` · uniform noise in [-1, 1], blurred with ``sigma``.

    That is by about 0.16 alpha/sigma pixels, four times as much in the corners. Simard has alpha 34 for 29 x 29 pixels,
    with which corners fold over. No batched form.
    """

    alpha: Annotated[
        NonNegativeFloat,
        Field(description="strength: pixels move by about 0.16 alpha/sigma pixels; 34 in the paper; 0 = off"),
    ] = 20.0
    sigma: Annotated[
        float, Field(ge=1, description="standard deviation of the Gaussian kernel that smooths the noise, in pixels")
    ] = 4.0
    albumentations = implemented_by("trainer.augmentation.albumentations:elastic")


@option
class Blur(Transform):
    """Gaussian blur with a standard deviation drawn uniformly from ``sigma`` (SimCLR, Chen 2020, arXiv:2002.05709).

    No batched form.
    """

    p: P = 0.5
    sigma: Annotated[
        Range, Field(description="minimum and maximum standard deviation of the Gaussian kernel, in pixels")
    ] = (0.1, 2.0)
    albumentations = implemented_by("trainer.augmentation.albumentations:blur")

    def __post_init__(self) -> None:
        check(self, sigma=ascending(self.sigma))


@option
class RandomResizedCrop(Transform):
    """Crops a random fraction ``scale`` of the area, with a random aspect ratio, and resizes it (Szegedy 2014).

    arXiv:1409.4842. As the first transform of a list it takes images of any size. No batched form.
    """

    p: Annotated[float, Field(description="must be 1: images that are not cropped would keep their size")] = 1.0
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]],
        Field(description="minimum and maximum fraction of the area"),
    ] = (0.08, 1.0)
    ratio: Annotated[Range, Field(description="minimum and maximum ratio of width to height")] = (0.75, 1.3333)
    moves_pixels: ClassVar[bool] = True
    resizes: ClassVar[bool] = True
    albumentations = implemented_by("trainer.augmentation.albumentations:random_resized_crop")

    def __post_init__(self) -> None:
        check(
            self,
            scale=ascending(self.scale),
            ratio=ascending(self.ratio),
            p=(self.p == 1, "must be 1: images that are not cropped would keep their size"),
        )


@option
class TrivialAugment(Geometric):
    """One operation, drawn uniformly from fourteen, of random strength (Müller & Hutter 2021, arXiv:2103.10158).

    The wide search space: identity, shear x and y (±0.99), translate x and y (±32 pixels, at most the side), rotate
    (±135°), brightness, contrast, color, sharpness (±0.99), posterize (2 to 8 bits), solarize, autocontrast, equalize.
    Color changes nothing in grayscale images. No batched form.
    """

    albumentations = implemented_by("trainer.augmentation.policies:trivial_augment")


@option
class RandAugment(Geometric):
    """``operations`` operations in turn, each drawn uniformly from fourteen, of one strength (Cubuk 2019, arXiv:1909.13719).

    The operations are those of ``trivial_augment``, of strength m = ``magnitude``/30: shear ±0.3 m, translate ±0.45 m of the
    side, rotate ±30° m, brightness, contrast, color and sharpness by a factor 1 ± 0.9 m, posterize to 8 − 4 m bits, solarize
    above (1 − m) · 255. No batched form.
    """

    operations: Annotated[PositiveInt, Field(description="number of operations per image")] = 2
    magnitude: Annotated[float, Field(ge=0, le=30, description="strength of the operations; 30 = strongest")] = 9.0
    albumentations = implemented_by("trainer.augmentation.policies:rand_augment")


@option
class AugMix(Geometric):
    """A random mixture of the image and of ``width`` chains of one to ``depth`` operations (Hendrycks 2020, arXiv:1912.02781).

    The result is (1 − m) x + m Σ wᵢ chainᵢ(x), with m ~ Beta(``alpha``, ``alpha``) and w ~ Dirichlet(``alpha``). The operations
    are shear, translate, rotate, posterize, solarize, autocontrast and equalize, each of a strength up to ``severity``/10. The
    loss is that of the task: the consistency loss of the paper is not added. No batched form.
    """

    severity: Annotated[float, Field(gt=0, le=10, description="maximum strength of the operations")] = 3.0
    width: Annotated[PositiveInt, Field(description="number of chains that are mixed")] = 3
    depth: Annotated[PositiveInt, Field(description="maximum number of operations in a chain")] = 3
    alpha: Annotated[PositiveFloat, Field(description="parameter of the distributions of the weights; 1 = uniform")] = (
        1.0
    )
    albumentations = implemented_by("trainer.augmentation.policies:augmix")
