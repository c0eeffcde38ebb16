"""Over many draws both forms have the same distribution of images, the one that the option's docstring describes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from trainer import augmentation as aug
from trainer.augmentation.batched import BatchedPipeline
from trainer.augmentation.per_image import PerImagePipeline
from trainer.augmentation.transforms import transform_name

DRAWS = 800
FILLS = ["constant", "edge", "reflect", "symmetric", "wrap"]
IMPROBABLE = (
    1e-4  # the p-value below which two samples are held to differ; seeds are fixed, so that none fails by chance
)


def both_forms(options: list, image: np.ndarray, n: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """Return n draws of one image (H, W, C), by the batched and by the per-image form, as (n, H, W, C)."""
    h, w, c = image.shape
    x = torch.from_numpy(image).permute(2, 0, 1).expand(n, -1, -1, -1).contiguous()
    batched = BatchedPipeline(options, (c, h, w))(x, np.random.default_rng(1))
    per_image = PerImagePipeline(options, (c, h, w))([image] * n, np.random.default_rng(2))
    return batched.permute(0, 2, 3, 1).numpy().astype(float), np.stack(per_image).astype(float)


def smooth_image(h: int, w: int, c: int) -> np.ndarray:
    """Smooth, without symmetry, so that every change shows."""
    y, x, k = np.mgrid[:h, :w, :c]
    return (127 + 60 * np.sin(x / 3 + k) + 60 * np.cos(y / 4 + x / 7 - k)).astype(np.uint8)


def ks(one: np.ndarray, other: np.ndarray) -> float:
    return stats.ks_2samp(one, other, method="asymp").pvalue  # pyright: ignore[reportAttributeAccessIssue]


def assert_same_distribution(one: np.ndarray, other: np.ndarray) -> None:
    """Compare every pixel's mean, the distributions of 25 pixels, and those of the images' means and standard deviations."""
    pixels = [a.reshape(len(a), -1) for a in (one, other)]
    error = np.sqrt((pixels[0].var(0) + pixels[1].var(0)) / len(one))
    z = (pixels[0].mean(0) - pixels[1].mean(0)) / np.maximum(error, 0.05)  # levels that rounding may shift a mean by
    count = z.size
    assert np.abs(z).max() < stats.norm.isf(IMPROBABLE / count), np.abs(z).max()
    for place in np.linspace(0, count - 1, 25).astype(int):
        a, b = (np.round(p[:, place] / 4) for p in pixels)  # 4 levels wide: interpolation may differ by one
        assert ks(a, b) > IMPROBABLE / 25, place
    stds = [p.std(1) for p in pixels]
    assert ks(*stds) > IMPROBABLE
    means = [p.mean(1) for p in pixels]
    assert ks(*means) > IMPROBABLE


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("size", [(12, 12, 1), (9, 14, 3)], ids=str)
@pytest.mark.parametrize(
    "option", [aug.Crop(padding=3), aug.Rotation(degrees=40), aug.Shear(degrees=30)], ids=transform_name
)
def test_both_forms_have_the_same_distribution_with_every_fill(option, size, fill):
    assert_same_distribution(*both_forms([dataclasses.replace(option, fill=fill)], smooth_image(*size), DRAWS // 2))


@pytest.mark.parametrize("p", [1.0, 0.3])
@pytest.mark.parametrize(
    "option",
    [aug.Flip(), aug.VerticalFlip(), aug.Crop(), aug.Rotation(degrees=180), aug.Scale(factor=(0.5, 1.5)),
     aug.Translation(fraction=0.2), aug.Shear(degrees=30), aug.GaussianNoise(std=0.1), aug.BrightnessContrast(),
     aug.HueSaturation(hue=0.5, saturation=0.9), aug.RandomErasing(area=(0.1, 0.3)), aug.RandomErasing(value="gray")],
    ids=transform_name,
)  # fmt: skip
def test_both_forms_have_the_same_distribution_with_every_probability(option, p):
    one, other = both_forms([dataclasses.replace(option, p=p)], image := smooth_image(11, 8, 3))
    assert_same_distribution(one, other)
    for images in (one, other):
        changed = (images != image).any((1, 2, 3)).mean()
        limit = {"crop": 80 / 81, "translation": 1 - 1 / 25}.get(transform_name(option), 1.0) * p  # one shift is zero
        assert changed == pytest.approx(limit, abs=4 * np.sqrt(limit * (1 - limit) / DRAWS) + 0.02)


def test_both_forms_have_the_same_distribution_in_a_sequence():
    heavy = [aug.Rotation(), aug.Scale(factor=(0.8, 1.2)), aug.Shear(p=0.5), aug.Translation(fill="edge"), aug.Flip(),
             aug.Crop(padding=2, fill="wrap"), aug.BrightnessContrast(p=0.5)]  # fmt: skip
    assert_same_distribution(*both_forms(heavy, smooth_image(13, 10, 1)))


@pytest.mark.parametrize("option", [aug.Crop(padding=2), aug.Translation(fraction=0.2)], ids=transform_name)
def test_every_shift_is_equally_likely(option):
    y, x = np.mgrid[:10, :10]
    image = (10 * y + x + 1).astype(np.uint8)[:, :, None]
    for images in both_forms([option], image, 4000):
        values = images[:, 5, 5, 0].astype(int)  # the pixel that is now at (5, 5) identifies the shift
        _, counts = np.unique(values, return_counts=True)
        assert len(counts) == 25
        assert stats.chisquare(counts).pvalue > IMPROBABLE


def test_decisions_of_different_transforms_are_independent():
    image = np.array([[[1], [2]], [[3], [4]]], np.uint8)  # the upper left pixel identifies the flips
    for images in both_forms([aug.Flip(), aug.VerticalFlip()], image, 2000):
        _, counts = np.unique(images[:, 0, 0, 0], return_counts=True)
        assert len(counts) == 4
        assert stats.chisquare(counts).pvalue > IMPROBABLE


def test_angles_are_uniform_over_their_range():
    option = aug.Rotation(degrees=30)
    m = option.matrices(np.random.default_rng(0), 5000, (9, 9))
    angles = np.rad2deg(np.arctan2(m[:, 0, 1], m[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 0.01


def test_noise_has_its_standard_deviation_and_is_independent_between_pixels_channels_and_images():
    image = np.full((16, 16, 3), 128, np.uint8)
    for images in both_forms([aug.GaussianNoise(std=0.05)], image, 200):
        noise = images - 128
        assert noise.std() == pytest.approx(255 * 0.05, rel=0.01)
        assert abs(noise.mean()) < 0.2
        between = [(noise[:, :-1] * noise[:, 1:]), noise[..., 0] * noise[..., 1], noise[:-1] * noise[1:]]
        assert all(abs(b.mean()) < 0.02 * noise.var() for b in between)
