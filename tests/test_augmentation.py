"""The options of the augmentation group: their files, ranges and order, and what both forms guarantee."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from trainer import augmentation as aug
from trainer.augmentation.batched import BatchedPipeline
from trainer.augmentation.per_image import PerImagePipeline
from trainer.augmentation.transforms import transform_name, unsupported
from trainer.instantiate import External, instantiate

CONF = Path(__file__).parent.parent / "conf" / "augmentation"
PRESETS = {"none", "cifar", "imagenet", "mnist", "heavy"}
BATCHED = [
    aug.Flip(), aug.VerticalFlip(), aug.Crop(), aug.Rotation(), aug.Scale(), aug.Translation(), aug.Shear(),
    aug.GaussianNoise(), aug.BrightnessContrast(), aug.HueSaturation(), aug.RandomErasing(),
]  # fmt: skip
PER_IMAGE = [
    aug.Perspective(), aug.Elastic(), aug.Blur(), aug.RandomResizedCrop(), aug.TrivialAugment(), aug.RandAugment(), aug.AugMix(),
]  # fmt: skip
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 7, 12), (1, 9, 5), (3, 1, 4)]


def images_of_shape(shape: tuple[int, int, int], n: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (n, *shape[1:], shape[0]), dtype=np.uint8))


def batch(shape: tuple[int, int, int], n: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.stack(images_of_shape(shape, n))).permute(0, 3, 1, 2).contiguous()


OPTION_FILES = [f for f in sorted(CONF.glob("*.yaml")) if f.stem not in PRESETS]


@pytest.mark.parametrize("file", OPTION_FILES, ids=lambda f: f.stem)
def test_an_option_file_lists_every_parameter_with_its_default_and_a_comment(file):
    text = file.read_text()
    node = yaml.safe_load(text)[file.stem]
    module, _, name = node.pop("_target_").rpartition(".")
    option = getattr(sys.modules[module], name)()
    as_read = {k: tuple(v) if isinstance(v, list) else v for k, v in node.items()}
    assert as_read == dataclasses.asdict(option)
    assert transform_name(option) == file.stem
    assert text.startswith("# ")
    assert all("  # " in line for line in text.splitlines()[3:])


def test_every_option_has_a_file_and_every_preset_consists_of_options():
    names = {f.stem for f in CONF.glob("*.yaml")}
    assert names == {transform_name(t) for t in BATCHED + PER_IMAGE} | PRESETS
    for preset in PRESETS - {"none"}:
        tree = yaml.safe_load((CONF / f"{preset}.yaml").read_text())
        parts = set(tree.pop("defaults")) - {"_self_"}
        assert parts < names - PRESETS
        assert set(tree) <= parts
        for part, values in tree.items():
            assert set(values) < set(yaml.safe_load((CONF / f"{part}.yaml").read_text())[part])


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("none", []),
        ("cifar", ["crop", "flip"]),
        ("imagenet", ["random_resized_crop", "flip"]),
        ("mnist", ["rotation", "scale", "translation"]),
        ("heavy", ["rotation", "scale", "shear", "translation", "brightness_contrast", "gaussian_noise"]),
        ("[flip,mnist]", ["flip", "rotation", "scale", "translation"]),
    ],
)
def test_presets_and_lists_compose_in_their_order_into_options(chosen, names):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        tree = OmegaConf.to_container(compose(overrides=[f"+augmentation={chosen}"]).get("augmentation", {}))
    assert list(tree) == names
    for name, node in tree.items():
        option, problems = instantiate(node, f"augmentation.{name}")
        assert not problems
        assert transform_name(option) == name
        assert not (chosen in ("mnist", "heavy") and option.changes_classes)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("Flip", "p", 1.5),
        ("Crop", "padding", -1),
        ("Rotation", "degrees", -3),
        ("Rotation", "degrees", 181),
        ("Scale", "factor", (0.0, 1.0)),
        ("Scale", "factor", (1.1, 0.9)),
        ("Translation", "fraction", 1.0),
        ("Shear", "degrees", 45),
        ("GaussianNoise", "std", -0.1),
        ("BrightnessContrast", "contrast", 2),
        ("Perspective", "strength", 0.5),
        ("Elastic", "sigma", 0.5),
        ("Blur", "sigma", (0.0, 1.0)),
        ("RandomResizedCrop", "scale", (0.5, 1.5)),
        ("RandomResizedCrop", "p", 0.5),
        ("HueSaturation", "hue", 0.6),
        ("HueSaturation", "saturation", 1.5),
        ("RandomErasing", "area", (0.5, 0.2)),
        ("RandomErasing", "ratio", (0.0, 1.0)),
        ("RandAugment", "magnitude", 31),
        ("RandAugment", "operations", 0),
        ("AugMix", "severity", 0),
        ("AugMix", "width", 0),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_parameter(name, key, value):
    option, problems = instantiate({"_target_": f"trainer.augmentation.{name}", key: value}, "augmentation.x")
    assert option is None
    assert [problem.key for problem in problems] == [f"augmentation.x.{key}"]
    assert problems[0].text.startswith("must be")
    with pytest.raises(ValueError, match=key):
        getattr(aug, name)(**{key: value})


def test_only_flips_change_classes_and_they_can_be_forced():
    assert [transform_name(t) for t in BATCHED + PER_IMAGE if t.changes_classes] == ["flip", "vertical_flip"]
    assert not aug.Flip().force
    assert aug.VerticalFlip(force=True).force


def test_transforms_without_a_batched_form_are_named():
    assert unsupported(BATCHED) == []
    assert unsupported(PER_IMAGE) == [transform_name(option) for option in PER_IMAGE]
    with pytest.raises(ValueError, match="elastic, blur"):
        BatchedPipeline([aug.Flip(), aug.Elastic(), aug.Blur()], (1, 8, 8))


def test_a_third_party_transform_has_only_the_per_image_form_and_its_own_name():
    from albumentations import InvertImg

    external = External(InvertImg, {"p": 1.0}, "augmentation.invert_img")
    assert unsupported([external]) == ["InvertImg"]
    (image,) = images_of_shape((3, 6, 5), 1)
    (inverted,) = PerImagePipeline([external], (3, 6, 5))([image], np.random.default_rng(0))
    np.testing.assert_array_equal(inverted, 255 - image)


def test_images_may_have_any_size_if_the_first_transform_resizes():
    shape = (3, 20, 30)
    pipeline = PerImagePipeline([aug.RandomResizedCrop(), aug.Flip()], shape)
    assert pipeline.resizes
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((50, 40), (10, 70), (20, 30))]
    assert [f.shape for f in pipeline(images, np.random.default_rng(0))] == [(20, 30, 3)] * 3
    assert not PerImagePipeline([aug.Flip(), aug.RandomResizedCrop()], shape).resizes
    assert not PerImagePipeline([], shape).resizes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_per_image_form_keeps_the_shape_and_is_a_function_of_the_generator(shape):
    images = images_of_shape(shape)
    for option in [*BATCHED, *PER_IMAGE]:
        pipeline = pickle.loads(pickle.dumps(PerImagePipeline([option], shape)))
        first, again = (pipeline(images, np.random.default_rng(5)) for _ in range(2))
        assert all(f.shape == i.shape and f.dtype == np.uint8 for f, i in zip(first, images, strict=True)), option
        assert all(np.array_equal(f, a) for f, a in zip(first, again, strict=True)), option


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_batched_form_keeps_shape_range_and_memory_format_and_is_equal_in_both_formats(shape):
    x = batch(shape)
    x_channels_last = x.contiguous(memory_format=torch.channels_last)
    for option in BATCHED:
        pipeline = BatchedPipeline([option], shape)
        contiguous, other = pipeline(x, np.random.default_rng(5)), pipeline(x_channels_last, np.random.default_rng(5))
        assert contiguous.shape == x.shape
        assert contiguous.is_contiguous(), option
        assert other.is_contiguous(memory_format=torch.channels_last), option
        assert torch.equal(contiguous, other), option
        assert contiguous.min() >= 0
        assert contiguous.max() <= 255
        assert torch.equal(contiguous, contiguous.floor() if contiguous.is_floating_point() else contiguous), option
    assert torch.equal(x, batch(shape)), "the batch itself must not change"


def test_with_probability_zero_nothing_changes():
    x, images = batch((3, 9, 8)), images_of_shape((3, 9, 8))
    for option in BATCHED:
        never = dataclasses.replace(option, p=0.0)
        assert torch.equal(BatchedPipeline([never], (3, 9, 8))(x, np.random.default_rng(0)), x), option
        unchanged = PerImagePipeline([never], (3, 9, 8))(images, np.random.default_rng(0))
        assert all(np.array_equal(f, i) for f, i in zip(unchanged, images, strict=True)), option


def test_several_threads_may_share_a_pipeline():
    pipeline = PerImagePipeline([aug.Rotation(), aug.Flip(), aug.GaussianNoise(), aug.Elastic()], (3, 16, 16))
    images = images_of_shape((3, 16, 16), 8)
    alone = [pipeline(images, np.random.default_rng(seed)) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: pipeline(images, np.random.default_rng(seed)), range(12)))
    np.testing.assert_array_equal(together, alone)


PROCESS = """
import hashlib, numpy as np, torch
from trainer.augmentation import *
from trainer.augmentation.batched import BatchedPipeline
from trainer.augmentation.per_image import PerImagePipeline
torch.set_num_threads({threads})
options, shape = [Flip(), Rotation(), Scale(fill="wrap"), Crop(), GaussianNoise(), BrightnessContrast()], (3, 40, 40)
images = np.random.default_rng(0).integers(0, 256, (64, 40, 40, 3), dtype=np.uint8)
x = BatchedPipeline(options, shape)(torch.from_numpy(images).permute(0, 3, 1, 2), np.random.default_rng(3))
y = np.stack(PerImagePipeline(options, shape)(list(images), np.random.default_rng(3)))
digest = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in (x.numpy(), y)]
"""


@pytest.mark.slow
def test_another_process_with_another_number_of_threads_gets_the_same_images():
    scope: dict = {}
    exec(PROCESS.format(threads=1), scope)
    other = subprocess.run(
        [sys.executable, "-c", PROCESS.format(threads=2) + "print(*digest)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.split() == scope["digest"]


def test_options_are_constructed_without_importing_torch_numpy_or_albumentations():
    code = (
        "import sys; from trainer.augmentation import Blur, Flip, Rotation\n"
        "Flip(), Rotation(), Blur(); print({'torch', 'albumentations', 'cv2', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
