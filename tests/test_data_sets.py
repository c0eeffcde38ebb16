"""The larger sets of torchvision, read from files in their published formats; mapped arrays; cached statistics."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from trainer.data import Arrays, Folder, TorchvisionFiles, TorchvisionSet
from trainer.data.images import MappedImages
from trainer.errors import ConfigError


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip checksums: files made here differ from the published ones."""
    for module in (torchvision.datasets.svhn, torchvision.datasets.stl10, torchvision.datasets.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda *a, **k: True)


def write_image(path: Path, seed: int, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


@pytest.mark.usefixtures("_unchecked")
def test_svhn_is_read_with_label_ten_as_zero(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 40), np.uint8)
    labels = np.arange(1, 41)[:, None] % 10 + 1  # 1 to 10, and 10 means the digit 0
    for part in ("train", "test"):
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels})
    option = TorchvisionSet(root=str(tmp_path), name="SVHN", download=False, validation=0)
    splits = option.load()
    assert splits.shape == (3, 32, 32)
    assert np.array_equal(splits.train.images[5], images[..., 5])
    assert splits.train.labels.tolist() == (labels[:, 0] % 10).tolist()
    assert option.flips_change_classes


@pytest.mark.usefixtures("_unchecked")
def test_stl10_is_read_from_its_columns(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 96, 96), np.uint8)
    for part in ("train", "test"):
        images.transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        (np.arange(20, dtype=np.uint8) % 10 + 1).tofile(folder / f"{part}_y.bin")
    names = [f"kind{i}" for i in range(10)]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    (folder / "fold_indices.txt").write_text("0 1\n")
    splits = TorchvisionSet(root=str(tmp_path), name="STL10", download=False, validation=0).load()
    assert splits.shape == (3, 96, 96)
    assert splits.classes == tuple(names)
    assert np.array_equal(splits.test.images[3], images[3].transpose(1, 2, 0))
    assert splits.test.labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.usefixtures("_unchecked")
def test_flowers_have_three_splits_of_their_own(tmp_path):
    base = tmp_path / "flowers-102"
    for i in range(1, 31):
        write_image(base / "jpg" / f"image_{i:05d}.jpg", i)
    scipy.io.savemat(base / "imagelabels.mat", {"labels": (np.arange(30) % 102 + 1)[None]})
    parts = {"trnid": np.arange(1, 16)[None], "valid": np.arange(16, 21)[None], "tstid": np.arange(21, 31)[None]}
    scipy.io.savemat(base / "setid.mat", parts)
    splits = TorchvisionFiles(root=str(tmp_path), download=False, size=16).load()
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [15, 5, 10]
    assert splits.shape == (3, 16, 16)
    assert splits.train.labels.tolist() == list(range(15))


def test_pets_are_read_with_their_breeds(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    (base / "annotations" / "trimaps").mkdir()
    lines = []
    for i in range(12):
        breed = ("Abyssinian", "beagle")[i % 2]
        write_image(base / "images" / f"{breed}_{i}.jpg", i)
        lines.append(f"{breed}_{i} {i % 2 + 1} 1 1")
    for part in ("trainval", "test"):
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    splits = TorchvisionFiles(root=str(tmp_path), name="OxfordIIITPet", download=False, size=16, validation=2).load()
    assert splits.classes == ("Abyssinian", "Beagle")
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [10, 2, 12]


def test_imagenet_is_read_from_its_unpacked_archives(tmp_path):
    kinds = {"n01": ("tench", "Tinca"), "n02": ("goldfish",)}
    torch.save((kinds, ["n01", "n02"]), tmp_path / "meta.bin")
    for part in ("train", "val"):
        for i, kind in enumerate(kinds):
            for j in range(4):
                write_image(tmp_path / part / kind / f"{j}.jpeg", 10 * i + j)
    splits = TorchvisionFiles(root=str(tmp_path), name="ImageNet", size=16, validation=2).load()
    assert splits.classes == ("tench", "goldfish")
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [6, 2, 8]


@pytest.mark.parametrize("name", ["SVHN", "STL10"])
def test_a_missing_data_set_is_an_error(name, tmp_path):
    with pytest.raises(ConfigError, match=f"does not contain {name}"):
        TorchvisionSet(root=str(tmp_path), name=name, download=False).load()


@pytest.mark.parametrize("name", ["Flowers102", "OxfordIIITPet", "ImageNet"])
def test_a_missing_data_set_of_files_is_an_error(name, tmp_path):
    with pytest.raises(ConfigError, match=f"does not contain {name}"):
        TorchvisionFiles(root=str(tmp_path), name=name, download=False).load()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_memory_mapped_if_they_are_stored_uncompressed(save, order, tmp_path):
    images = np.asarray(np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), np.uint8), order=order)
    save(tmp_path / "a.npz", x_train=images, y_train=np.arange(30) % 3, x_test=images[:6], y_test=np.arange(6) % 3)
    splits = Arrays(path=str(tmp_path / "a.npz"), validation=6).load()
    assert isinstance(splits.train, MappedImages) == (save is np.savez)
    assert len(splits.train) == 24
    rows = {image.tobytes() for part in (splits.train, splits.validation) for image in part.images}
    assert rows == {np.ascontiguousarray(image).tobytes() for image in images}
    assert np.array_equal(splits.train.read(3), splits.train.images[3])
    assert splits.mean == pytest.approx((splits.train.images.reshape(-1, 3) / 255).mean(0))
    assert splits.train.nbytes == splits.train.images.nbytes


def test_statistics_of_files_are_cached_by_content(tmp_path, monkeypatch):
    for kind in ("a", "b"):
        for i in range(6):
            write_image(tmp_path / "set" / kind / f"{i}.png", i)
    option = Folder(root=str(tmp_path / "set"), size=16)
    first = option.load()
    cached = list((tmp_path / "cache" / "statistics").iterdir())
    assert len(cached) == 1
    import trainer.data.statistics as statistics

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(statistics, "mean_and_std", refuse)
    again = option.load()
    assert (again.mean, again.std) == (first.mean, first.std)
    for i in range(6):
        write_image(tmp_path / "set" / "a" / f"{i}.png", 99 + i)
    with pytest.raises(AssertionError, match="measured again"):
        option.load()
