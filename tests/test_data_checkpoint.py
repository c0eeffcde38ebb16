"""A checkpoint knows its data: other labels are refused, other images are stated, new data is evaluated as a whole."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import load, result_of
from PIL import Image

COLORS = {"a": (200, 40, 40), "b": (40, 200, 40), "c": (40, 40, 200), "zebra": (200, 40, 40), "d": (9, 9, 9)}
SMALL = (
    "data.size=8", "epochs=1", "batch_size=16", "architecture.widths=[4]", "regularizer=[]", "device=cpu", "precision=float32",
    "observer=[checkpoint,history_file,console]", "data.on_error=raise",
)  # fmt: skip


def images(root: Path, first: int = 0, **counts: int) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            noise = np.random.default_rng([i, *name.encode()]).normal(0, 20, (9, 9, 3))
            Image.fromarray(np.clip(COLORS[name] + noise, 0, 255).astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def trained(train, tmp_path):
    """A run on the directory d with 20 images of each of a, b, and c."""
    images(tmp_path / "d", a=20, b=20, c=20)
    code, _, err = train("data=folder", "data.root=d", *SMALL, "output=run")
    assert code == 0, err
    return tmp_path


def changed(root: Path, change: str) -> None:
    """Apply a change to a copy of the data."""
    if change == "another class":
        images(root, d=20)
    elif change == "a renamed class":
        (root / "a").rename(root / "zebra")
    elif change == "a class less":
        shutil.rmtree(root / "b")
    elif change == "more images":
        images(root, first=100, a=20, b=20, c=20)
    elif change == "fewer images":
        [path.unlink() for path in (root / "a").glob("1*.png")]
    elif change == "other images":
        for path in list((root / "a").iterdir()):
            path.rename(path.with_name(f"new-{path.name}"))


REFUSED = {
    "another class": ["with d", "3 classes (a, b, c)", "4 classes (a, b, c, d)"],
    "a renamed class": ["without a and with zebra", "3 classes (a, b, c)", "3 classes (b, c, zebra)"],
    "a class less": ["without b", "2 classes (a, c)"],
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_resumed_run_refuses_other_classes_and_lists_both(change, trained, train):
    shutil.copytree("d", "e")
    changed(trained / "e", change)
    code, _, err = train("resume=run", "epochs=2", "data.root=e")
    assert code == 2
    assert all(text in err for text in REFUSED[change]), err
    assert load("run")["state"]["clock"]["epoch"] == 1, "the run is as before"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("more images", "86 training images instead of 43"), ("fewer images", "training images instead of 43"),
        ("other images", "as many images, but not the same ones"), ("nothing", ""),
    ],
)  # fmt: skip
def test_a_resumed_run_states_that_the_images_have_changed(change, expected, trained, train):
    shutil.copytree("d", "moved")
    changed(trained / "moved", change)
    code, out, err = train("resume=run", "epochs=2", "data.root=moved")
    assert code == 0, err
    assert ("the data has changed since the checkpoint" in out) == bool(expected)
    assert expected in out


def test_a_resumed_run_refuses_images_of_another_shape(trained, train):
    code, _, err = train("resume=run", "epochs=2", "data.channels=1")
    assert code == 2
    assert "(3, 8, 8), the data has (1, 8, 8)" in err


def test_paths_in_the_config_are_absolute_and_a_run_is_evaluated_from_another_directory(trained, train, monkeypatch):
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["root"] == str(trained / "d")
    (trained / "elsewhere").mkdir()
    monkeypatch.chdir(trained / "elsewhere")
    code, out, err = train("job=evaluate", f"checkpoint={trained / 'run'}", "output=evaluated")
    assert code == 0, err
    assert "on 12 test images" in out


def test_a_network_with_the_same_head_is_not_finetuned_on_other_classes(trained, train):
    shutil.copytree("d", "e")
    changed(trained / "e", "a renamed class")
    words = ("data=folder", "data.root=e", *SMALL, "initialization=pretrained", "initialization.path=run")
    code, _, err = train(*words, "initialization.head=same", "output=same")
    assert code == 2
    assert "3 classes (a, b, c)" in err
    assert "3 classes (b, c, zebra)" in err
    assert train(*words, "initialization.head=new", "output=new")[0] == 0


def per_class(folder: str) -> dict[str, int]:
    return {row["class"]: row["images"] for row in result_of(folder)["classes"]}


@pytest.mark.parametrize("split", ["auto", "all"])
def test_new_data_is_evaluated_as_a_whole_by_class_name(split, trained, train):
    images(trained / "n", first=500, a=10, c=4)
    code, out, err = train("job=evaluate", "checkpoint=run", "data.root=n", f"job.split={split}", "output=e")
    assert code == 0, err
    assert per_class("e") == {"a": 10, "b": 0, "c": 4}
    assert "on all 14 images" in out
    assert "14 files: 14 images used" in out
    assert "no images of 1 of the 3 classes: b" in out
    assert result_of("e")["split"] == "all"
    assert result_of("e")["data"]["images"] == 14


def test_the_evaluation_of_new_data_equals_that_of_its_images_one_by_one(trained, train):
    """job=predict, which knows no labels, is the independent reader."""
    images(trained / "n", first=500, a=6, b=6, c=6)
    assert train("job=evaluate", "checkpoint=run", "data.root=n", "output=e")[0] == 0
    assert train("job=predict", "checkpoint=run", "job.images=n", "output=p")[0] == 0
    with Path("p/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    correct = [Path(row["file"]).parent.name == row["class"] for row in rows]
    assert result_of("e")["all"]["accuracy"] == pytest.approx(np.mean(correct))


def test_new_data_with_splits_of_its_own_is_evaluated_on_its_test_split_without_holding_out(trained, train):
    for split, counts in {"train": {"a": 9, "b": 9}, "test": {"b": 7}}.items():
        images(trained / "n" / split, first=500, **counts)
    code, _, err = train("job=evaluate", "checkpoint=run", "data.root=n", "output=e")
    assert code == 0, err
    assert per_class("e") == {"a": 0, "b": 7, "c": 0}
    assert train("job=evaluate", "checkpoint=run", "data.root=n", "job.split=train", "output=f")[0] == 0
    assert per_class("f") == {"a": 9, "b": 9, "c": 0}
    assert train("job=evaluate", "checkpoint=run", "data.root=n", "job.split=validation", "output=g")[0] == 2


def test_the_training_data_in_another_place_is_not_new_data(trained, train):
    """Its images would be known to the network."""
    shutil.move("d", "moved")
    code, _, err = train("job=evaluate", "checkpoint=run", "data.root=moved", "output=e")
    assert code == 0, err
    assert sum(per_class("e").values()) == 12
    assert result_of("e")["split"] == "test"


def test_new_data_with_an_unknown_class_is_refused_with_the_known_ones(trained, train):
    images(trained / "n", a=4, zebra=4)
    code, _, err = train("job=evaluate", "checkpoint=run", "data.root=n", "output=e")
    assert code == 2
    assert "zebra" in err
    assert "the checkpoint has a, b, c" in err


def test_a_table_is_evaluated_with_the_classes_of_the_network(trained, train):
    images(trained / "n", first=500, a=3, c=3)
    rows = [(path.relative_to(trained / "n"), path.parent.name) for path in sorted((trained / "n").rglob("*.png"))]
    (trained / "n" / "l.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    words = ("job=evaluate", "checkpoint=run", "data=table", "data.path=n/l.csv", "data.size=8")
    code, _, err = train(*words, "output=e")
    assert code == 0, err
    assert per_class("e") == {"a": 3, "b": 0, "c": 3}
    (trained / "n" / "l.csv").write_text("path,label\n" + "".join(f"{path},{label}x\n" for path, label in rows))
    code, _, err = train(*words, "output=f")
    assert code == 2
    assert "row 2 ('ax')" in err


def test_arrays_are_evaluated_also_if_only_some_classes_occur(train, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=np.arange(60) % 3)
    np.savez(tmp_path / "b.npz", x_train=pixels[:10], y_train=np.full(10, 2))
    words = [word for word in SMALL if not word.startswith(("data.size", "data.on_error"))]
    assert train("data=arrays", "data.path=a.npz", *words, "output=run")[0] == 0
    code, _, err = train("job=evaluate", "checkpoint=run", "data.path=b.npz", "output=e")
    assert code == 0, err
    assert per_class("e") == {"0": 0, "1": 0, "2": 10}


def test_arrays_in_another_order_or_of_another_type_are_refused_with_the_conversion_to_make(train, tmp_path):
    """The conversion that the error names is applied, and the arrays are read."""
    right = np.random.default_rng(0).integers(0, 256, (30, 8, 12, 3), np.uint8)
    given = {
        "first channels": right.transpose(0, 3, 1, 2),
        "images last": right.transpose(1, 2, 3, 0),
        "gray images last": right[..., 0].transpose(1, 2, 0),
        "fractions": right / 255,
        "floating-point numbers": right.astype(np.float32),
        "64 bits": right.astype(np.int64),
    }
    for name, x in given.items():
        np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(30) % 3)
        code, _, err = train("data=arrays", "data.path=a.npz", "job=plan", "output=p", "batch_size=8")
        assert code == 2, name
        hint = err.splitlines()[1].strip()
        expression = re.search(r"(\(?x[^,:=]*\.(transpose|round|astype)\(.*?\)(\.astype\(np\.uint8\))?)(,|$)", hint)
        assert expression is not None, (name, err)
        converted = eval(expression[1], {"x": x, "np": np})
        assert np.array_equal(converted, right[..., 0] if name.startswith("gray") else right), name
