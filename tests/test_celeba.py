"""CelebA from generated files in its format: which target each image has, in which split it is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import QUIET, result_of
from faces import ATTRIBUTES, Faces, accept, write_faces

from trainer.data import CelebA
from trainer.data.images import ImageFiles
from trainer.errors import ConfigError

SMALL = (
    "data=celeba",
    "data.size=16",
    "architecture.widths=[4]",
    "batch_size=8",
    "epochs=1",
    "device=cpu",
    QUIET,
    "output=run",
)


@pytest.fixture
def faces(tmp_path, monkeypatch) -> Faces:
    """60 faces where $TRAINER_DATA leads to."""
    written = write_faces(tmp_path / "data", 60, (22, 18))
    accept(written.root, monkeypatch)
    return written


def option(faces: Faces, **arguments) -> CelebA:
    return CelebA(root=str(faces.root), size=16, **arguments)


def rows(images: ImageFiles) -> np.ndarray:
    """Which of the written images those of a split are."""
    return np.array([int(path.stem) - 1 for path in images.paths])


@pytest.mark.parametrize("splits", ["official", "random"])
def test_every_image_keeps_its_attributes_landmarks_and_person(faces, splits):
    data = option(faces, splits=splits, test=0.2).load()
    seen = []
    for images in (data.train, data.validation, data.test):
        own = rows(images)
        seen += own.tolist()
        np.testing.assert_array_equal(images.target("attributes"), faces.attributes[own])
        np.testing.assert_array_equal(images.target("landmarks"), faces.landmarks[own])
        for k, name in enumerate(ATTRIBUTES):
            np.testing.assert_array_equal(images.target(name), faces.attributes[own, k])
        if splits == "random":
            people = next(t for t in data.targets if t.name == "identity").classes
            np.testing.assert_array_equal([int(people[i]) for i in images.target("identity")], faces.people[own])
    assert sorted(seen) == list(range(60))


def test_the_official_splits_are_those_of_the_partition_file(faces):
    data = option(faces).load()
    for part, images in enumerate((data.train, data.validation, data.test)):
        np.testing.assert_array_equal(rows(images), np.flatnonzero(faces.splits == part))
    assert [(t.name, t.kind, len(t.classes)) for t in data.targets] == [
        ("attributes", "multilabel", 4), *((name, "classification", 2) for name in ATTRIBUTES), ("landmarks", "regression", 10)
    ]  # fmt: skip


def test_random_splits_hold_out_images_of_each_person(faces):
    data = option(faces, splits="random", test=15, validation=15).load()
    for images in (data.train, data.validation, data.test):
        assert len(set(faces.people[rows(images)])) == 15  # of four images each


def test_images_are_decoded_when_they_are_read(faces):
    data = option(faces).load()
    assert isinstance(data.train, ImageFiles)
    image = cv2.cvtColor(cv2.imread(str(faces.root / "celeba/img_align_celeba/000003.jpg")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(data.train.read(2), image)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("task=multilabel", "map"),
        ("task.target=Smiling", "accuracy"),
        ("task=regression", "mae"),
        ("task.target=identity data.splits=random", "accuracy"),
        (
            "task=multitask task.tasks={Smiling:{},landmarks:{},shadow:{target:5_o_Clock_Shadow}} task.main=Smiling",
            "Smiling_accuracy",
        ),
    ],
)
def test_each_kind_of_task_learns_its_target(task, metric, train, faces):
    code, _, err = train(*SMALL, *task.split())
    assert code == 0, err
    assert metric in (result_of("run")["test"])


def test_augmentations_that_move_pixels_are_refused_for_landmarks(train, faces):
    code, _, err = train(*SMALL, "task=regression", "augmentation=[flip]")
    assert code == 2
    assert "flip moves pixels, and what that does to landmarks is not known" in err
    assert train(*SMALL, "task.target=Male", "augmentation=[flip]")[0] == 0


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("task=classification", "must name one of the targets of the data: 5_o_Clock_Shadow, Male, Smiling, Young"),
        ("task.target=smiling", "did you mean 'Smiling'?"),
        ("task.target=identity", "identity is a target with data.splits=random only"),
        ("task.target=landmarks", "task=regression"),
        ("task=multitask", "does not begin with a digit"),
    ],
)
def test_a_target_that_cannot_be_learned_is_answered_with_those_that_can(task, message, train, faces):
    code, _, err = train(*SMALL, task)
    assert code == 2
    assert message in err


def test_without_files_it_is_said_what_to_download_and_where_to_put_it(tmp_path):
    with pytest.raises(ConfigError) as caught:
        CelebA(root=str(tmp_path)).load()
    text = str(caught.value)
    assert f"{tmp_path}/celeba lacks list_attr_celeba.txt, identity_CelebA.txt" in text
    assert "img_align_celeba/ (from img_align_celeba.zip)" in text
    assert "mmlab.ie.cuhk.edu.hk" in text


def test_an_archive_that_is_still_packed_is_to_be_unpacked(faces):
    (faces.root / "celeba/img_align_celeba").rename(faces.root / "elsewhere")
    (faces.root / "celeba/img_align_celeba.zip").touch()
    with pytest.raises(ConfigError, match=r"lacks img_align_celeba/ \(unpack img_align_celeba\.zip there\)"):
        option(faces).load()


def test_a_changed_file_is_named(faces):
    with (faces.root / "celeba/list_attr_celeba.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(ConfigError, match=r"the checksum of list_attr_celeba\.txt differs"):
        option(faces).load()


def test_missing_images_are_refused_or_left_out(faces):
    for name in ("000002.jpg", "000060.jpg"):
        Path(faces.root / "celeba/img_align_celeba" / name).unlink()
    with pytest.raises(ConfigError, match=r"2 of 60 images are missing: 000002\.jpg, 000060\.jpg"):
        option(faces).load()
    data = option(faces, on_error="skip").load()
    assert "60 files: 58 images used, 2 skipped (2 without a file: 000002.jpg, 000060.jpg)" in data.notes
    np.testing.assert_array_equal(data.test.target("landmarks"), faces.landmarks[48:59])
