"""Duplicates and wrong labels are found where they were put, and nothing is found where there is nothing."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import result_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.analysis.cleaning import exact_duplicates, label_errors, near_duplicates
from trainer.data import Digits
from trainer.data.folds import fold, fold_of_each
from trainer.data.thumbnails import thumbnails


def slow_label_errors(p: np.ndarray, labels: np.ndarray) -> list[int]:
    """Confident learning by its definition, image by image."""
    n, k = p.shape
    mean = [sum(p[i][j] for i in range(n) if labels[i] == j) / max(1, sum(labels == j)) for j in range(k)]
    found = []
    for i in range(n):
        confident = [j for j in range(k) if (labels == j).any() and p[i][j] >= mean[j]]
        if confident and max(confident, key=lambda j: p[i][j]) != labels[i]:
            found.append(i)
    return sorted(found, key=lambda i: (p[i][labels[i]], i))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), k=st.integers(2, 6))
def test_label_errors_equal_the_definition(seed, n, k):
    rng = np.random.default_rng(seed)
    p, labels = rng.dirichlet(np.ones(k) * 0.5, n), rng.integers(0, k, n)
    assert [error.image for error in label_errors(p, labels)] == slow_label_errors(p, labels)


def test_flipped_labels_are_found_among_out_of_fold_predictions_of_real_digits():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    splits = Digits(test=0, validation=0).load()
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(splits.train), 60, replace=False)
    labels = splits.train.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, 60)) % 10
    x = splits.train.images.reshape(len(labels), -1) / 255
    p = cross_val_predict(LogisticRegression(max_iter=200), x, labels, cv=3, method="predict_proba")
    found = label_errors(p, labels)
    indices = {error.image for error in found}
    assert len(indices & set(wrong)) >= 45, "recall 75 %"
    assert len(indices & set(wrong)) >= 0.6 * len(indices), "precision 60 %"
    first = [error for error in found[:30] if error.image in set(wrong)]
    assert len(first) >= 27, "the most suspicious ones first"
    assert np.mean([error.suggested == splits.train.labels[error.image] for error in first]) > 0.9


def photograph(seed: int, size: tuple[int, int] = (90, 120)) -> Image.Image:
    """Structure of several scales, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        np.array(
            Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
        )
        for n in (3, 6, 12)
    ]
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


def changed(image: Image.Image, how: str) -> Image.Image:
    if how == "JPEG":
        output = io.BytesIO()
        image.save(output, "JPEG", quality=40)
        return Image.open(output)
    if how == "smaller":
        return image.resize((70, 50))
    if how == "darker":
        return image.point(lambda v: int(0.7 * v + 10))
    return image


@pytest.mark.parametrize("how", ["JPEG", "smaller", "darker", "same"])
def test_near_duplicates_are_found_after_common_changes_and_no_others(how):
    images = [photograph(i) for i in range(60)] + [changed(photograph(7), how), changed(photograph(30), how)]
    small = np.stack([np.array(image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)) for image in images])
    pairs = near_duplicates(small)
    assert {(pair.first, pair.second) for pair in pairs} == {(7, 60), (30, 61)}
    assert all(0.995 <= pair.similarity <= 1 for pair in pairs)


def test_images_of_a_single_color_are_no_near_duplicates():
    assert near_duplicates(np.stack([np.full((16, 16, 3), v, np.uint8) for v in (0, 0, 128, 255)])) == []
    assert near_duplicates(np.zeros((0, 16, 16, 3))) == []


def test_real_digits_have_no_near_duplicates():
    splits = Digits(test=0, validation=0).load()
    assert len(near_duplicates(thumbnails(splits.train, np.arange(len(splits.train))))) <= 1


def test_every_repeated_image_is_listed_once_with_the_first():
    assert [(p.first, p.second) for p in exact_duplicates([1, 2, 1, 1, 3, 2])] == [(0, 2), (0, 3), (1, 5)]


def test_folds_and_the_fold_of_each_image_agree():
    splits = Digits(validation=0.2).load()
    of_each = fold_of_each(np.concatenate([splits.train.labels, splits.validation.labels]), 4, 0)
    images = np.concatenate([splits.train.images, splits.validation.images])
    for i, part in enumerate(fold(splits, 4, 0)):
        assert np.array_equal(part.validation.images, images[of_each == i])


