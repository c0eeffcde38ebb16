"""At fixed parameters both forms give the same pixels, and those of numpy and scipy, for every fill.

Tolerances, in levels of 255, on noise. Shifts by whole pixels: none. Interpolation against scipy in float64: 0.02 before
rounding. Against OpenCV: 5.x computes coordinates exactly, so 1 for the rounding of ties; 4.x rounds coordinates to
1/32 pixel, an error of up to 1/64 in x and in y, which may change a value by 255 · 2/64 = 8.
"""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from trainer.augmentation import affine as matrices
from trainer.augmentation.albumentations import BORDERS
from trainer.augmentation.functional import adjust_batch, crop_batch, flip_batch, on_device, warp_batch

FILLS = ["constant", "edge", "reflect", "symmetric", "wrap"]
SCIPY = dict(zip(FILLS, ["grid-constant", "nearest", "mirror", "reflect", "grid-wrap"], strict=True))
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 9, 14), (1, 15, 6)]
EXACT = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV's coordinates


def batch(shape: tuple[int, int, int], n: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (n, *shape), dtype=np.uint8))


def hwc(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())


@given(st.sampled_from(FILLS), st.integers(2, 9), st.integers(2, 9), st.integers(0, 12), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_crop_is_numpys_pad_and_a_slice_even_if_the_padding_is_larger_than_the_image(fill, h, w, padding, seed):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (5, 2, h, w), dtype=np.uint8))
    top, left = torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, 5)))
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode=fill)
    expected = np.stack([wide[n, :, t : t + h, s : s + w] for n, (t, s) in enumerate(zip(top, left, strict=True))])
    np.testing.assert_array_equal(crop_batch(x, top, left, padding, fill).numpy(), expected)
    x_channels_last = crop_batch(x.contiguous(memory_format=torch.channels_last), top, left, padding, fill)
    np.testing.assert_array_equal(x_channels_last.numpy(), expected)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_crop_has_the_pixels_of_albumentations(shape, fill):
    x, (_, h, w) = batch(shape), shape
    wide = A.Pad(4, border_mode=BORDERS[fill], p=1.0)(image=hwc(x))["image"].reshape(h + 8, w + 8, -1)
    cropped = crop_batch(x, torch.tensor([1]), torch.tensor([6]), 4, fill)
    np.testing.assert_array_equal(hwc(cropped), wide[1 : 1 + h, 6 : 6 + w])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flips_have_the_pixels_of_albumentations(shape):
    x = batch(shape)
    for dim, transform in ((3, A.HorizontalFlip(p=1)), (2, A.VerticalFlip(p=1))):
        expected = transform(image=hwc(x))["image"].reshape(hwc(x).shape)
        np.testing.assert_array_equal(hwc(flip_batch(x, torch.tensor([True]), dim)), expected)


def fixed(shape: tuple[int, int, int]) -> dict[str, tuple[np.ndarray, dict]]:
    """Return matrices at fixed parameters, and the arguments with which albumentations does the same."""
    size, one = shape[1:], np.ones(1)
    return {
        "rotation 33": (matrices.rotations(33 * one, size), {"rotate": (33, 33)}),
        "rotation -170": (matrices.rotations(-170 * one, size), {"rotate": (-170, -170)}),
        "scale 0.6": (matrices.scalings(0.6 * one, size), {"scale": (0.6, 0.6), "keep_ratio": True}),
        "scale 1.7": (matrices.scalings(1.7 * one, size), {"scale": (1.7, 1.7), "keep_ratio": True}),
        "translation": (matrices.translations(3 * one, -2 * one), {"translate_px": {"x": (3, 3), "y": (-2, -2)}}),
        "shear": (matrices.shears(20 * one, -9 * one, size), {"shear": {"x": (-20, -20), "y": (9, 9)}}),
        "far away": (matrices.translations(50 * one, -40 * one), {"translate_px": {"x": (50, 50), "y": (-40, -40)}}),
    }


