"""Draws every augmentation: a grey and a colour picture, the original and seven draws, both ways where there are two.

python scripts/contact_sheet.py [docs/pictures/augmentation.png] [--only rotation,crop]
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
from trainer.config.instantiate import instantiate

CONF = Path(__file__).resolve().parent.parent / "conf" / "augmentation"
DRAWS = 7


def originals() -> dict[str, np.ndarray]:
    """Drawn here, so that nobody else's rights are touched: a digit (28, 28, 1), and a house in colour (96, 96, 3)."""
    digit = np.zeros((112, 112), np.uint8)
    cv2.putText(digit, "5", (26, 88), cv2.FONT_HERSHEY_SIMPLEX, 3.0, 255, 12, cv2.LINE_AA)
    house = np.full((96, 96, 3), (150, 200, 240), np.uint8)
    house[66:] = (90, 160, 80)
    cv2.circle(house, (78, 18), 9, (250, 210, 60), -1, cv2.LINE_AA)
    cv2.rectangle(house, (22, 42), (64, 76), (210, 120, 90), -1)
    cv2.fillPoly(house, [np.array([(16, 42), (43, 18), (70, 42)])], (140, 50, 50), cv2.LINE_AA)
    cv2.rectangle(house, (29, 50), (40, 60), (250, 245, 200), -1)
    cv2.rectangle(house, (48, 54), (58, 76), (80, 50, 40), -1)
    return {"grey": cv2.resize(digit, (28, 28), interpolation=cv2.INTER_AREA)[..., None], "colour": house}


def load(name: str) -> list[Any]:
    """The transforms of an option file; of a preset, those of its parts with what it overrides."""
    tree = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    parts = [p for p in tree.pop("defaults", list(tree)) if p != "_self_"]
    found = []
    for part in parts:
        node = yaml.safe_load((CONF / f"{part}.yaml").read_text())[part] | tree.get(part, {})
        option, problems = instantiate(node, part, str(CONF))
        if problems:
            raise SystemExit("\n".join(map(str, problems)))
        found.append(option)
    return found


def rows(name: str, image: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The original and its draws, by each way that exists."""
    transforms, (h, w, c) = load(name), image.shape
    found = {"workers": PerImagePipeline(transforms, (c, h, w))([image] * DRAWS, np.random.default_rng(0))}
    if not unsupported(transforms):
        x = torch.from_numpy(image).permute(2, 0, 1).expand(DRAWS, -1, -1, -1).contiguous()
        drawn = BatchedPipeline(transforms, (c, h, w))(x, np.random.default_rng(0))
        found["resident"] = list(drawn.permute(0, 2, 3, 1).to(torch.uint8).numpy())
    return {way: [image, *pictures] for way, pictures in found.items()}


def draw(names: list[str], file: Path) -> None:
    """One row for each option and way: the digit's eight pictures, then the house's."""
    lines = []
    for name in names:
        sheets = {kind: rows(name, image) for kind, image in originals().items()}
        lines += [(name, way, sheets["grey"][way] + sheets["colour"][way]) for way in sheets["grey"]]
    columns = 2 * (DRAWS + 1)
    figure, axes = plt.subplots(len(lines), columns, figsize=(columns * 0.8, len(lines) * 0.84), squeeze=False)
    for line, (name, way, pictures) in zip(axes, lines, strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{name}\n{way}", rotation=0, ha="right", va="center", fontsize=8)
    for column in (0, DRAWS + 1):
        axes[0, column].set_title("original", fontsize=7)
    figure.subplots_adjust(left=0.12, right=0.995, top=0.98, bottom=0.005, wspace=0.04, hspace=0.06)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    print(f"{file}: {len(lines)} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/pictures/augmentation.png"))
    parser.add_argument("--only", default="", help="options, separated by commas; default: all")
    given = parser.parse_args()
    everything = [f.stem for f in sorted(CONF.glob("*.yaml")) if f.stem != "none"]
    draw([n for n in given.only.split(",") if n] or everything, given.file)
