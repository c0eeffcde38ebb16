"""Images in archives: what Hugging Face datasets, WebDataset and tar write gives the images and labels of the directory."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data import Folder, Table
from trainer.data.images import ImageFiles
from trainer.errors import ConfigError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()
CLASSES = ("wasp", "ant", "1e5")  # not sorted
SPLITS = ("train", "validation", "test")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with splits, several formats, an orientation, transparency, and 16 bits."""
    rng = np.random.default_rng(0)
    for split, count in zip(SPLITS, (7, 3, 4), strict=True):
        for name in CLASSES:
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (9 + i, 8, 4), np.uint8)
                image = Image.fromarray(pixels if i % 3 == 1 else pixels[..., :3])
                exif = Image.Exif()
                exif[0x0112] = 6
                image.convert("RGB").save(folder / f"{i}.jpg", exif=exif) if i % 3 == 0 else image.save(
                    folder / f"{i}.png"
                )
            Image.fromarray(rng.integers(0, 65536, (8, 8), np.uint16)).save(folder / "deep.png")
    return tmp_path / "tree"


def files(tree: Path, split: str) -> list[Path]:
    return sorted(p for p in (tree / split).rglob("*") if p.is_file())


def hugging_face(tree: Path, embedded: bool = True) -> datasets.DatasetDict:
    """The directory as a data set: class indices in the order of CLASSES, bytes or paths."""
    parts = {}
    for split in SPLITS:
        paths = files(tree, split)
        images = [{"bytes": p.read_bytes(), "path": p.name} if embedded else str(p) for p in paths]
        rows = {
            "image": images,
            "label": [CLASSES.index(p.parent.name) for p in paths],
            "size": [p.stat().st_size for p in paths],
        }
        features = {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "size": datasets.Value("int64"),
        }
        parts[split] = datasets.Dataset.from_dict(rows, datasets.Features(features))
    return datasets.DatasetDict(parts)


