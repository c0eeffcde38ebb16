"""Several targets of the same images: which kind each is, what is missing, and that splits keep images and targets together."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data import Arrays
from trainer.data.folds import fold
from trainer.data.images import MappedImages
from trainer.data.targets import LABEL
from trainer.errors import ConfigError

N = 30
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 5, 6, 3), np.uint8)
CLASSES = np.arange(N) % 3
NUMBERS = np.stack([np.arange(N) / 2, np.arange(N) ** 2], 1)
LABELS = np.stack([CLASSES > 0, CLASSES > 1], 1)


def arrays(**values) -> Arrays:
    """The option of a file with 20 training and 10 test images; each target is given for all 30."""
    split = {"x_train": IMAGES[:20], "x_test": IMAGES[20:]}
    for name, value in values.items():
        if name.startswith(("x_", "y_")):
            split[name] = value
        else:
            infix = "" if name == LABEL else f"{name}_"
            split |= {f"y_{infix}train": value[:20], f"y_{infix}test": value[20:]}
    np.savez("a.npz", **split)
    return Arrays(path="a.npz", validation=5)


def number_of(image: np.ndarray) -> int:
    """Which of the images an image is."""
    return int((image == IMAGES).all((1, 2, 3)).argmax())


def assert_together(splits, **expected: np.ndarray) -> None:
    """The targets of every image in every split are those that it was saved with."""
    for split in (splits.train, splits.validation, splits.test):
        for i in range(len(split)):
            row = number_of(split.read(i))
            for name, values in expected.items():
                np.testing.assert_array_equal(split.target(name)[i], values[row], err_msg=name)


@pytest.mark.parametrize(
    ("values", "kind", "expected", "names"),
    [
        (NUMBERS.astype(np.float32), "regression", NUMBERS, ("0", "1")),
        (NUMBERS[:, 0], "regression", NUMBERS[:, :1], ("0",)),
        (LABELS, "multilabel", LABELS, ("0", "1")),
        (LABELS.astype(np.uint8), "multilabel", LABELS, ("0", "1")),
        (LABELS[:, :1].astype(int), "multilabel", LABELS[:, :1], ("0",)),
    ],
)
def test_the_kind_of_an_array_follows_from_its_dtype_and_shape(values, kind, expected, names):
    splits = arrays(label=values).load()
    (target,) = splits.targets
    assert (target.name, target.kind, target.classes) == (LABEL, kind, names)
    assert splits.classes == ()
    assert not splits.train.labels.any()
    assert_together(splits, label=expected)


def test_integers_are_classes_as_ever_and_may_have_names():
    plain = arrays(label=CLASSES).load()
    assert (plain.classes, plain.notes, plain.train.columns) == (("0", "1", "2"), (), {})
    (target,) = plain.targets
    assert (target.name, target.kind) == (LABEL, "classification")
    assert_together(plain, label=CLASSES)
    named = arrays(label=CLASSES, y_names=["ant", "bee", "cat"]).load()
    assert named.classes == named.targets[0].classes == ("ant", "bee", "cat")
    assert named.train.labels.tolist() == plain.train.labels.tolist()


def test_each_named_target_has_its_own_arrays_and_what_is_missing_is_told():
    species, weight, tags = CLASSES.copy(), NUMBERS[:, 0].copy(), LABELS.astype(np.int8)
    species[[1, 25]], weight[[2, 3]], tags[4, 1] = -1, np.nan, -1
    option = arrays(weight=weight, species=species, tags=tags, y_tags_names=["new", "red"], y_spare=np.zeros(3))
    splits = option.load()
    assert [(t.name, t.kind) for t in splits.targets] == [
        ("weight", "regression"), ("species", "classification"), ("tags", "multilabel")
    ]  # fmt: skip
    assert splits.targets[2].classes == ("new", "red")
    assert splits.classes == ("0", "1", "2")  # of the first target with classes, which also stratifies
    assert splits.notes == (
        "targets: weight: regression, 2 of 30 missing; species: classification, 3 classes, 2 of 30 missing;"
        " tags: multilabel, 2 labels, 1 of 60 values missing",
        "a.npz: the arrays y_spare are not used",
    )
    expected = tags.astype(float)
    expected[4, 1] = np.nan
    assert_together(splits, species=species, weight=weight[:, None], tags=expected)
    counts = np.bincount(splits.validation.labels[splits.validation.labels >= 0], minlength=3)
    assert counts.min() >= 1


def test_mapped_and_limited_images_keep_their_targets():
    splits = Arrays(path=arrays(weight=NUMBERS, species=CLASSES).path, validation=4, limit=7).load()
    assert isinstance(splits.train, MappedImages)
    assert len(splits.train) == 7
    assert_together(splits, weight=NUMBERS, species=CLASSES)


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({"label": CLASSES[:, None]}, ["y_train", "must be 0 or 1", "it contains 0, 1, 2"]),
        ({"label": np.where(LABELS, 1, -1)}, ["must be 0 or 1", "it contains -1, 1"]),
        ({"label": CLASSES > 0}, ["y_train bool (20,)", "y_train.astype(int)", "[:, None]"]),
        ({"label": np.zeros((N, 2, 2))}, ["y_train float64 (20, 2, 2)", "(N, T) for regression"]),
        ({"label": np.full(N, "ant")}, ["y_train <U3 (20,)", "integers (N,) for classes"]),
        ({"label": np.where(CLASSES > 1, np.inf, 1.0)}, ["y_train", "infinite"]),
        ({"label": CLASSES - 1}, ["-1 = missing is allowed where there are several targets"]),
        ({"label": CLASSES - 2}, ["must be classes from 0 on"]),
        ({"label": CLASSES[:-1]}, ["y_test (9,)", "each of the 10 images of x_test"]),
        ({"label": CLASSES, "y_names": ["ant", "bee"]}, ["y_names", "3 different names", "3 classes", "<U3 (2,)"]),
        ({"w": NUMBERS, "y_w_names": ["x", "x"]}, ["y_w_names", "2 different names"]),
        ({"y_train": CLASSES[:20], "y_test": CLASSES[20:] * 1.0}, ["y_test", "same kind as y_train"]),
        ({"w": NUMBERS, "y_w_test": NUMBERS[20:, 0]}, ["y_w_test", "same kind as y_w_train: float64 (10,) after"]),
        ({"y_w_train": NUMBERS[:20]}, ["contains y_w_train, and lacks y_w_test"]),
        ({"y_w_test": NUMBERS[20:]}, ["y_<name>_train", "it contains: x_train, x_test, y_w_test"]),
        ({"label": CLASSES, "y_label_train": CLASSES[:20]}, ["contains both y_train and y_label_train"]),
        ({"kind": np.where(np.arange(N) < 20, 0, 1), "w": NUMBERS}, ["y_kind_train lacks some of the 2 classes"]),
    ],
)  # fmt: skip
def test_an_array_that_is_no_target_is_an_error_with_what_each_task_takes(values, messages):
    with pytest.raises(ConfigError) as error:
        arrays(**values).load()
    for message in messages:
        assert message in str(error.value)


def test_images_without_classes_are_split_at_random_which_is_told():
    splits = arrays(label=NUMBERS).load()
    held_out = sorted(number_of(image) for image in splits.validation.images)
    assert len(held_out) == 5
    assert held_out != list(range(5))
    assert "held out at random" in splits.notes[-1]
    assert not any("random" in note for note in arrays(weight=NUMBERS, species=CLASSES).load().notes)
    nothing_held_out = Arrays(path=arrays(label=NUMBERS).path, validation=0).load()
    assert not any("random" in note for note in nothing_held_out.notes)


def test_folds_of_images_without_classes_or_with_unknown_ones_cover_each_image_once():
    unknown = np.where(np.arange(N) % 7 == 0, -1, CLASSES)
    for option in (arrays(label=NUMBERS), arrays(species=unknown, weight=NUMBERS)):
        splits = option.load()
        folds = fold(splits, 4, seed=0)
        numbers = [number_of(image) for each in folds for image in each.validation.images]
        assert sorted(numbers) == list(range(20))
        assert {len(each.validation) for each in folds} <= {4, 5, 6}
        for each in folds:
            assert_together(each, **{t.name: NUMBERS if t.kind == "regression" else unknown for t in splits.targets})
    with pytest.raises(ConfigError, match=r"at most 20, the number of images\n"):
        fold(arrays(label=NUMBERS).load(), 21, seed=0, key="job.models")


def test_a_target_of_a_single_class_is_an_error():
    with pytest.raises(ConfigError, match="target only must have at least two classes"):
        arrays(weight=NUMBERS, only=np.zeros(N, int)).load()
