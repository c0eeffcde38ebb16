"""``job=predict``: predict classes, labels and numbers of images in files."""

from __future__ import annotations

import csv
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypeAlias, TypedDict

import numpy as np

from trainer.augmentation.transforms import TTA
from trainer.checkpoint_data import data_option
from trainer.data import FileDataset
from trainer.data.decode import decode, resize, resize_and_center_crop, resize_target
from trainer.errors import ConfigError, Problem
from trainer.files import write_text
from trainer.inference import TrainedModel, predictions, trained
from trainer.jobs.evaluate.scores import check_tta
from trainer.jobs.image_paths import find_files
from trainer.literal import print_literal, printable, printable_lines
from trainer.run_dir import check_available, create_run_dir, write_json
from trainer.tasks.multilabel import LabelsPart
from trainer.tasks.part import Part
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Predict

CHUNK = 256  # images that are decoded and classified at a time
Ranked = TypedDict("Ranked", {"class": str, "probability": float})


class PredictedClass(Ranked):
    """The most probable class of an image."""

    ranked: NotRequired[list[Ranked]]  # the most probable ones, where several are asked for


class PredictedLabels(TypedDict):
    """The labels of an image whose probability reaches their threshold, and all probabilities."""

    labels: list[str]
    probabilities: dict[str, float]


class PredictedNumbers(TypedDict):
    """The numbers of an image in original units."""

    numbers: dict[str, float]


Prediction: TypeAlias = PredictedClass | PredictedLabels | PredictedNumbers


@dataclass(frozen=True)
class PredictedImage:
    """What is predicted for an image by the name of the task, which is empty for a single one."""

    file: str
    tasks: dict[str, Prediction] = field(default_factory=dict)


def predict(option: Predict, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Predict``."""
    check_available(run_dir)
    assert option.images is not None  # check_config has made sure
    checkpoint = trained(config, option.prefer, option.weights)
    check_tta(checkpoint.task, option.tta)
    paths = list(find_files(option.images))
    if not paths:
        raise ConfigError(Problem("job.images", option.images, "contains no images"))
    precision = checkpoint.precision
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    skipped: list[tuple[Path, str]] = []
    output, count = io.StringIO(), 0
    for start in range(0, len(paths), CHUNK):
        images, unreadable = read_images(config, checkpoint, paths[start : start + CHUNK])
        skipped += unreadable
        rows = predict_images(config, checkpoint, images, option.top, option.tta)
        text = format_rows(rows, option.format, checkpoint.task, header=count == 0)
        # Another program gets the names as they are, a terminal without their control characters.
        print(printable_lines(text) if sys.stdout.isatty() else text, end="", flush=True)
        output.write(text)
        count += len(rows)
    for path, reason in skipped:
        print(f"skipped {printable(str(path))}: {reason}", file=sys.stderr)
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
    print_literal(f"{count} image{'s' * (count != 1)}, {len(skipped)} skipped; {run_dir / name}", file=sys.stderr)
    return 0 if count else 1


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


def predict_images(
    config: Config, checkpoint: TrainedModel, images: list[tuple[Path, np.ndarray]], top: int, tta: TTA = "none"
) -> list[PredictedImage]:
    """Return what is predicted for each image."""
    if not images:
        return []
    pixels = np.stack([image for _, image in images])
    found = predictions(checkpoint, pixels, config.data.normalize == "channel", CHUNK, tta)
    rows = [PredictedImage(str(path)) for path, _ in images]
    for part in checkpoint.task.parts:
        for row, values in zip(rows, found[part.name].cpu().tolist(), strict=True):
            row.tasks[part.name] = prediction(part, values, top)
    return rows


def prediction(part: Part, values: list[float], top: int) -> Prediction:
    """Return what is predicted from the probabilities, or numbers in original units, of one image (K,); of classes, the
    ``top`` most probable ones.
    """
    named = dict(zip(part.classes, values, strict=True))
    if part.has_classes:
        best = sorted(range(len(values)), key=lambda i: -values[i])[:top]
        ranked: list[Ranked] = [{"class": part.classes[i], "probability": values[i]} for i in best]
        return {**ranked[0], "ranked": ranked} if top > 1 else {**ranked[0]}
    if isinstance(part, LabelsPart):
        chosen = [
            name for name, threshold in zip(part.classes, part.thresholds, strict=True) if named[name] >= threshold
        ]
        return {"labels": chosen, "probabilities": named}
    return {"numbers": named}


def format_rows(rows: list[PredictedImage], form: str, task: Task, header: bool) -> str:
    """Return rows as CSV (file, and the cells of each task) or as one JSON object per line."""
    if form == "jsonl":
        lines = ({"file": row.file, **row.tasks.get("", row.tasks)} for row in rows)
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    for row in rows:
        cells = {"file": row.file}
        for part in task.parts:
            cells |= csv_cells(part, row.tasks[part.name])
        if header:
            writer.writerow(cells)
            header = False
        writer.writerow(cells.values())
    return output.getvalue()


def csv_cells(part: Part, predicted: Prediction) -> dict[str, str]:
    """Return the cells of what is predicted for one task, by the names of their columns.

    They are class, probability, class_2, ... of classes; labels (separated by ``;``) and the probability of each; numbers.
    """
    if "class" in predicted:
        ranked = predicted.get("ranked", [predicted])
        suffixes = ["", *(f"_{i}" for i in range(2, len(ranked) + 1))]
        pairs = zip(suffixes, ranked, strict=True)
        cells = {
            f"{name}{suffix}": text
            for suffix, row in pairs
            for name, text in (("class", row["class"]), ("probability", f"{row['probability']:.4f}"))
        }
    elif "labels" in predicted:
        cells = {"labels": ";".join(predicted["labels"])}
        cells |= {f"probability_{name}": f"{value:.4f}" for name, value in predicted["probabilities"].items()}
    else:
        numbers = predicted["numbers"]
        cells = {name: f"{value:.7g}" for name, value in numbers.items()}
        if len(cells) == 1 and part.name:  # the name of the task says which number
            return {part.name: next(iter(cells.values()))}
    return {part.column(name): text for name, text in cells.items()}