def contents(images: ImageFiles, classes: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """The class and the pixels of each image, in an order of their own."""
    return sorted((classes[label], images.center_crop(i, 8).tobytes()) for i, label in enumerate(images.labels))


def assert_same_images(splits, tree: Path) -> None:
    reference = Folder(root=str(tree), size=8).load()
    assert sorted(splits.classes) == sorted(reference.classes)
    for split in SPLITS:
        assert contents(getattr(splits, split), splits.classes) == contents(
            getattr(reference, split), reference.classes
        )
    assert np.allclose(splits.mean, reference.mean)


def load(path: Path, **options):
    return Table(**({"path": str(path), "size": 8} | options)).load()


@pytest.mark.parametrize("embedded", [True, False])
def test_a_data_set_saved_to_disk_equals_the_directory(tree, tmp_path, embedded):
    hugging_face(tree, embedded).save_to_disk(tmp_path / "saved", num_shards={"train": 3, "validation": 1, "test": 2})
    splits = load(tmp_path / "saved")
    assert splits.classes == CLASSES  # in the order of the ClassLabel
    assert_same_images(splits, tree)
    assert splits.notes == ("51 rows: 51 images used", "columns image, label are used, not size")


@pytest.mark.parametrize("embedded", [True, False])
def test_parquet_files_equal_the_directory(tree, tmp_path, embedded):
    for split, part in hugging_face(tree, embedded).items():
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        part.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    splits = load(tmp_path / "hub")
    assert splits.classes == CLASSES
    assert_same_images(splits, tree)


def test_one_parquet_file_is_split_at_random_and_its_rows_are_numbered_like_those_of_a_spreadsheet(tree, tmp_path):
    part = hugging_face(tree)["train"]
    part.to_parquet(tmp_path / "train.parquet")
    splits = load(tmp_path / "train.parquet", test=6, validation=3)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [15, 3, 6]
    assert str(splits.train.paths[0]).startswith(f"{tmp_path}/train.parquet/row ")


def test_bytes_without_features_are_images_if_only_one_column_holds_some(tree, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paths = files(tree, "train")
    rows = {"jpeg": [p.read_bytes() for p in paths], "label": [p.parent.name for p in paths]}
    parquet.write_table(pa.table(rows), tmp_path / "l.parquet")
    used = load(tmp_path / "l.parquet", test=0, validation=0).train
    reference = Folder(root=str(tree / "train"), size=8, test=0, validation=0).load()
    assert contents(used, reference.classes) == contents(reference.train, reference.classes)
    parquet.write_table(pa.table(rows | {"mask": rows["jpeg"]}), tmp_path / "l.parquet")
    with pytest.raises(ConfigError, match=r"several columns may hold the images: jpeg, mask"):
        load(tmp_path / "l.parquet")


def write_shards(tree: Path, folder: Path, cell) -> Path:
    """Two shards per split, with members ``<key>.<ending>`` and what ``cell(class)`` returns: {ending: bytes}."""
    folder.mkdir()
    for split in SPLITS:
        for number in range(2):
            with tarfile.open(folder / f"{split}-{number:06}.tar", "w") as tar:
                for i, path in enumerate(files(tree, split)[number::2]):
                    members = {path.suffix[1:]: path.read_bytes(), **cell(path.parent.name)}
                    for ending, data in members.items():
                        info = tarfile.TarInfo(f"{'long/' * 40}{i:05}.{ending}" if i == 3 else f"{i:05}.{ending}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize(
    ("cell", "column"),
    [
        (lambda name: {"cls": name.encode()}, "cls"),
        (lambda name: {"json": json.dumps({"label": name, "box": [1, 2], "n": None}).encode()}, "label"),
        (lambda name: {"json": b'{"label": "other"}', "label.txt": f" {name}\n".encode()}, "label.txt"),
    ],
)
def test_webdataset_shards_equal_the_directory(tree, tmp_path, cell, column):
    splits = load(write_shards(tree, tmp_path / "shards", cell), labels=column)
    assert_same_images(splits, tree)
    assert splits.notes[0] == "51 rows: 51 images used"


def test_what_shards_hold_besides_samples_is_counted(tree, tmp_path):
    folder = write_shards(tree, tmp_path / "shards", lambda name: {"cls": name.encode(), "npy": b"\0"})
    with tarfile.open(folder / "train-000000.tar", "a") as tar:
        for name, data in {
            "x.cls": b"ant",
            "README": b"",
            ".x.jpg": b"",
            "b.jpg": b"no image",
            "b.cls": b"ant",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    splits = load(folder, labels="cls", on_error="skip")
    assert splits.notes == (
        "55 rows: 51 images used, 4 skipped (1 corrupt: shards/train-000000.tar/b.jpg, 1 without image:"
        " train-000000.tar/x, 1 hidden, 1 without ending)",
        "columns image, cls are used, not npy",
    )


def test_two_images_per_sample_are_two_columns(tree, tmp_path):
    folder = write_shards(tree, tmp_path / "shards", lambda name: {"cls": name.encode(), "seg.png": b"mask"})
    with pytest.raises(ConfigError, match=r"data\.images=seg\.png"):
        load(folder, labels="cls")


def test_two_members_of_one_sample_and_kind_are_refused(tree, tmp_path):
    folder = write_shards(tree, tmp_path / "shards", lambda name: {"cls": name.encode(), "CLS": b"other"})
    with pytest.raises(ConfigError, match="two of the same sample and kind"):
        load(folder, labels="cls")


WRONG = {
    "cut": (lambda data: data[: len(data) // 2], "ends within|empty header"),
    "damaged header": (lambda data: data[:512] + data[512:].replace(b"ustar", b"xxxxx"), "is damaged"),
    "two joined ones": (lambda data: data + data, "another archive follows"),
    "not a tar": (lambda data: b"x" * 2000, "cannot be read as a tar archive"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_shard_is_refused_and_never_read_in_part(case, tree, tmp_path):
    change, message = WRONG[case]
    shard = write_shards(tree, tmp_path / "shards", lambda name: {"cls": name.encode()}) / "test-000001.tar"
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "shards", labels="cls")


def test_a_compressed_shard_is_refused_with_the_way_out(tree, tmp_path):
    shard = write_shards(tree, tmp_path / "shards", lambda name: {"cls": name.encode()}) / "test-000001.tar"
    shard.rename(shard.with_suffix(".tar.gz"))
    with pytest.raises(ConfigError, match="gunzip test-000001"):
        load(tmp_path / "shards", labels="cls")


def test_a_broken_image_is_named_or_skipped(tree, tmp_path):
    data = hugging_face(tree)
    broken = data["train"].cast_column("image", datasets.Image(decode=False)).to_list()
    broken[3]["image"] = {"bytes": b"no image", "path": None}
    broken[5]["image"] = None
    data["train"] = datasets.Dataset.from_list(broken, data["train"].features)
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"2 of 51 files cannot be decoded: .*train\[3\].*train\[5\].* it is empty"):
        load(tmp_path / "saved")
    assert "2 corrupt: saved/train[3], saved/train[5]" in load(tmp_path / "saved", on_error="skip").notes[0]


def test_splits_of_other_names_and_missing_labels_of_the_test_split_are_counted(tree, tmp_path):
    data = hugging_face(tree)
    data["unsupervised"] = data["validation"]
    missing = [-1] * len(data["test"])
    feature = data["test"].features["label"]
    data["test"] = data["test"].remove_columns("label").add_column("label", missing, feature=feature)
    data.save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").notes[0] == (
        "63 rows: 36 images used, 27 skipped (15 without label in the test split, 12 in the split 'unsupervised')"
    )


def test_an_incomplete_data_set_is_refused(tree, tmp_path):
    hugging_face(tree).save_to_disk(tmp_path / "saved", num_shards={"train": 2, "validation": 1, "test": 1})
    (tmp_path / "saved" / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(ConfigError, match=r"train/data-00001-of-00002\.arrow not found"):
        load(tmp_path / "saved")


def test_lists_of_class_names_are_labels_of_an_image(tree, tmp_path):
    paths = files(tree, "train")
    names = ["a", "b"]
    rows = {
        "image": [str(p) for p in paths],
        "tags": [[0], [1], [0, 1]] * (len(paths) // 3),
        "weight": [0.5] * len(paths),
    }
    features = {
        "image": datasets.Image(),
        "tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        "weight": datasets.Value("float32"),
    }
    datasets.Dataset.from_dict(rows, datasets.Features(features)).save_to_disk(tmp_path / "saved")
    labels = {"tags": "multilabel", "weight": "regression"}
    train = load(tmp_path / "saved", labels=labels, test=0, validation=0).train
    assert train.columns["tags"].sum(0).tolist() == [16, 16]
    assert train.columns["weight"].tolist() == [[0.5]] * 24


def test_members_can_be_pickled_and_their_file_is_read_again(tree, tmp_path):
    hugging_face(tree).save_to_disk(tmp_path / "saved")
    train = load(tmp_path / "saved").train
    assert np.array_equal(pickle.loads(pickle.dumps(train)).read(3), train.read(3))


def tar_of(tree: Path, file: Path, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=form) as tar:
        tar.add(tree, ".")
    return file


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_archive_of_a_directory_is_read_like_the_directory(tree, tmp_path, form):
    """Names, links, hidden and broken files, and what is said of them."""
    (tree / "train" / "ant" / ".hidden.png").write_bytes(b"")
    (tree / "train" / "ant" / "notes.txt").write_bytes(b"")
    (tree / "train" / "ant" / "empty.JPG").write_bytes(b"")
    (tree / "train" / ".cache" / "x").mkdir(parents=True)
    (tree / "train" / ".cache" / "x" / "1.png").write_bytes(b"x")
    (tree / "train" / "wasp" / "link.png").symlink_to("deep.png")
    (tree / "train" / "wasp" / "hard.png").hardlink_to(tree / "train" / "ant" / "deep.png")
    (tree / "train" / "ant" / ("long" * 24 + ".png")).write_bytes((tree / "train" / "ant" / "deep.png").read_bytes())
    archive = tar_of(tree, tmp_path / "images.tar", form)
    option = {"size": 8, "on_error": "skip"}
    reference, splits = Folder(root=str(tree), **option).load(), Folder(root=str(archive), **option).load()
    assert splits.classes == reference.classes
    assert splits.notes == reference.notes
    assert (splits.mean, splits.std) == (reference.mean, reference.std)
    for split in SPLITS:
        ours, theirs = getattr(splits, split), getattr(reference, split)
        assert np.array_equal(ours.labels, theirs.labels)
        for i in range(len(theirs)):
            assert np.array_equal(ours.read(i), theirs.read(i))


@pytest.mark.parametrize("name", ["Käfer", "e\u0301clair", "a b", "$x_1$", "[red]", "1e6", "None", "007"])
def test_names_in_an_archive_are_data(name, tree, tmp_path):
    (tree / "train" / "ant").rename(tree / "train" / name)
    for split in SPLITS[1:]:
        (tree / split / "ant").rename(tree / split / name)
    archive = tar_of(tree, tmp_path / "images.tar")
    assert Folder(root=str(archive), size=8).load().classes == Folder(root=str(tree), size=8).load().classes


def test_a_class_directory_without_images_in_an_archive_is_refused_as_in_a_directory(tree, tmp_path):
    (tree / "train" / "bee").mkdir()
    with pytest.raises(ConfigError, match="class 'bee' contains no images"):
        Folder(root=str(tar_of(tree, tmp_path / "images.tar")), size=8).load()


def test_data_given_to_the_wrong_option_is_answered_with_the_right_one(tree, tmp_path):
    hugging_face(tree).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"data=table data\.path="):
        Folder(root=str(tmp_path / "saved"), size=8).load()
    with pytest.raises(ConfigError, match="data=folder"):
        load(tree)
    with pytest.raises(ConfigError, match="data=folder"):
        load(tar_of(tree, tmp_path / "images.tar"))
