"""Files in the format of CelebA: random images, and annotations from which every target can be told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from torchvision import datasets

ATTRIBUTES = ("5_o_Clock_Shadow", "Male", "Smiling", "Young")
POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


@dataclass
class Faces:
    """What was written: attributes (N, 4) of 0 and 1, landmarks (N, 10), the person (N,) and the split (N,) of each image."""

    root: Path
    attributes: np.ndarray
    landmarks: np.ndarray
    people: np.ndarray
    splits: np.ndarray


def write_faces(root: Path, count: int = 60, size: tuple[int, int] = (218, 178)) -> Faces:
    """Write ``count`` images and their annotations to ``root/celeba``; the last fifths are validation and test images."""
    base, rng = root / "celeba", np.random.default_rng(0)
    (base / "img_align_celeba").mkdir(parents=True)
    attributes = rng.integers(0, 2, (count, len(ATTRIBUTES)))
    attributes[: count // 2, 2] = np.arange(count // 2) % 2
    landmarks = rng.integers(40, 140, (count, 10))
    people = 7 + np.arange(count) // 4 * 3
    splits = np.arange(count) * 5 // count
    splits = np.where(splits < 3, 0, splits - 2)
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    for name, labels in zip(names, attributes, strict=True):
        image = rng.integers(0, 120, (*size, 3)) + 100 * labels[2]  # smiling faces are brighter
        cv2.imwrite(str(base / "img_align_celeba" / name), image.astype(np.uint8))

    def table(file: str, rows: np.ndarray, header: str | None = None, end: str = "") -> None:
        lines = [
            f"{name}  {' '.join(f'{v:2d}' for v in np.atleast_1d(row))}" for name, row in zip(names, rows, strict=True)
        ]
        (base / file).write_text("\n".join([*([f"{count}", header + end] if header else []), *lines]) + "\n")

    table("list_attr_celeba.txt", 2 * attributes - 1, " ".join(ATTRIBUTES), end=" ")
    table("list_landmarks_align_celeba.txt", landmarks, POINTS)
    table("list_bbox_celeba.txt", rng.integers(0, 400, (count, 4)), "image_id x_1 y_1 width height")
    table("identity_CelebA.txt", people)
    table("list_eval_partition.txt", splits)
    return Faces(root, attributes, landmarks, people, splits)


def accept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision expect the checksums of the files in ``root/celeba`` instead of the published ones."""
    listed = [
        (
            file_id,
            hashlib.md5((root / "celeba" / name).read_bytes()).hexdigest() if name.endswith(".txt") else md5,
            name,
        )
        for file_id, md5, name in datasets.CelebA.file_list
    ]
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