def make_data(root: Path) -> None:
    """Two classes of clearly different photographs in two splits; the returned changes are made on top."""
    for split, numbers in (("train", range(20)), ("test", range(20, 26))):
        for k, name in enumerate(("dark", "$light")):
            (root / split / name).mkdir(parents=True)
            for i in numbers:
                pixels = np.array(photograph(100 * k + i, (40, 40))) // 3 + 150 * k
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")
    shutil.copy(root / "train/dark/1.png", root / "test/dark/copy.png")
    Image.open(root / "train/dark/2.png").resize((30, 30)).save(root / "test/dark/near.png")
    shutil.copy(root / "train/dark/3.png", root / "train/$light/both.png")
    (root / "train/dark/4.png").rename(root / "train/$light/wrong.png")


SMALL = (
    "job=doctor", "data=folder", "data.root=d", "data.size=16", "data.validation=0", "architecture.widths=[4]", "batch_size=8",
    "device=cpu", "precision=float32", "job.batches=2", "job.steps=20", "job.passes=20", "regularizer=[]", "epochs=4",
)  # fmt: skip


@pytest.mark.parametrize("folds", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_doctor_lists_what_was_put_into_the_data(folds, train, tmp_path):
    make_data(tmp_path / "d")
    code, out, err = train(*SMALL, f"job.folds={folds}", "output=run")
    assert code in (0, 1), err
    with Path("run/suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["kind"], Path(row["file"]).name, Path(row["other_file"]).name) for row in rows}
    assert ("exact duplicate, two splits", "copy.png", "1.png") in found
    assert ("near duplicate, two splits", "near.png", "2.png") in found
    assert any(kind == "exact duplicate, two labels" and {a, b} == {"both.png", "3.png"} for kind, a, b in found)
    wrong = [row for row in rows if row["kind"] == "label error"]
    assert "wrong.png" in {Path(row["file"]).name for row in wrong}
    assert {row["other_label"] for row in wrong if Path(row["file"]).name == "wrong.png"} == {"dark"}
    assert len(rows) <= 7
    with Image.open("run/suspects.png") as sheet:
        assert sheet.size > (100, 100)
    checks = {check["name"] for check in result_of("run")["checks"]}
    assert {"near duplicates", "label errors", "leakage"} <= checks
    assert "suspects.csv" in out


def test_clean_data_has_an_empty_list(train, tmp_path):
    code, _, err = train(
        "job=doctor", "data=fake", "data.size=12", "data.count=200", "data.num_classes=4", "architecture.widths=[4]",
        "batch_size=16", "device=cpu", "job.batches=2", "job.steps=20", "job.passes=20", "output=run",
    )  # fmt: skip
    assert code in (0, 1), err
    assert len(Path("run/suspects.csv").read_text().splitlines()) == 1
    assert not Path("run/suspects.png").exists()


def report_of(train, *overrides: str) -> str:
    code, _, err = train(
        "data=folder", "data.root=d", "data.size=16", "device=cpu", "batch_size=8", "output=run", *overrides
    )
    assert code == 0, err
    return Path("run/report.md").read_text()


def test_the_report_says_what_was_looked_for_in_the_data_and_what_was_found(train, tmp_path):
    make_data(tmp_path / "d")
    report = report_of(train, "epochs=12", "data.validation=0", "regularizer=[]")
    assert "byte for byte, among 55 of 55: 1 in two splits, 2 for training with two labels." in report
    assert "near duplicates" in report
    assert "among 55: 1 in two splits, none with two labels. suspects.csv lists them." in report
    assert "`train job=doctor data=folder data.root=d data.size=16 data.validation=0` does so" in report
    assert "![" in report.split("Suspicious images")[1]
    with Path("run/suspects.csv").open(newline="") as file:
        kinds = [(row["kind"], Path(row["file"]).name, Path(row["other_file"]).name) for row in csv.DictReader(file)]
    assert ("near duplicate, two splits", "near.png", "2.png") in kinds
    assert [kind for kind, *_ in kinds].count("exact duplicate, two splits") == 1


def test_a_wrong_validation_label_is_in_the_report(train, tmp_path):
    make_data(tmp_path / "d")
    (tmp_path / "d" / "test").rename(tmp_path / "d" / "val")
    (tmp_path / "d" / "val" / "$light" / "25.png").rename(tmp_path / "d" / "val" / "dark" / "wrong.png")
    report = report_of(train, "epochs=12")
    section = report.split("## Data")[1].split("## Training")[0]
    assert "1 of the validation labels, judged by the network" in section
    (row,) = [line for line in section.splitlines() if "| dark |" in line]
    assert "| dark | &#36;light |" in row


def test_many_images_are_left_to_the_doctor_and_the_report_says_so(train, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.observers.diagnosis.MAX_NEAR", 20)
    make_data(tmp_path / "d")
    report = report_of(train, "epochs=1")
    assert "not looked for among 55, to save time" in report
    assert "job=doctor" in report
