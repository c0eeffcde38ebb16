"""Draw every augmentation of a grayscale and a color image: the original and seven samples, per batch and per image.

python scripts/contact_sheet.py [docs/images/augmentation.png] [--only rotation,crop]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import torch
import yaml
from matplotlib import pyplot as plt

from trainer.augmentation.batched import BatchedPipeline, unsupported
from trainer.augmentation.per_image import PerImagePipeline
from trainer.instantiate import instantiate

CONF = Path(__file__).resolve().parent.parent / "conf" / "augmentation"
SAMPLES = 7


def originals() -> dict[str, np.ndarray]:
    """A digit (28, 28, 1) and a house in color (96, 96, 3), drawn here because they need no license."""
    digit = np.zeros((112, 112), np.uint8)
    cv2.putText(digit, "5", (26, 88), cv2.FONT_HERSHEY_SIMPLEX, 3.0, 255, 12, cv2.LINE_AA)
    house = np.full((96, 96, 3), (150, 200, 240), np.uint8)
    house[66:] = (90, 160, 80)
    cv2.circle(house, (78, 18), 9, (250, 210, 60), -1, cv2.LINE_AA)
    cv2.rectangle(house, (22, 42), (64, 76), (210, 120, 90), -1)
    cv2.fillPoly(house, [np.array([(16, 42), (43, 18), (70, 42)])], (140, 50, 50), cv2.LINE_AA)
    cv2.rectangle(house, (29, 50), (40, 60), (250, 245, 200), -1)
    cv2.rectangle(house, (48, 54), (58, 76), (80, 50, 40), -1)
    return {"grayscale": cv2.resize(digit, (28, 28), interpolation=cv2.INTER_AREA)[..., None], "color": house}


def load(name: str) -> list[Any]:
    """The transforms of an option file. Those of a preset are its parts with the parameters it sets."""
    tree = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    parts = [p for p in tree.pop("defaults", list(tree)) if p != "_self_"]
    transforms = []
    for part in parts:
        node = yaml.safe_load((CONF / f"{part}.yaml").read_text())[part] | tree.get(part, {})
        option, problems = instantiate(node, f"augmentation.{part}")
        if problems:
            raise SystemExit("\n".join(map(str, problems)))
        transforms.append(option)
    return transforms


def rows(name: str, image: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The original and its samples, by each implementation that the transforms have."""
    transforms, (h, w, c) = load(name), image.shape
    samples = {"per image": PerImagePipeline(transforms, (c, h, w))([image] * SAMPLES, np.random.default_rng(0))}
    if not unsupported(transforms):
        x = torch.from_numpy(image).permute(2, 0, 1).expand(SAMPLES, -1, -1, -1).contiguous()
        batch = BatchedPipeline(transforms, (c, h, w))(x, np.random.default_rng(0))
        samples["per batch"] = list(batch.permute(0, 2, 3, 1).to(torch.uint8).numpy())
    return {way: [image, *images] for way, images in samples.items()}


def draw(names: list[str], file: Path) -> None:
    """One row for each option and implementation: the original digit and its samples, then those of the house."""
    lines = []
    for name in names:
        sheets = {kind: rows(name, image) for kind, image in originals().items()}
        lines += [(name, way, sheets["grayscale"][way] + sheets["color"][way]) for way in sheets["grayscale"]]
    columns = 2 * (SAMPLES + 1)
    figure, axes = plt.subplots(len(lines), columns, figsize=(columns * 0.8, len(lines) * 0.84), squeeze=False)
    for line, (name, way, images) in zip(axes, lines, strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{name}\n{way}", rotation=0, ha="right", va="center", fontsize=8)
    for column in (0, SAMPLES + 1):
        axes[0, column].set_title("original", fontsize=7)
    figure.subplots_adjust(left=0.12, right=0.995, top=0.98, bottom=0.005, wspace=0.04, hspace=0.06)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    print(f"{file}: {len(lines)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/images/augmentation.png"))
    parser.add_argument("--only", default="", help="options separated by commas; all if omitted")
    arguments = parser.parse_args()
    all_names = [f.stem for f in sorted(CONF.glob("*.yaml")) if f.stem != "none"]
    draw([n for n in arguments.only.split(",") if n] or all_names, arguments.file)
