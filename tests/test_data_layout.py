"""Directories as people have them: every file is accounted for, labels equal directory names, two readings are an error."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.data import Folder
from trainer.data.pillow import FORMATS
from trainer.errors import ConfigError


def make(root: Path, *contents: str, ending: str = ".png", count: int = 4) -> Path:
    """``count`` images in each directory, such as "train/ant" or "train/ant=7"."""
    for content in contents:
        name, _, number = content.partition("=")
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(int(number or count)):
            pixels = np.random.default_rng([i, *name.encode()]).integers(0, 256, (6, 7, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}{ending}")
    return root


def read(root: Path, **options):
    return Folder(**({"root": str(root), "size": 6, "validation": 0} | options)).read()


def sizes(splits) -> tuple[int, ...]:
    return tuple(0 if part is None else len(part) for part in (splits.train, splits.validation, splits.test))


def labels_equal_directories(splits, root: Path) -> bool:
    for part in filter(None, (splits.train, splits.validation, splits.test)):
        for path, label in zip(part.paths, part.labels, strict=True):
            names = {unicodedata.normalize("NFC", name) for name in path.relative_to(root).parts[:-1]}
            if splits.classes[label] not in names:
                return False
    return True


RECOGNIZED = {
    "classes": (["ant=10", "bee=10"], (16, 0, 4)),
    "all splits": (["train/ant", "train/bee", "val/ant", "val/bee", "test/ant", "test/bee"], (8, 8, 8)),
    "capitals": (["Train/ant", "Train/bee", "VALIDATION/ant", "Testing/bee"], (8, 4, 4)),
    "long spellings": (["training/ant", "training/bee", "valid/ant", "testing/ant"], (8, 4, 4)),
    "a development split": (["train/ant", "train/bee", "dev/ant"], (8, 4, 0)),
    "a wrapper": (["archive/ant=10", "archive/bee=10"], (16, 0, 4)),
    "wrappers": (["archive/data/train/ant", "archive/data/train/bee", "archive/data/test/bee"], (8, 0, 4)),
    "doubled splits": (["train/train/ant", "train/train/bee", "test/test/ant"], (8, 0, 4)),
    "doubled roots": (["pets/pets/ant=10", "pets/pets/bee=10"], (16, 0, 4)),
    "directories within classes": (["ant/a=5", "ant/b=5", "bee/c=10"], (16, 0, 4)),
    "a class called train": (["train=10", "bus=10", "car=10"], (24, 0, 6)),
    "a class called like a word of splits": (["bullet train=10", "bus=10"], (16, 0, 4)),
    "a class whose name begins like a split": (["trainer=10", "tester=10"], (16, 0, 4)),
    "no test image of a class": (["train/ant", "train/bee", "test/ant"], (8, 0, 4)),
}


@pytest.mark.parametrize("case", RECOGNIZED)
def test_a_layout_of_one_reading_is_recognized(case, tmp_path):
    contents, expected = RECOGNIZED[case]
    splits = read(make(tmp_path, *contents))
    assert sizes(splits) == expected
    assert labels_equal_directories(splits, tmp_path)


AMBIGUOUS = {
    "doubtful split names": ["seg_train/sea", "seg_train/street", "seg_test/sea", "seg_test/street"],
    "doubled doubtful split names": ["seg_train/seg_train/sea", "seg_train/seg_train/street", "seg_test/seg_test/sea"],
    "numbered split names": ["train2017/ant", "train2017/bee", "val2017/ant"],
    "classes beside a training split": ["train/ant", "train/bee", "cat"],
    "a test directory beside classes": ["ant", "bee", "test"],
    "a test split beside classes": ["ant", "bee", "test/ant", "test/bee"],
    "a class of controls and one of tests": ["control", "test"],
    "classes called train and test": ["train", "test", "bus"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", AMBIGUOUS)
def test_two_readings_are_an_error_that_shows_both_and_how_to_choose(case, tmp_path, train):
    make(tmp_path / "d", *AMBIGUOUS[case])
    with pytest.raises(ConfigError, match=r"can be read in two ways: \d classes .*or splits") as error:
        read(tmp_path / "d")
    hints = [line.split(":", 1)[1].strip().strip("'") for line in str(error.value).splitlines()[1:]]
    assert hints[0] == "data.splits=none"
    assert hints[1].startswith("data.splits={train:")
    for hint in hints:  # both can be typed as printed, though not every reading has two classes
        code, _, err = train(
            "data=folder", "data.root=d", hint, "job=plan", "architecture.norm=none", "batch_size=4", "output=run"
        )
        shutil.rmtree("run", ignore_errors=True)
        assert code == 0 or "at least two" in err, (hint, err)
    assert len(read(tmp_path / "d", splits="none").classes) == len(list((tmp_path / "d").iterdir()))


NO_READING = {
    "one class": (["ant"], "only 'ant'"),
    "no training split": (["test/ant", "test/bee"], "no training split"),
    "images directly in train": (["train", "test"], "no class directories.*\n.*data=table"),
    "images only": (["."], "images lie directly in it"),
    "two directories of one split": (["train/ant", "train/bee", "Training/ant"], "both of which name the train split"),
    "two validation splits": (["train/ant", "train/bee", "val/ant", "dev/ant"], r"\{train:train,validation:dev\}"),
    "a class of the test split alone": (["train/ant", "train/bee", "test/cat"], "does not contain: cat"),
    "a class in another case": (["train/ant", "train/bee", "test/Ant"], "'Ant' and 'ant' differ only in case"),
    "splits below the classes": (["ant/train", "ant/test", "bee/train", "bee/test"], "move the split above the class"),
    "an empty class": (["train/ant", "train/bee=0"], "'bee' contains no images"),
}


@pytest.mark.parametrize("case", NO_READING)
def test_a_layout_without_a_reading_is_an_error(case, tmp_path):
    contents, expected = NO_READING[case]
    with pytest.raises(ConfigError, match=expected):
        read(make(tmp_path, *contents))


def test_an_empty_class_says_what_it_contains_instead(tmp_path):
    make(tmp_path, "ant", "bee=0")
    for name in ("a.heic", "b.HEIC", "c.txt"):
        (tmp_path / "bee" / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"of the kinds \.heic, \.txt"):
        read(tmp_path)


def test_unlabeled_test_images_are_reported_as_not_used(tmp_path):
    splits = read(make(tmp_path, "train/ant", "train/bee", "test=5"))
    assert sizes(splits) == (8, 0, 0)
    assert splits.notes[0] == "13 files: 8 images used, 5 skipped (5 without class directory)"
    assert "test contains 5 images and no class directories: it is not used as test split" in splits.notes[1]


def test_given_splits_are_taken_wherever_they_lie(tmp_path):
    make(tmp_path, "a/x/sea", "a/x/street", "b/sea", "c")
    splits = read(tmp_path, splits={"train": "a/x", "test": "b"})
    assert sizes(splits) == (8, 0, 4)
    assert splits.notes[0] == "16 files: 12 images used, 4 skipped (4 outside the splits)"
    rest = read(make(tmp_path / "d", "ant", "bee", "holdout/ant"), splits={"train": ".", "test": "holdout"})
    assert sizes(rest) == (8, 0, 4)
    for wrong, text in (({"train": "nowhere"}, "no such directory"), ({"test": "b"}, "must name")):
        with pytest.raises(ConfigError, match=text):
            read(tmp_path, splits=wrong)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_class_names_are_composed_and_match_in_either_form(form, tmp_path):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    name = "Käfer é"
    make(
        tmp_path,
        f"train/{unicodedata.normalize(form, name)}",
        "train/ant",
        f"test/{unicodedata.normalize(other, name)}",
    )
    splits = read(tmp_path)
    assert splits.classes == ("Käfer é", "ant")
    assert sizes(splits) == (8, 0, 4)


def test_two_directories_of_one_name_in_two_forms_are_an_error(tmp_path):
    make(tmp_path, "e\u0301", "\u00e9")
    with pytest.raises(ConfigError, match="differ only in their Unicode form"):
        read(tmp_path)


def test_every_accepted_ending_is_read_in_any_case(tmp_path):
    make(tmp_path, "a=0", "b=0")
    endings = [ending for endings in FORMATS.values() for ending in endings]
    for i, ending in enumerate(endings):  # the content decides how a file is decoded
        for name in (f"{i}{ending}", f"{i}u{ending.upper()}"):
            Image.new("RGB", (4, 4)).save(tmp_path / "ab"[i % 2] / name, "PNG")
    assert read(tmp_path).notes[0] == f"{2 * len(endings)} files: {2 * len(endings)} images used"


@pytest.mark.parametrize(
    "place", ["a/.ipynb_checkpoints", ".cache/x", "a/deep/.thumbnails", "__MACOSX/a", "a/@eaDir", ".git"]
)
def test_hidden_directories_anywhere_are_left_out_and_counted(place, tmp_path):
    make(tmp_path, "a", "b", f"{place}=3")
    splits = read(tmp_path, test=0)
    assert splits.classes == ("a", "b")
    assert splits.notes[0] == "11 files: 8 images used, 3 skipped (3 hidden)"


def test_a_directory_called_like_an_image_is_no_image(tmp_path):
    make(tmp_path, "a", "b", "a/photo.jpg=2")
    assert sizes(read(tmp_path, test=0)) == (10, 0, 0)


def test_linked_directories_are_followed_once_and_loops_never(tmp_path):
    make(tmp_path / "store", "x", "y")
    make(tmp_path / "d", "a", "b")
    links = {"a/loop": "d", "a/up": ".", "b/other": "d/a", "a/new": "store/x", "b/again": "store/x"}
    for link, target in links.items():
        (tmp_path / "d" / link).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "d" / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "d" / "b" / "linked.png").symlink_to(tmp_path / "store" / "y" / "0.png")
    splits = read(tmp_path / "d", test=0)
    assert sizes(splits) == (13, 0, 0), "four each, four through a/new, and linked.png"
    assert splits.notes[0] == "14 files: 13 images used, 1 skipped (1 broken link: b/gone.png)"
    assert "a/loop, a/up, b/again, b/other" in splits.notes[-1]


def test_classes_that_are_links_into_a_hidden_store_are_read(tmp_path):
    make(tmp_path, ".store/x", ".store/y")
    for name, target in (("ant", "x"), ("bee", "y")):
        (tmp_path / name).symlink_to(tmp_path / ".store" / target, target_is_directory=True)
    splits = read(tmp_path, test=0)
    assert splits.classes == ("ant", "bee")
    assert sizes(splits) == (8, 0, 0)


def test_all_broken_files_are_counted_and_named(tmp_path):
    make(tmp_path, "train/a", "train/b", "test/a")
    broken = [tmp_path / name for name in ("train/a/1.png", "train/b/0.png", "test/a/3.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConfigError, match="3 of 12 files cannot be decoded") as error:
        read(tmp_path)
    assert all(str(path) in str(error.value) for path in broken)
    splits = read(tmp_path, on_error="skip")
    assert splits.notes[0] == (
        "12 files: 9 images used, 3 skipped (3 corrupt: train/a/1.png, train/b/0.png, test/a/3.png)"
    )


def test_all_broken_files_of_many_are_named_once_the_first_is_met(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.readable.CHECKED_FILES", 0)
    make(tmp_path, "a", "b")
    for name in ("a/1.png", "b/0.png"):
        (tmp_path / name).write_bytes(b"broken")
    for options in ({}, {"cache": "memory", "normalize": "none"}):
        with pytest.raises(ConfigError, match=r"2 of 8 files cannot be decoded: .*a/1\.png .*b/0\.png"):
            Folder(root=str(tmp_path), size=6, test=0, validation=0, **options).load()


def test_all_broken_files_are_named_when_training_meets_the_first(tmp_path, monkeypatch, train):
    monkeypatch.setattr("trainer.data.readable.CHECKED_FILES", 0)
    make(tmp_path / "d", "a", "b")
    for name in ("a/1.png", "b/0.png"):
        (tmp_path / "d" / name).write_bytes(b"broken")
    code, _, err = train(
        "data=folder", "data.root=d", "data.test=0", "data.validation=0", "data.normalize=none", "data.size=6", "batch_size=4",
        "regularizer=[]", "epochs=1", "device=cpu", "observer=[]",
    )  # fmt: skip
    assert code == 2
    assert "2 of 8 files cannot be decoded: d/a/1.png" in err
    assert "d/b/0.png" in err


def test_a_class_that_loses_all_its_images_is_an_error(tmp_path):
    make(tmp_path, "a", "b")
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ConfigError, match="no image is left to train on of the classes b"):
        Folder(root=str(tmp_path), size=6, on_error="skip").load()


def test_an_empty_root_is_an_error(tmp_path, train):
    for value in ("", "nowhere"):
        code, _, err = train("data=folder", f"data.root={value}", "job=plan")
        assert code == 2
        assert "data.root" in err


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\x00", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 60)
ENDINGS = st.sampled_from([".png", ".JPG", ".tiff", ".Webp", ".gif", ".txt", ".heic", "", ".json"])
FILES = st.dictionaries(NAMES, ENDINGS, max_size=5)
IMAGE_ENDINGS = {ending for endings in FORMATS.values() for ending in endings}


@st.composite
def trees(draw: st.DrawFn) -> list[str]:
    """Files of a random directory: splits or not, classes, directories within classes, hidden and loose files."""
    classes = draw(
        st.lists(NAMES.filter(lambda n: not n.startswith(".")), min_size=2, max_size=4, unique_by=unicode_key)
    )
    splits = draw(st.sampled_from([[""], ["train"], ["Train", "test"], ["TRAINING", "valid", "Testing"]]))
    files = []
    for split in splits:
        for name in classes:
            places = [
                f"{split}/{name}",
                *draw(st.lists(NAMES.map(lambda n, s=split, c=name: f"{s}/{c}/{n}"), max_size=2)),
            ]
            for place in places:
                files += [f"{place}/{stem}{ending}" for stem, ending in draw(FILES).items()]
            files.append(f"{split}/{name}/always.png")
        files += [f"{split}/{stem}{ending}" for stem, ending in draw(FILES).items()]
    return files


def unicode_key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def write_tree(root: Path, files: list[str]) -> list[Path]:
    """The files that could be written: a name may be taken by a directory, or not allowed by the file system."""
    written = []
    for name in files:
        path = root / name.lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.new("L", (3, 3)).save(path, "PNG")
                written.append(path)
        except OSError:
            continue
    return written


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(files=trees())
def test_files_used_and_files_skipped_are_the_files_present(files, tmp_path):
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
    written = write_tree(tmp_path / "t", files)
    try:
        splits = read(tmp_path / "t", test=0)
    except ConfigError:  # random names may be those of splits
        return
    used = [path for part in (splits.train, splits.validation, splits.test) if part is not None for path in part.paths]
    assert len(set(used)) == len(used)
    assert set(used) <= set(written)
    total, _, rest = splits.notes[0].partition(" files: ")
    assert int(total.replace(",", "")) == len(written) == sum(len(names) for _, _, names in os.walk(tmp_path / "t"))
    assert int(rest.split()[0].replace(",", "")) == len(used)
    assert labels_equal_directories(splits, tmp_path / "t")
    hidden = [p for p in written if any(part.startswith(".") for part in p.relative_to(tmp_path / "t").parts)]
    assert not set(hidden) & set(used)
    for path in set(written) - set(used) - set(hidden):
        loose = len(path.relative_to(tmp_path / "t").parts) <= (2 if (tmp_path / "t" / "train").exists() else 3)
        assert path.suffix.lower() not in IMAGE_ENDINGS or loose