def warped(x: torch.Tensor, forward: np.ndarray, fill: str) -> np.ndarray:
    return hwc(warp_batch(x, on_device(x, np.linalg.inv(forward)[:, :2]), fill))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_warp_has_the_pixels_of_albumentations(shape, fill):
    x = batch(shape)
    for name, (forward, arguments) in fixed(shape).items():
        transform = A.Affine(**arguments, interpolation=cv2.INTER_LINEAR, border_mode=BORDERS[fill], p=1.0)
        expected = transform(image=hwc(x))["image"].reshape(hwc(x).shape)
        difference = np.abs(warped(x, forward, fill) - expected.astype(float))
        assert difference.max() <= (1 if EXACT else 8), (name, difference.max())
        assert difference.mean() < (0.05 if EXACT else 1.5), (name, difference.mean())


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 1, 6), (1, 64, 96)], ids=str)
def test_a_warp_has_the_pixels_of_scipy(shape, fill):
    x = batch(shape)
    ys, xs = np.mgrid[: shape[1], : shape[2]]
    for name, (forward, _) in fixed(shape).items():
        source = np.linalg.inv(forward[0]) @ np.stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])
        expected = np.stack([
            map_coordinates(plane.astype(float), source[1::-1], order=1, mode=SCIPY[fill]).reshape(xs.shape)
            for plane in x[0].numpy()
        ], -1)  # fmt: skip
        difference = np.abs(warped(x, forward, fill) - expected)
        assert difference.max() <= 0.5 + 0.02, (name, difference.max())  # rounding, and float32 coordinates


def test_several_affine_transforms_are_resampled_once_in_their_order():
    from trainer.augmentation import Rotation, Shear, Translation
    from trainer.augmentation.affine import chain_matrices

    chain = [Translation(fraction=0.3), Rotation(degrees=90), Shear(degrees=30)]
    rng, again = np.random.default_rng(7), np.random.default_rng(7)
    shift, turn, lean = (t.matrices(again, 4, (28, 20)) for t in chain)
    np.testing.assert_allclose(chain_matrices(chain, rng, 4, (28, 20)), lean @ turn @ shift)


def test_brightness_and_contrast_have_the_pixels_of_albumentations():
    x = batch((3, 32, 32))
    for brightness, contrast in ((0.2, 0.0), (-0.37, 0.5), (0.11, -0.3), (0.0, -1.0)):
        transform = A.RandomBrightnessContrast((brightness,) * 2, (contrast,) * 2, p=1.0)
        adjusted = adjust_batch(x, on_device(x, np.array([1 + contrast])), on_device(x, np.array([255 * brightness])))
        difference = np.abs(hwc(adjusted) - transform(image=hwc(x))["image"].astype(float))
        assert difference.max() <= 1
        assert (
            difference.mean() < 0.01
        )  # float32 and float64 truncate differently where a value is an integer but for rounding


def test_sharpness_has_the_pixels_of_pil():
    from PIL import Image, ImageEnhance

    from trainer.augmentation.policies import Sharpness

    image = hwc(batch((3, 17, 12)))
    for factor in (0.01, 0.5, 1.0, 1.9):
        expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor), float)
        assert np.abs(Sharpness((-0.5, 0.5)).apply(image, factor) - expected).max() <= 1


