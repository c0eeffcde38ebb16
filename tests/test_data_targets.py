"""Several targets of the same images: which kind each is, what is missing, and that splits keep images and targets together."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from trainer.data import Arrays, Table
from trainer.data.folds import fold
from trainer.data.images import MappedImages
from trainer.data.load import load_known
from trainer.data.targets import LABEL
from trainer.errors import ConfigError
from trainer.jobs.doctor.data import check_data

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


# Tables

ROWS = 36
LABELS_OF_ALL = {
    "species": "classification",
    "weight": "regression",
    "tags": {"kind": "multilabel", "delimiter": "|"},
    "position": {"kind": "regression", "columns": ["x", "y"]},
    "attributes": {"kind": "multilabel", "columns": ["young", "wet"]},
}


def rows_of_images(count: int = ROWS) -> list[dict[str, str]]:
    """Images whose first pixel is their number, and what a table says about them."""
    rows = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        pixels[0, 0] = i
        cv2.imwrite(f"{i}.png", pixels)
        rows.append(
            {
                "path": f"{i}.png",
                "species": ("bee", "ant", "NA")[i % 3],
                "habitat": ("wood", "sea")[i % 2],
                "weight": "" if i % 9 == 4 else f"{i / 4}",
                "tags": "" if i % 12 == 5 else "|".join([" new", "red ", "big"][: i % 3 + 1]),
                "x": f"{i}", "y": "" if i == 7 else f"{-i}e1",
                "young": "01"[i % 2], "wet": ("true", "0.0", "")[i % 3],
            }
        )  # fmt: skip
    return rows


def table(rows: list[dict[str, str]], name: str = "l.csv", **options) -> Table:
    with Path(name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Table(**({"path": name, "size": 8} | options))


def expected_of(i: int) -> dict[str, np.ndarray | int]:
    """The targets of image number ``i``, as the rows say."""
    nan = np.nan
    return {
        "species": (2, 1, 0)[i % 3],  # sorted: NA, ant, bee
        "weight": np.array([nan if i % 9 == 4 else i / 4]),
        "tags": np.full(3, nan) if i % 12 == 5 else np.array([i % 3 > 1, True, i % 3 > 0], float),  # big, new, red
        "position": np.array([i, nan if i == 7 else -10 * i]),
        "attributes": np.array([i % 2, (1, 0, nan)[i % 3]]),
    }


def test_a_table_gives_every_kind_of_target_with_what_is_missing():
    option = table(rows_of_images(), labels=LABELS_OF_ALL, test=6, validation=6)
    splits = option.load()
    assert [(t.name, t.kind, t.classes) for t in splits.targets] == [
        ("species", "classification", ("NA", "ant", "bee")), ("weight", "regression", ("weight",)),
        ("tags", "multilabel", ("big", "new", "red")), ("position", "regression", ("x", "y")),
        ("attributes", "multilabel", ("young", "wet")),
    ]  # fmt: skip
    seen = []
    for split in (splits.train, splits.validation, splits.test):
        assert set(np.bincount(split.labels)) == {len(split) // 3}  # in proportion, in order of the path within a class
        for i, path in enumerate(split.paths):
            number = int(path.stem)
            seen.append(number)
            for name, values in expected_of(number).items():
                np.testing.assert_array_equal(split.target(name)[i], values, err_msg=f"{name} of {number}")
    assert sorted(seen) == list(range(ROWS))
    assert splits.notes == (
        "36 rows: 36 images used",
        "columns path, species, weight, tags, x, y, young, wet are used, not habitat",
        "targets: species: classification, 3 classes; weight: regression, 4 of 36 missing;"
        " tags: multilabel, 3 labels, 9 of 108 values missing; position: regression, 2 numbers, 1 of 72 values missing;"
        " attributes: multilabel, 2 labels, 12 of 72 values missing",
    )


@pytest.mark.parametrize(
    "labels", [LABELS_OF_ALL, {"weight": "regression", "species": "classification"}, {"x": "regression"}]
)
def test_the_order_of_rows_changes_neither_splits_nor_targets(labels):
    rows = rows_of_images()
    first = table(rows, labels=labels).load()
    np.random.default_rng(1).shuffle(rows)
    second = table(rows, "shuffled.csv", labels=labels).load()
    for a, b in zip(
        (first.train, first.validation, first.test), (second.train, second.validation, second.test), strict=True
    ):
        assert a.paths == b.paths
        assert a.labels.tolist() == b.labels.tolist()
        for name in a.columns:
            np.testing.assert_array_equal(a.columns[name], b.columns[name])


def test_a_list_of_columns_is_as_many_targets_of_classes():
    splits = table(rows_of_images(), labels=["habitat", "species"]).load()
    assert [(t.name, t.classes) for t in splits.targets] == [
        ("habitat", ("sea", "wood")), ("species", ("NA", "ant", "bee"))
    ]  # fmt: skip
    alone = table(rows_of_images(), labels="habitat").load()
    assert alone.classes == splits.classes == ("sea", "wood")
    assert alone.train.paths == splits.train.paths  # the first target with classes stratifies
    assert [t.name for t in alone.targets] == [LABEL]
    assert not any("targets" in note for note in alone.notes)


def test_classes_may_be_listed_in_an_order_of_their_own():
    labels = {
        "species": {"kind": "classification", "classes": ["bee", "ant", "NA"]},
        "tags": {"kind": "multilabel", "delimiter": "|", "classes": ["red", "new", "big"], "empty": "none"},
    }
    splits = table(rows_of_images(), labels=labels).load()
    assert [t.classes for t in splits.targets] == [("bee", "ant", "NA"), ("red", "new", "big")]
    for i, path in enumerate(splits.train.paths):
        number, tags = int(path.stem), splits.train.target("tags")[i]
        assert splits.train.target("species")[i] == number % 3
        expected = [number % 3 > 0, True, number % 3 > 1] if number % 12 != 5 else [0, 0, 0]  # empty: none
        assert tags.tolist() == expected


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cached_and_limited_images_keep_their_targets(cache):
    splits = table(rows_of_images(), labels=LABELS_OF_ALL, cache=cache, limit=9, test=0).load()
    assert len(splits.train) == 9
    for split in (splits.train, splits.validation):
        for i, image in enumerate(split.images):
            for name, values in expected_of(int(image[0, 0, 0])).items():
                np.testing.assert_array_equal(split.target(name)[i], values)


def test_parquet_holds_the_same_targets_as_csv():
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = rows_of_images()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["weight"] = [float(row["weight"]) if row["weight"] else float("nan") for row in rows]
    columns["young"] = [row["young"] == "1" for row in rows]
    columns["wet"] = [{"true": 1, "0.0": 0, "": None}[row["wet"]] for row in rows]
    parquet.write_table(pa.table(columns), "l.parquet")
    first, second = (
        option.load()
        for option in (table(rows, labels=LABELS_OF_ALL), Table(path="l.parquet", size=8, labels=LABELS_OF_ALL))
    )
    for name in LABELS_OF_ALL:
        np.testing.assert_array_equal(first.train.target(name), second.train.target(name))


def test_rows_without_any_label_are_left_out_and_told():
    rows = rows_of_images()
    for row in rows[:2]:
        row |= {"species": "", "weight": ""}
    rows.append(dict(rows[5]))  # repeats another one, both without tags
    labels = {"species": "classification", "weight": "regression", "tags": {"kind": "multilabel", "delimiter": "|"}}
    for row in rows[:2]:
        row["tags"] = ""
    splits = table(rows, labels=labels).load()
    assert splits.notes[0] == "37 rows: 34 images used, 3 skipped (2 without any label, 1 repeated)"
    assert "species: classification, 3 classes; weight" in splits.notes[2]


def test_without_classes_a_table_is_split_at_random_which_is_told():
    splits = table(rows_of_images(), labels={"x": "regression"}).load()
    assert splits.classes == ()
    assert "held out at random" in splits.notes[-1]
    assert sum("random" in note for note in splits.notes) == 1


WRONG = {
    "a kind that is none": ({"species": "classes"}, {}, ["labels.species = 'classes'", "classification, multilabel"]),
    "no kind": ({"xy": {"columns": ["x", "y"]}}, {}, ["labels.xy.kind", "never guessed"]),
    "an unknown key": ({"tags": {"kind": "multilabel", "separator": "|"}}, {}, ["labels.tags.separator", "delimiter"]),
    "an unknown column": ({"wieght": "regression"}, {}, ["data.labels = 'wieght'", "did you mean 'weight'"]),
    "two columns of classes": (
        {"a": {"kind": "classification", "columns": ["x", "y"]}}, {}, ["must be one column", "columns: [x, y]"]
    ),
    "a delimiter of numbers": (
        {"x": {"kind": "regression", "delimiter": ";"}}, {}, ["labels.x.delimiter = ';'", "in one column"]
    ),
    "an empty delimiter": (
        {"tags": {"kind": "multilabel", "delimiter": ""}}, {}, ["labels.tags.delimiter", "white space"]
    ),
    "empty of numbers": ({"x": {"kind": "regression", "empty": "none"}}, {}, ["labels.x.empty = 'none'"]),
    "classes of numbers": ({"x": {"kind": "regression", "classes": ["a", "b"]}}, {}, ["labels.x.classes"]),
    "a column twice": (
        {"p": {"kind": "regression", "columns": ["x", "x"]}}, {}, ["labels.p.columns", "different names"]
    ),
    "a target twice": (["species", "species"], {}, ["species more than once"]),
    "nothing": ([], {}, ["must name at least one column"]),
    "no number": (
        {"x": "regression", "y": "regression"}, {3: {"x": "3,5"}, 8: {"x": "nan"}, 9: {"x": "1_0"}},
        ["'x' must be a number in 3 of 36 rows: row 5 ('3,5'), row 10 ('nan'), row 11 ('1_0')", "point"],
    ),
    "no zero or one": (
        {"a": {"kind": "multilabel", "columns": ["young"]}, "x": "regression"}, {0: {"young": "-1"}},
        ["'young' must be 0 or 1", "row 2 ('-1')"],
    ),
    "another delimiter": ({"tags": "multilabel"}, {}, ["'tags' holds '|' and no ';'", "delimiter: '|'"]),
    "zeros and ones as names": ({"young": "multilabel"}, {}, ["'young' must hold names", "columns: [young]"]),
    "an unlisted class": (
        {"species": {"kind": "classification", "classes": ["ant", "bee"]}}, {},
        ["must be one of ant, bee", "12 of 36 rows: row 4 ('NA')"],
    ),
    "a missing number of the only target": (
        {"weight": "regression"}, {}, ["'weight' has no label in 4 of 36 rows: row 6"]
    ),
    "missing names of the only target": (
        {"tags": {"kind": "multilabel", "delimiter": "|"}}, {}, ["'tags' has no label in 3", "empty: none"]
    ),
    "an image with two weights": (
        {"species": "classification", "weight": "regression"}, {1: {"path": "0.png", "species": "bee"}},
        ["'weight' contradicts row 2", "row 3 ('0.25')"],
    ),
    "a single class": (
        ["species", "habitat"], {i: {"habitat": "sea"} for i in range(ROWS)}, ["habitat must have at least two classes"]
    ),
    "a target without values": (
        ["species", "habitat"], {i: {"habitat": ""} for i in range(ROWS)}, ["'habitat' has no value in 36"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_about_a_target_names_key_or_rows(case):
    labels, changes, messages = WRONG[case]
    rows = rows_of_images()
    for i, change in changes.items():
        rows[i] |= change
    with pytest.raises((ConfigError, ValidationError)) as error:
        table(rows, labels=labels).load()
    for message in messages:
        assert message in str(error.value), error.value


def test_a_class_of_any_target_must_be_in_the_training_split_of_a_table():
    rows = [row | {"split": "test" if i % 4 == 0 else "train"} for i, row in enumerate(rows_of_images())]
    rows[4]["habitat"] = "air"
    with pytest.raises(
        ConfigError, match=r"'habitat' is a class that no row of the training split has in 1 of 36 rows: row 6"
    ):
        table(rows, labels=["species", "habitat"]).load()


def test_checks_of_the_data_look_at_every_target_and_need_no_classes():
    """12 of 13 habitats in the sea; two copies of an image that differ in a number only."""
    rows = rows_of_images(39)
    for i, row in enumerate(rows):
        row["habitat"] = "wood" if i % 13 == 0 else "sea"
        row["weight"] = row["weight"] or "1"
    rows[2]["species"] = ""
    Path("0.png").write_bytes(Path("3.png").read_bytes())
    both = {"species": "classification", "habitat": "classification", "weight": "regression"}
    none_held_out = {"test": 0, "validation": 0}
    checks = check_data(table(rows, labels=both, **none_held_out).load())
    assert [check.seen for check in checks] == [
        "habitat: 36 images of sea, 3 of wood",
        "2 training images have a duplicate with a different label",
    ]
    checks = check_data(table(rows, labels={"weight": "regression"}, **none_held_out).load())
    assert [check.seen for check in checks] == ["2 training images have a duplicate with a different label"]


def test_new_data_takes_the_classes_that_a_network_knows_of_each_target():
    """A table with two of three species, tags in another order, and nothing held out."""
    rows = [row for i, row in enumerate(rows_of_images()) if i % 3]
    labels = {name: LABELS_OF_ALL[name] for name in ("weight", "species", "tags")}
    known = {LABEL: ("NA", "ant", "bee"), "species": ("NA", "ant", "bee"), "tags": ("red", "new", "big", "old")}
    splits = load_known(table(rows, labels=labels), known, ((0.5,) * 3, (0.2,) * 3))
    assert splits.undivided
    assert len(splits.train) == 24
    assert splits.classes == splits.targets[1].classes == known["species"]
    assert splits.targets[2].classes == known["tags"]
    for i, path in enumerate(splits.train.paths):
        number = int(path.stem)
        assert splits.train.target("species")[i] == expected_of(number)["species"]
        if number % 12 != 5:
            assert splits.train.target("tags")[i].tolist() == [number % 3 > 0, True, number % 3 > 1, False]
    with pytest.raises(ConfigError, match="'species' is not a class of the checkpoint"):
        load_known(table(rows, labels=labels), known | {"species": ("NA", "bee")}, ((0.5,) * 3, (0.2,) * 3))


def test_the_digest_of_data_covers_every_target():
    rows = rows_of_images()
    labels = {"species": "classification", "weight": "regression"}
    rows[3]["species"] = ""
    first = table(rows, labels=labels).load().digest
    np.random.default_rng(0).shuffle(rows)
    assert table(rows, labels=labels).load().digest == first
    rows[0]["weight"] = "17"
    assert table(rows, labels=labels).load().digest != first
    weights = [arrays(species=CLASSES, weight=NUMBERS + add).load().digest for add in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
