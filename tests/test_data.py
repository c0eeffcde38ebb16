"""Data: files in torchvision's formats, splits, statistics, folders, and that both loaders deliver the same batches."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

from trainer.augmentation import Crop, Flip, Rotation
from trainer.augmentation.per_image import PerImagePipeline
from trainer.config.load import load_config
from trainer.data import Arrays, Digits, Fake, Folder, MNIST5k, TorchvisionSet
from trainer.data.decode import NICENESS, decode, decoding_threads, jpeg_frame, resize, resize_and_center_crop
from trainer.data.images import ImageArray, ImageFiles
from trainer.data.in_memory import InMemoryLoader
from trainer.data.stratified import stratified_split
from trainer.data.streaming import StreamingLoader
from trainer.errors import ConfigError


def write_mnist(root: Path, kind: str = "MNIST", count: int = 60) -> np.ndarray:
    """Files in the format of the published ones: idx, gzipped."""
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    raw = root / kind / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name, array, code in (("images-idx3", images, 3), ("labels-idx1", labels, 1)):
            head = struct.pack(">HBB", 0, 8, code) + b"".join(struct.pack(">I", n) for n in array.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
            with gzip.open(raw / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(head + array.tobytes())
    return images


@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_mnist_files_are_read_as_published(kind, tmp_path):
    images = write_mnist(tmp_path, kind)
    option = TorchvisionSet(root=str(tmp_path), name=kind, download=False, validation=0)
    splits = option.load()
    assert np.array_equal(splits.train.images[..., 0], images)
    assert splits.shape == (1, 28, 28)
    assert len(splits.classes) == 10
    assert splits.validation is None
    assert option.flips_change_classes == (kind == "MNIST")


def test_cifar10_files_are_read_as_published(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        data = rng.integers(0, 256, (20, 3072), np.uint8)
        rows.append(data)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [i % 10 for i in range(20)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *a, **k: True)
    splits = TorchvisionSet(root=str(tmp_path), name="CIFAR10", download=False, validation=20).load()
    assert splits.shape == (3, 32, 32)
    assert splits.classes[3] == "class3"
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [80, 20, 20]
    assert np.array_equal(splits.test.images[0], rows[-1][0].reshape(3, 32, 32).transpose(1, 2, 0))


def test_missing_files_of_torchvision_are_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="does not contain MNIST"):
        TorchvisionSet(root=str(tmp_path), download=False).load()


def test_mnist5k_and_digits_come_with_the_installation():
    splits = MNIST5k().load()
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [3500, 500, 1000]
    assert np.bincount(splits.test.labels).tolist() == [100] * 10
    assert splits.mean[0] == pytest.approx(0.1307, abs=0.003)  # the well-known values of MNIST
    assert splits.std[0] == pytest.approx(0.3081, abs=0.003)
    digits = Digits().load()
    assert digits.shape == (1, 8, 8)
    assert sum(len(p) for p in (digits.train, digits.validation, digits.test)) == 1797


@pytest.mark.parametrize("size", [0.2, 17])
def test_a_split_keeps_the_classes_in_proportion_and_takes_every_image_once(size):
    labels = np.repeat(np.arange(4), [40, 30, 20, 10])
    rest, held_out = stratified_split(labels, size, 3, "x")
    assert sorted([*rest, *held_out]) == list(range(100))
    count = size if isinstance(size, int) else 20
    assert len(held_out) == count
    assert np.allclose(np.bincount(labels[held_out]), np.array([40, 30, 20, 10]) * count / 100, atol=1)


def test_a_limit_above_the_number_of_images_is_said_to_change_nothing():
    above, at = (Fake(count=100, limit=limit, validation=0.1).load() for limit in (73, 72))
    assert above.notes == ("data.limit=73 changes nothing: there are 72 training images",)
    assert at.notes == ()
    assert len(above.train) == len(at.train) == 72


def test_the_split_does_not_depend_on_limit_and_a_smaller_limit_takes_a_subset_of_a_larger():
    whole, some, few = (Fake(count=300, limit=limit).load() for limit in (None, 100, 30))
    assert np.array_equal(whole.test.images, few.test.images)
    assert np.array_equal(whole.validation.images, few.validation.images)

    def rows(splits) -> set[bytes]:
        return {image.tobytes() for image in splits.train.images}

    assert rows(few) < rows(some) < rows(whole)
    assert np.bincount(few.train.labels).tolist() == [3] * 10


def test_statistics_equal_numpys_over_the_training_split_alone():
    splits = Fake(count=200, size=6).load()
    expected = splits.train.images.reshape(-1, 3) / 255
    assert splits.mean == pytest.approx(expected.mean(0))
    assert splits.std == pytest.approx(expected.std(0))


def test_arrays_are_read_and_invalid_ones_are_errors(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(30) % 3, x_test=images[:9], y_test=np.arange(9) % 3)
    splits = Arrays(path=str(tmp_path / "a.npz"), validation=6).load()
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [24, 6, 9]
    np.savez(tmp_path / "b.npz", x_train=images.astype(float), y_train=np.arange(30))
    with pytest.raises(ConfigError, match="uint8"):
        Arrays(path=str(tmp_path / "b.npz")).load()
    np.savez(tmp_path / "c.npz", images=images)
    with pytest.raises(ConfigError, match="it contains: images"):
        Arrays(path=str(tmp_path / "c.npz")).load()


def make_folder(root: Path, sizes: tuple[tuple[int, int], ...] = ((20, 30), (40, 16))) -> None:
    rng = np.random.default_rng(0)
    for kind in ("ant", "bee"):
        (root / kind).mkdir(parents=True)
        for i in range(10):
            height, width = sizes[i % len(sizes)]
            cv2.imwrite(str(root / kind / f"{i}.png"), rng.integers(0, 256, (height, width, 3), np.uint8))


def test_a_folder_of_classes_is_split_and_its_images_are_resized_to_one_size(tmp_path):
    make_folder(tmp_path)
    splits = Folder(root=str(tmp_path), size=24, test=4, validation=4).load()
    assert splits.classes == ("ant", "bee")
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [12, 4, 4]
    assert splits.shape == (3, 24, 24)
    loader = StreamingLoader(
        splits.train, num_classes=2, mean=splits.mean, std=splits.std, batch_size=5, shape=splits.shape, num_workers=0
    )
    assert [tuple(x.shape) for x, _ in loader.batches(0)] == [(5, 3, 24, 24), (5, 3, 24, 24), (2, 3, 24, 24)]


def test_an_image_of_the_right_size_is_delivered_exactly_in_rgb(tmp_path):
    make_folder(tmp_path, sizes=((8, 8),))
    splits = Folder(root=str(tmp_path), size=8, test=0, validation=0, normalize="none").load()
    loader = StreamingLoader(
        splits.train, num_classes=2, mean=splits.mean, std=splits.std, batch_size=20, shape=splits.shape,
        num_workers=0, shuffle=False,
    )  # fmt: skip
    x, y = next(iter(loader.batches(0)))
    for i, path in enumerate(splits.train.paths):
        expected = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert np.array_equal((x[i] * 255).round().numpy().transpose(1, 2, 0), expected)
    assert torch.equal(y.argmax(1), torch.from_numpy(splits.train.labels))


def sample_images(count: int = 23) -> ImageArray:
    rng = np.random.default_rng(0)
    return ImageArray(rng.integers(0, 256, (count, 9, 9, 3), np.uint8), np.arange(count) % 4)


COMMON = {"num_classes": 4, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "batch_size": 5, "seed": 7}


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_both_loaders_deliver_the_same_batches_if_nothing_is_augmented(per_image, drop_last):
    options = {**COMMON, "per_image": per_image, "drop_last": drop_last}
    in_memory = list(InMemoryLoader(sample_images(), **options).batches(3))
    streamed = list(StreamingLoader(sample_images(), **options, shape=(3, 9, 9), num_workers=0).batches(3))
    assert len(streamed) == len(in_memory) == (4 if drop_last else 5)
    for (x, y), (other_x, other_y) in zip(in_memory, streamed, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_images_are_normalized_according_to_the_equation():
    x, _ = next(iter(InMemoryLoader(sample_images(), **COMMON, shuffle=False).batches(0)))
    expected = (sample_images().images[:5] / 255 - np.array(COMMON["mean"])) / np.array(COMMON["std"])
    assert np.allclose(x.numpy().transpose(0, 2, 3, 1), expected, atol=1e-5)


@pytest.mark.parametrize(
    "names", [["crop", "flip"], ["heavy"], ["trivial_augment"], ["elastic", "perspective", "blur"]]
)
def test_threads_processes_and_the_main_process_make_the_same_batches(names):
    config = load_config(["data=fake", f"augmentation=[{','.join(names)}]"])
    by_workers = []
    for workers, kind in ((0, "auto"), (2, "process"), (1, "thread"), (3, "thread")):
        pipeline = PerImagePipeline(list(config.augmentation.values()), (3, 9, 9))
        options = {**COMMON, "num_workers": workers, "worker_type": kind}
        loader = StreamingLoader(sample_images(60), **options, pipeline=pipeline, shape=(3, 9, 9))
        by_workers.append([x for x, _ in loader.batches(1)])
    for other in by_workers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(by_workers[0], other, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_in_the_middle_equals_the_rest_of_the_whole_one(workers):
    pipeline = PerImagePipeline([Crop(), Flip(), Rotation()], (3, 9, 9))
    loader = StreamingLoader(sample_images(), **COMMON, pipeline=pipeline, shape=(3, 9, 9), num_workers=workers)
    whole, rest = list(loader.batches(2)), list(loader.batches(2, 3))
    for (x, y), (other_x, other_y) in zip(whole[3:], rest, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_each_epoch_delivers_every_image_once_in_another_order():
    loader = InMemoryLoader(sample_images(), **COMMON)
    orders = [np.concatenate([chosen for _, chosen in loader.indices(epoch, 0)]) for epoch in range(3)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])
    other = InMemoryLoader(sample_images(), **{**COMMON, "seed": 8})
    assert not np.array_equal(orders[0], other.order(0))


def test_augmentation_differs_from_epoch_to_epoch_and_from_image_to_image():
    same = ImageArray(np.repeat(sample_images(1).images, 10, 0), np.zeros(10, np.int64))
    pipeline = PerImagePipeline([Crop()], (3, 9, 9))
    loader = StreamingLoader(same, **{**COMMON, "batch_size": 10}, pipeline=pipeline, shape=(3, 9, 9), num_workers=2)
    one, other = (next(iter(loader.batches(epoch)))[0] for epoch in (0, 1))
    assert not torch.equal(one, other)
    assert len({x.numpy().tobytes() for x in one}) > 5


@pytest.mark.parametrize(("height", "width", "size"), [(64, 80, 32), (200, 128, 16), (64, 80, 40), (40, 330, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_suffices(height, width, size, channels, tmp_path):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8), (width, height))
    cv2.imwrite(str(tmp_path / "a.jpg"), smooth)
    whole, small = (decode(tmp_path / "a.jpg", channels, s) for s in (None, size))
    assert min(small.shape[:2]) >= size
    scales = [-(-min(height, width) // n) for n in (8, 4, 2, 1)]  # those for which libjpeg-turbo has vector code
    assert min(small.shape[:2]) == min(side for side in scales if side >= size)
    assert small.shape[2] == channels
    difference = resize_and_center_crop(whole, size).astype(int) - resize_and_center_crop(small, size)
    assert abs(difference).mean() < 4


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_has_the_pixels_that_pillow_decodes(channels, tmp_path):
    """Also grayscale decoded as color, and CMYK."""
    from PIL import Image

    image = cv2.resize(np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8), (60, 40))
    for mode in ("RGB", "L", "CMYK"):
        Image.fromarray(image).convert(mode).save(tmp_path / "a.jpg", quality=95)
        decoded = decode(tmp_path / "a.jpg", channels)
        expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB" if channels == 3 else "L"))
        assert decoded.shape == (40, 60, channels)
        assert abs(decoded.astype(int) - expected.reshape(decoded.shape)).mean() < (3 if mode == "CMYK" else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_exif_orientation_of_a_jpeg_is_applied(orientation, channels, tmp_path):
    from PIL import Image, ImageOps

    image = cv2.resize(np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8), (320, 192))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95, exif=exif, progressive=orientation % 2 == 0)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")).convert("RGB" if channels == 3 else "L")
    for size, least in ((None, 192), (96, 96), (24, 24)):  # the whole, half, an eighth
        decoded = decode(tmp_path / "a.jpg", channels, size)
        expected = np.asarray(upright.resize((decoded.shape[1], decoded.shape[0]), Image.Resampling.BOX))
        assert min(decoded.shape[:2]) == least
        assert abs(decoded.astype(int) - expected.reshape(decoded.shape)).mean() < 3


def test_the_size_in_a_jpegs_header_is_pillows_and_a_truncated_header_has_none(tmp_path):
    from PIL import Image

    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"comment": "words" * 99}, {"exif": Image.Exif()}):
        Image.new("RGB", (31, 57)).save(tmp_path / "a.jpg", **options)
        data = (tmp_path / "a.jpg").read_bytes()
        assert jpeg_frame(data)[:2] == (57, 31)
        assert all((jpeg_frame(data[:n]) or (57, 31))[:2] == (57, 31) for n in range(len(data)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 31), (60, 40), (90, 81)])
def test_images_are_resized_like_in_torchvision_and_pillow(size, channels):
    from PIL import Image
    from torchvision.transforms import v2

    image = np.random.default_rng(0).integers(0, 256, (60, 40, channels), np.uint8)
    resized = resize(image, size)
    expected = v2.functional.resize(torch.from_numpy(image).permute(2, 0, 1), list(size), antialias=True)
    assert torch.equal(torch.from_numpy(resized).permute(2, 0, 1), expected)
    pillow = Image.fromarray(image.squeeze()).resize(size[::-1], Image.Resampling.BILINEAR)
    assert abs(resized.squeeze().astype(int) - np.asarray(pillow)).max() <= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have one niceness per process")
def test_decoding_threads_alone_have_a_lower_priority():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    with decoding_threads(2) as pool:
        assert pool.submit(niceness).result() == min(before + NICENESS, 19)
        assert niceness() == before


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (40, 40)])
def test_the_central_crop_is_that_of_torchvisions_preprocessing(size, tmp_path):
    from PIL import Image
    from torchvision.transforms import v2

    height, width = size
    down, across = np.mgrid[:height, :width]
    image = np.stack([255 * across / width, 255 * down / height, 80 + 0 * down], -1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    files = ImageFiles([tmp_path / "a.png"], np.zeros(1, np.int64), crop_pct=0.875)
    expected = v2.Compose([v2.Resize(64), v2.CenterCrop(56)])(Image.fromarray(image))
    crop = files.center_crop(0, 56)
    assert crop.shape == (56, 56, 3)
    assert abs(crop.astype(int) - np.asarray(expected)).max() <= 3, "filters differ, crops do not"
    whole = ImageFiles(files.paths, files.labels).center_crop(0, 56)
    assert abs(crop.astype(int) - whole).max() > 10


def test_crop_pct_auto_is_imagenets_with_pretrained_normalization_and_a_number_is_kept():
    assert Folder(root="x").crop == 1.0
    assert Folder(root="x", normalize="pretrained").crop == 0.875
    assert Folder(root="x", normalize="pretrained", crop_pct=0.95).crop == 0.95
    with pytest.raises(ValueError, match="crop_pct"):
        Folder(root="x", crop_pct=1.5)


def test_a_cache_contains_the_decoded_images_and_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    make_folder(tmp_path / "set")
    plain, memory, disk = (
        Folder(root=str(tmp_path / "set"), size=12, cache=c).load() for c in ("none", "memory", "disk")
    )
    for part in ("train", "validation", "test"):
        files = getattr(plain, part)
        expected = np.stack([resize_and_center_crop(files.read(i, 12), 12) for i in range(len(files))])
        for splits in (memory, disk):
            assert np.array_equal(getattr(splits, part).images, expected)
            assert np.array_equal(getattr(splits, part).labels, files.labels)
    assert memory.mean == disk.mean == pytest.approx(plain.mean)
    cached = sorted((tmp_path / "cache" / "pictures").iterdir())
    assert len(cached) == 3
    times = [p.stat().st_mtime_ns for p in cached]
    monkeypatch.setattr("trainer.data.cache.decode_into", None)  # nothing is decoded again
    again = Folder(root=str(tmp_path / "set"), size=12, cache="disk").load()
    assert np.array_equal(again.train.images, disk.train.images)
    assert times == [p.stat().st_mtime_ns for p in cached]


def test_a_changed_file_is_decoded_again_and_a_full_disk_is_an_error(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    make_folder(tmp_path / "set")
    options = {"root": str(tmp_path / "set"), "size": 12, "cache": "disk", "test": 0, "validation": 0}
    Folder(**options).load()
    file = next((tmp_path / "set").rglob("*.png"))
    Image.new("RGB", (12, 12), (1, 2, 3)).save(file)
    images = Folder(**options).load().train.images
    assert any((image == [1, 2, 3]).all() for image in images)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.data.cache.reserve", full)
    with pytest.raises(ConfigError, match=r"cannot be kept in .*No space left"):
        Folder(**(options | {"size": 13})).load()
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_cache_is_an_error_if_the_augmentation_crops_whole_images(tmp_path):
    make_folder(tmp_path / "set")
    overrides = [
        "data=folder",
        f"data.root={tmp_path / 'set'}",
        "data.cache=memory",
        "augmentation=[random_resized_crop]",
    ]
    with pytest.raises(ConfigError, match=r"^data.cache = 'memory': .*random_resized_crop crops the original images"):
        load_config(overrides)
    assert load_config([*overrides[:3], "augmentation=[flip]"]).data.cache == "memory"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
def test_normalization_by_rows_equals_normalization_by_pixels(channels, channels_last):
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 9, channels), np.uint8)
    mean, std = [0.3, 0.5, 0.7][:channels], [0.2, 0.25, 0.3][:channels]
    loader = InMemoryLoader(
        ImageArray(images, np.zeros(5, np.int64)), num_classes=2, mean=mean, std=std, batch_size=5, shuffle=False,
        channels_last=channels_last,
    )  # fmt: skip
    x, _ = next(iter(loader.batches(0)))
    assert x.shape == (5, channels, 7, 9)
    for c in range(channels):
        expected = (images[..., c].astype(np.float64) / 255 - mean[c]) / std[c]
        assert np.allclose(x[:, c].numpy(), expected, atol=2e-6)
    if channels == 3 and channels_last:
        assert x.is_contiguous(memory_format=torch.channels_last)
