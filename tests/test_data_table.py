"""Labels from a table: the splits equal those of a directory, whatever the file looks like; errors name row and column."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.data import Folder, Table
from trainer.data.table_file import read_table
from trainer.errors import ConfigError


def write_images(root: Path, classes: dict[str, int], split: str = "") -> list[dict[str, str]]:
    """Images in one directory per class; the rows of their table."""
    rows = []
    for name, count in classes.items():
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([i, len(name)]).integers(0, 256, (9, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / name / f"{i}.png")
            rows.append({"path": str(Path(split) / name / f"{i}.png"), "label": name, "split": split})
    return rows


def write_csv(file: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def table(file: Path, **options) -> Table:
    return Table(**({"path": str(file), "size": 8} | options))


def assert_same_splits(a, b) -> None:
    assert a.classes == b.classes
    for part in ("train", "validation", "test"):
        first, second = getattr(a, part), getattr(b, part)
        assert (first is None) == (second is None), part
        if first is not None:
            assert [p.resolve() for p in first.paths] == [p.resolve() for p in second.paths]
            assert np.array_equal(first.labels, second.labels)
    assert (a.mean, a.std) == (b.mean, b.std)


def test_a_shuffled_table_gives_the_splits_of_the_directory(tmp_path):
    rows = write_images(tmp_path / "d", {"ant": 8, "bee": 6})
    np.random.default_rng(0).shuffle(rows)
    file = write_csv(tmp_path / "d" / "labels.csv", [{k: row[k] for k in ("path", "label")} for row in rows])
    assert_same_splits(table(file).load(), Folder(root=str(tmp_path / "d"), size=8).load())


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "VALID", "Testing"), (" train", "dev", "test ")]
)
def test_a_column_assigns_the_splits_in_the_usual_spellings(names, tmp_path):
    rows = []
    for split, spelling in zip(("train", "val", "test"), names, strict=True):
        rows += [row | {"split": spelling} for row in write_images(tmp_path / "images", {"ant": 3, "bee": 2}, split)]
    file = write_csv(tmp_path / "images" / "labels.csv", rows)
    file.rename(tmp_path / "labels.csv")
    splits = table(tmp_path / "labels.csv", root=str(tmp_path / "images")).load()
    (tmp_path / "images" / "labels.csv").unlink(missing_ok=True)
    assert_same_splits(splits, Folder(root=str(tmp_path / "images"), size=8).load())


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [
        ("l.csv", ",", "utf-8"), ("l.csv", ";", "utf-8-sig"), ("l.CSV", "\t", "utf-16"),
        ("l.tsv", "\t", "utf-8-sig"), ("l.txt", ",", "utf-8"),
    ],
)  # fmt: skip
def test_labels_are_text_in_every_form_of_file(name, delimiter, encoding, tmp_path):
    """Names that spreadsheets and data frames like to convert, and quoted ones."""
    names = ["NA", "None", "nan", "01", "1", "1.0", "True", "Käfer", "a,b", "x;y", 'say "ant"', "two\nlines", "a  b"]
    rows = [{"path": f"{i}.png", "label": label} for i, label in enumerate(names)]
    assert read_table(write_csv(tmp_path / name, rows, delimiter, encoding)).columns["label"] == names


def test_parquet_holds_the_same_as_csv(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = write_images(tmp_path, {"ant": 4, "bee": 4, "NA": 4})
    columns = {name: [row[name] for row in rows] for name in ("path", "label")}
    parquet.write_table(pa.table(columns | {"image": [{"bytes": b"x"}] * 12}), tmp_path / "l.parquet")
    file = write_csv(tmp_path / "l.csv", [{"path": row["path"], "label": row["label"]} for row in rows])
    assert_same_splits(table(tmp_path / "l.parquet", images="path").load(), table(file).load())
    with pytest.raises(ConfigError, match=r"data\.images=path or data\.images=image"):
        table(tmp_path / "l.parquet").load()


def test_numbers_in_parquet_are_class_names_as_in_csv(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"n": [3, 10, None], "b": [True, False, None]}), tmp_path / "l.parquet")
    columns = read_table(tmp_path / "l.parquet").columns
    assert columns == {"n": ["3", "10", ""], "b": ["True", "False", ""]}


def test_paths_without_ending_with_backslashes_and_absolute_ones_are_found(tmp_path):
    rows = write_images(tmp_path / "i", {"ant": 4, "bee": 4})
    for i, row in enumerate(rows):
        path = row["path"]
        row["path"] = [path, path.removesuffix(".png"), path.replace("/", "\\"), str(tmp_path / "i" / path)][i % 4]
    assert len(table(write_csv(tmp_path / "i" / "l.csv", rows), test=0, validation=0, split="none").load().train) == 8


def test_labels_that_differ_only_in_their_unicode_form_or_outer_spaces_are_one_class(tmp_path):
    rows = write_images(tmp_path, {"e": 3, "bee": 3})
    for row, label in zip(rows, ["\u00e9", "e\u0301", " \u00e9 "], strict=False):
        row["label"] = label
    assert table(write_csv(tmp_path / "l.csv", rows), split="none").load().classes == ("bee", "\u00e9")


def test_what_is_not_used_is_counted(tmp_path):
    rows = write_images(tmp_path, {"ant": 6, "bee": 6})
    for i, row in enumerate(rows):
        row |= {"split": "test" if i % 3 == 0 else "train", "weather": "rain"}
    rows[0]["label"] = ""
    (tmp_path / rows[1]["path"]).write_bytes(b"no image")
    rows += [rows[2], {**rows[4], "path": "gone.png"}]
    notes = table(write_csv(tmp_path / "l.csv", rows), on_error="skip").load().notes
    assert notes == (
        "14 rows: 10 images used, 4 skipped (1 corrupt: ant/1.png, 1 without a file: gone.png, 1 repeated,"
        " 1 without label in the test split)",
        "columns path, label, split are used, not weather",
    )


WRONG = {
    "an unknown label column": ({"labels": "lable"}, {}, ["data.labels = 'lable'", "did you mean 'label'", "path, label"]),
    "an unknown image column": ({"images": "file"}, {}, ["data.images = 'file'", "path, label, split"]),
    "an unknown split column": ({"split": "fold"}, {}, ["data.split = 'fold'"]),
    "an unknown split": ({}, {3: {"split": "tset"}}, ["'split' must be one of train", "1 of 8 rows: row 5 ('tset')"]),
    "an empty split": ({}, {3: {"split": ""}}, ["row 5 ('')"]),
    "an empty label": ({"split": "none"}, {0: {"label": ""}, 2: {"label": " "}}, ["'label' has no label in 2", "row 2", "row 4"]),
    "an empty training label": ({}, {1: {"label": ""}}, ["row 3"]),
    "a missing file": ({}, {1: {"path": "x.png"}, 5: {"path": ""}}, ["names no file in 2 of 8", "row 3 ('x.png')", "row 7 ('')"]),
    "a class of the test split alone": ({}, {0: {"split": "test", "label": "cat"}}, ["no row of the training", "row 2 ('cat')"]),
    "two labels of one image": ({"split": "none"}, {1: {"path": "ant/0.png", "label": "bee"}}, ["row 3", "contradicts row 2"]),
    "an image in two splits": ({}, {1: {"path": "ant/0.png", "split": "test"}}, ["'split' contradicts row 2", "row 3"]),
    "no training rows": ({}, {i: {"split": "test"} for i in range(8)}, ["no row of the training"]),
    "a missing root": ({"root": "nowhere"}, {}, ["data.root = 'nowhere': no such directory"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_row_and_column(case, tmp_path):
    options, changes, expected = WRONG[case]
    rows = [row | {"split": "train"} for row in write_images(tmp_path, {"ant": 4, "bee": 4})]
    for i, change in changes.items():
        rows[i] |= change
    with pytest.raises(ConfigError) as error:
        table(write_csv(tmp_path / "l.csv", rows), **options).load()
    assert all(text in str(error.value) for text in expected), error.value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"path,label\na.png,ant\nb.png\n", "row 3 has 1 cells, the header has 2"),
        (b"path,label\na.png,\xe4\n", "row 2 is not UTF-8"),
        (b'path,label\na.png,"ant\n', "line"),
        (b"", "no rows"),
        (b"path,label\n\n", "no rows"),
        (b"path,label,label\na,b,c\n", "several columns of the name label"),
    ],
)
def test_a_damaged_table_is_an_error_that_names_the_place(content, expected, tmp_path):
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        read_table(tmp_path / "l.csv")


def test_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "l.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"\.csv.*\.parquet"):
        read_table(tmp_path / "l.xlsx")
    with pytest.raises(ConfigError, match="no such file"):
        read_table(tmp_path / "none.csv")


LINES = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.tuples(LINES, LINES), min_size=1, max_size=6), delimiter=st.sampled_from(",;\t"))
def test_every_cell_that_was_written_is_read_without_its_outer_spaces(cells, delimiter, tmp_path):
    rows = [{"a": a, "b": b} for a, b in cells if a.strip() or b.strip()]
    if rows:
        columns = read_table(write_csv(tmp_path / "l.csv", rows, delimiter)).columns
        assert columns == {name: [row[name].strip() for row in rows] for name in ("a", "b")}


def test_the_command_of_the_documentation_trains(train, tmp_path):
    rows = write_images(tmp_path, {"ant": 12, "bee": 12})
    for i, row in enumerate(rows):
        row["split"] = ("train", "test")[i % 4 == 0]
    write_csv(tmp_path / "labels.csv", [{"file": r["path"], "species": r["label"], "part": r["split"]} for r in rows])
    code, out, err = train(
        "data=table", "data.path=labels.csv", "data.images=file", "data.labels=species", "data.split=part", "epochs=1",
        "batch_size=8", "data.size=8", "regularizer=[]", "architecture.widths=[4,8]", "observer=[console]", "device=cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "6 test" in out
    assert "24 rows: 24 images used" in out
