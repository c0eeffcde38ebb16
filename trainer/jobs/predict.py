"""``job=predict``: classify images in files."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from trainer.data import FileDataset
from trainer.data.decode import decode, resize, resize_and_center_crop, resize_target
from trainer.data.images import ImageArray
from trainer.data.in_memory import InMemoryLoader
from trainer.data.pillow import SUFFIXES
from trainer.engine.evaluation import TTA, logits
from trainer.errors import ConfigError, Problem
from trainer.files import write_text
from trainer.inference import TrainedModel, data_option, trained
from trainer.run_dir import check_available, create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Predict

CHUNK = 256  # images that are decoded and classified at a time


def predict(option: Predict, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Predict``."""
    check_available(run_dir)
    if option.images is None:
        hint = "job.images=photo.jpg, a directory, '*.png', or - for paths from standard input"
        raise ConfigError(Problem("job.images", None, "must be given", hint))
    checkpoint = trained(config, option.prefer, option.weights)
    paths = list(find_files(option.images))
    if not paths:
        raise ConfigError(Problem("job.images", option.images, "contains no images"))
    precision = checkpoint.precision
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    top = min(option.top, len(checkpoint.info.classes))
    skipped: list[tuple[Path, str]] = []
    output, count = io.StringIO(), 0
    for start in range(0, len(paths), CHUNK):
        images, unreadable = read_images(config, checkpoint, paths[start : start + CHUNK])
        skipped += unreadable
        rows = classify(config, checkpoint, images, top, option.tta)
        text = format_rows(rows, option.format, top, header=count == 0 and bool(rows))
        print(text, end="", flush=True)
        output.write(text)
        count += len(rows)
    for path, reason in skipped:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    name = f"predictions.{option.format}"
    write_text(run_dir / name, output.getvalue())
    result = {
        "status": "finished",
        "stop_reason": "predicted",
        "checkpoint": str(checkpoint.path),
        "weights": checkpoint.weights,
        "images": count,
        "skipped": [str(path) for path, _ in skipped],
    }
    write_json(run_dir / "result.json", result)
    print(f"{count} image{'s' * (count != 1)}, {len(skipped)} skipped; {run_dir / name}", file=sys.stderr)
    return 0 if count else 1


def find_files(places: tuple[str, ...] | str) -> Iterator[Path]:
    """Yield the files that ``job.images`` names.

    Raises:
        ConfigError: A place is neither a file nor a directory, and no glob that matches a file.
    """
    for place in [places] if isinstance(places, str) else places:
        if place == "-":
            yield from (Path(line.strip()) for line in sys.stdin if line.strip())
            continue
        path = Path(place).expanduser()
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        elif path.is_file():
            yield path
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            yield from (Path(match) for match in matches if Path(match).is_file())
        else:
            raise ConfigError(Problem("job.images", place, "no such file or directory"))


def read_images(
    config: Config, checkpoint: TrainedModel, paths: list[Path]
) -> tuple[list[tuple[Path, np.ndarray]], list[tuple[Path, str]]]:
    """Return the images as the network takes them, uint8 (H, W, C), and the unreadable files with the reason."""
    data = data_option(config, checkpoint.info)
    crop = (data.crop, data.resizing) if isinstance(data, FileDataset) else (1.0, "bilinear")
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda path: read_image(path, checkpoint.info.shape, *crop), paths))
    results = list(zip(paths, images, strict=True))
    readable = [(path, image) for path, image in results if not isinstance(image, str)]
    return readable, [(path, image) for path, image in results if isinstance(image, str)]


def read_image(
    path: Path, shape: tuple[int, int, int], crop_pct: float = 1.0, interpolation: str = "bilinear"
) -> np.ndarray | str:
    """Return an image as the network takes it, uint8 (H, W, C), or why it cannot be read."""
    channels, height, width = shape
    if not path.is_file():
        return "no such file"
    try:
        image = decode(path, channels, resize_target(min(height, width), crop_pct))
    except (ConfigError, OSError):
        return "not an image that can be decoded"
    if height != width:
        return resize(image, (height, width), interpolation)
    return resize_and_center_crop(image, height, crop_pct, interpolation)


Ranked = TypedDict("Ranked", {"class": str, "probability": float})
Prediction = TypedDict("Prediction", {"file": str, "class": str, "probability": float, "ranked": list[Ranked]})


def classify(
    config: Config, checkpoint: TrainedModel, images: list[tuple[Path, np.ndarray]], top: int, tta: TTA = "none"
) -> list[Prediction]:
    """Return a row per image with its ``top`` most probable classes."""
    if not images:
        return []
    model, precision, info = checkpoint.model, checkpoint.precision, checkpoint.info
    loader = InMemoryLoader(
        ImageArray(np.stack([image for _, image in images]), np.zeros(len(images), np.int64)),
        num_classes=len(info.classes),
        mean=info.mean,
        std=info.std,
        per_image=config.data.normalize == "channel",
        batch_size=CHUNK,
        shuffle=False,
        device=precision.device,
        channels_last=precision.channels_last,
    )
    with torch.inference_mode():
        outputs = torch.cat([logits(model, x, precision, tta).float() for x, _ in loader.batches(0)])
    best = outputs.softmax(1).topk(top, 1)
    rows: list[Prediction] = []
    for (path, _), probabilities, indices in zip(images, best.values.tolist(), best.indices.tolist(), strict=True):
        ranked: list[Ranked] = [
            {"class": info.classes[i], "probability": p} for i, p in zip(indices, probabilities, strict=True)
        ]
        rows.append(
            {"file": str(path), "class": ranked[0]["class"], "probability": ranked[0]["probability"], "ranked": ranked}
        )
    return rows


def format_rows(rows: list[Prediction], form: str, top: int, header: bool) -> str:
    """Return rows as CSV (file, class, probability, class_2, ...) or as one JSON object per line.

    >>> row = {"file": "a.png", "class": "ant", "probability": 0.75, "ranked": [{"class": "ant", "probability": 0.75}]}
    >>> print(format_rows([row], "csv", 1, header=True).strip())
    file,class,probability
    a.png,ant,0.7500
    """
    if form == "jsonl":
        objects = [{k: v for k, v in row.items() if k != "ranked" or top > 1} for row in rows]
        return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    if header:
        more = [f"{name}_{i}" for i in range(2, top + 1) for name in ("class", "probability")]
        writer.writerow(["file", "class", "probability", *more])
    for row in rows:
        cells = [cell for r in row["ranked"] for cell in (r["class"], f"{r['probability']:.4f}")]
        writer.writerow([row["file"], *cells])
    return output.getvalue()