def test_saturation_has_the_pixels_of_pil_and_any_hue_keeps_luma_and_the_grays():
    from PIL import Image, ImageEnhance

    from trainer.augmentation.draws import LUMA, color_matrices
    from trainer.augmentation.functional import color_batch

    x = batch((3, 17, 12))
    for seed in range(5):
        matrix = color_matrices(np.random.default_rng(seed), 1, 0.0, 0.9)
        factor = 1 + np.random.default_rng(seed).uniform(-0.9, 0.9, 2)[1]  # the first draw is the hue's
        expected = np.asarray(ImageEnhance.Color(Image.fromarray(hwc(x))).enhance(factor), float)
        difference = np.abs(hwc(color_batch(x, on_device(x, matrix))) - expected)
        assert difference.max() <= 1.01  # PIL rounds luma first, and then truncates
    turned = color_matrices(np.random.default_rng(0), 50, 0.5, 0.5)
    np.testing.assert_allclose(LUMA @ turned, np.tile(LUMA, (50, 1)), atol=1e-3)
    np.testing.assert_allclose(turned.sum(2), np.ones((50, 3)), atol=1e-3)  # gray stays gray


def test_the_hue_is_turned_by_its_angle_and_a_whole_circle_changes_nothing():
    from trainer.augmentation.draws import YIQ, color_matrices

    for matrix in color_matrices(np.random.default_rng(1), 20, 0.25, 0.0):
        before, after = (YIQ @ color for color in (np.array([200.0, 80.0, 30.0]), matrix @ [200.0, 80.0, 30.0]))
        angles = [np.arctan2(color[2], color[1]) for color in (before, after)]
        assert np.hypot(*after[1:]) == pytest.approx(np.hypot(*before[1:]), rel=1e-6)
        assert abs((angles[1] - angles[0] + np.pi) % (2 * np.pi) - np.pi) <= np.pi / 2 + 1e-9


def test_erased_boxes_have_the_areas_ratios_and_places_that_torchvision_draws():
    from scipy import stats
    from torchvision.transforms.v2 import RandomErasing

    from trainer.augmentation.draws import boxes

    size, n = (40, 60), 3000
    top, bottom, left, right = boxes(np.random.default_rng(0), n, size, (0.02, 0.33), (0.3, 3.3333)).T
    torch.manual_seed(0)
    transform, image = RandomErasing(p=1.0), torch.zeros(1, *size)
    theirs = np.array([[p["i"], p["h"], p["j"], p["w"]] for p in (transform.make_params([image]) for _ in range(n))])
    for own, other in zip((top, bottom - top, left, right - left), theirs.T, strict=True):
        assert stats.ks_2samp(own, other, method="asymp").pvalue > 1e-4
    assert (bottom <= size[0]).all()
    assert (right <= size[1]).all()


def test_a_box_that_never_fits_erases_nothing():
    from trainer.augmentation.draws import boxes

    drawn = boxes(np.random.default_rng(0), 9, (1, 4), (0.5, 0.9), (1.0, 1.0))
    assert ((drawn[:, 1] - drawn[:, 0]) * (drawn[:, 3] - drawn[:, 2]) == 0).all()


def test_rand_augment_applies_the_given_number_of_operations_at_one_strength():
    from trainer.augmentation import RandAugment
    from trainer.augmentation.per_image import PerImagePipeline

    image = hwc(batch((3, 24, 24)))

    def changed(option):
        results = PerImagePipeline([option], (3, 24, 24))([image] * 300, np.random.default_rng(0))
        return np.mean([np.abs(r.astype(float) - image).mean() for r in results])

    weak, strong = changed(RandAugment(magnitude=3)), changed(RandAugment(magnitude=27))
    assert changed(RandAugment(operations=1, magnitude=27)) < strong
    assert weak < 0.7 * strong


def test_augmix_stays_near_the_image_and_is_more_varied_with_more_severity():
    from trainer.augmentation import AugMix
    from trainer.augmentation.per_image import PerImagePipeline

    image = hwc(batch((3, 24, 24)))

    def distance(option):
        results = PerImagePipeline([option], (3, 24, 24))([image] * 200, np.random.default_rng(0))
        return np.mean([np.abs(r.astype(float) - image).mean() for r in results])

    mild, severe = distance(AugMix(severity=1)), distance(AugMix(severity=10))
    assert 0 < mild < severe
    assert distance(AugMix(alpha=1e-3, p=0.0)) == 0
