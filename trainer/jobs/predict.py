"""``job=predict``: what a trained network says of pictures in files."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import ConfigError, Problem, check
from trainer.run_dir import check_available, create_run_dir, write, write_json

if TYPE_CHECKING:
    import numpy as np

    from trainer.config.schema import Config
    from trainer.inference import TrainedModel

CHUNK = 256  # pictures that are decoded at a time


@dataclass(frozen=True)
class Predict:
    """The ``top`` most probable classes of each of ``pictures``: files, folders (searched whole), globs, or ``-`` for one path
    a line from standard input.

    Rows go to standard output and to ``predictions.csv`` (or ``.jsonl``); a file that is no picture is named on standard error
    and skipped. Exit code 1 where no picture could be read.
    """

    pictures: tuple[str, ...] | str | None = None
    format: Literal["csv", "jsonl"] = "csv"
    top: int = 1
    prefer: Literal["best", "last"] = "best"
    weights: Literal["auto", "model", "averaged"] = "auto"
    tta: Literal["none", "mirror", "mirror_shift"] = "none"

    def __post_init__(self) -> None:
        check(self, top=(self.top >= 1, "must be >= 1 class"))

    def __call__(self, config: Config, folder: Path, overrides: list[str]) -> int:
        check_available(folder)
        from trainer.inference import trained

        found = trained(config, self.prefer, self.weights)
        if self.pictures is None:
            hint = "job.pictures=photo.jpg, a folder, '*.png', or - for paths from standard input"
            raise ConfigError(Problem("job.pictures", None, "must be given", hint))
        per_picture, crop_pct = config.data.normalize == "channel", getattr(config.data, "crop", 1.0)
        paths = list(files_of(self.pictures))
        if not paths:
            raise ConfigError(Problem("job.pictures", self.pictures, "names no picture"))
        create_run_dir(folder, config.tree, overrides, f"{found.precision.device}, {found.precision.name}")
        top, broken, seen = min(self.top, len(found.info.classes)), [], 0
        out = io.StringIO()
        for begin in range(0, len(paths), CHUNK):
            rows, wrong = predictions(found, paths[begin : begin + CHUNK], top, self.tta, per_picture, crop_pct)
            text = lines_of(rows, self.format, top, heading=seen == 0 and bool(rows))
            print(text, end="", flush=True)
            out.write(text)
            broken, seen = broken + wrong, seen + len(rows)
        for path, why in broken:
            print(f"skipped {path}: {why}", file=sys.stderr)
        name = f"predictions.{self.format}"
        write(folder / name, out.getvalue())
        result = {"status": "finished", "stop_reason": "predicted", "checkpoint": str(found.path)}
        result |= {"weights": found.weights, "pictures": seen, "skipped": [str(path) for path, _ in broken]}
        write_json(folder / "result.json", result)
        print(f"{seen} picture{'s' * (seen != 1)}, {len(broken)} skipped; {folder / name}", file=sys.stderr)
        return 0 if seen else 1


def files_of(places: tuple[str, ...] | str) -> Iterator[Path]:
    """The files that are meant; ConfigError where a place is neither file, folder nor a glob that fits some."""
    from trainer.data.decode import SUFFIXES

    for place in [places] if isinstance(places, str) else places:
        if place == "-":
            yield from (Path(line.strip()) for line in sys.stdin if line.strip())
            continue
        path = Path(place).expanduser()
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        elif path.is_file():
            yield path
        elif hits := sorted(glob.glob(str(path), recursive=True)):
            yield from (Path(hit) for hit in hits if Path(hit).is_file())
        else:
            raise ConfigError(Problem("job.pictures", place, "there is no such file or folder"))


def predictions(
    found: TrainedModel,
    paths: list[Path],
    top: int,
    tta: Any = "none",
    per_picture: bool = False,
    crop_pct: float = 1.0,
) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """A row a picture, with its most probable classes, and the files that are none with the reason."""
    import numpy as np
    import torch

    from trainer.data.images import ImageArray
    from trainer.data.in_memory import InMemoryLoader
    from trainer.engine.evaluation import logits

    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda path: picture_of(path, found.info.shape, crop_pct), paths))
    broken = [(path, image) for path, image in zip(paths, read, strict=True) if isinstance(image, str)]
    there = [(path, image) for path, image in zip(paths, read, strict=True) if not isinstance(image, str)]
    if not there:
        return [], broken
    classes, info = found.info.classes, found.info
    loader = InMemoryLoader(
        ImageArray(np.stack([image for _, image in there]), np.zeros(len(there), np.int64)),
        num_classes=len(classes), mean=info.mean, std=info.std, per_image=per_picture, batch_size=CHUNK, shuffle=False,
        device=found.precision.device, channels_last=found.precision.channels_last,
    )  # fmt: skip
    with torch.inference_mode():
        outputs = torch.cat([logits(found.model, x, found.precision, tta).float() for x, _ in loader.batches(0)])
    best = outputs.softmax(1).topk(top, 1)
    rows = []
    for (path, _), chances, indices in zip(there, best.values.tolist(), best.indices.tolist(), strict=True):
        ranked = [{"class": classes[i], "probability": p} for i, p in zip(indices, chances, strict=True)]
        rows.append({"file": str(path), **ranked[0], "ranked": ranked})
    return rows, broken


def picture_of(path: Path, shape: tuple[int, int, int], crop_pct: float = 1.0) -> np.ndarray | str:
    """The picture as the network takes it, uint8 (H, W, C), or why it is none."""
    from trainer.data.decode import decode, resize, resize_and_center_crop, resize_target

    channels, height, width = shape
    if not path.is_file():
        return "there is no such file"
    try:
        image = decode(path, channels, resize_target(min(height, width), crop_pct))
    except (ConfigError, OSError):
        return "is no picture that can be read"
    return resize_and_center_crop(image, height, crop_pct) if height == width else resize(image, (height, width))


def lines_of(rows: list[dict[str, Any]], form: str, top: int, heading: bool) -> str:
    """Rows as CSV (file, class, probability, class_2, ...) or as one JSON object a line.

    >>> row = {"file": "a.png", "class": "ant", "probability": 0.75, "ranked": [{"class": "ant", "probability": 0.75}]}
    >>> print(lines_of([row], "csv", 1, heading=True).strip())
    file,class,probability
    a.png,ant,0.7500
    """
    out = io.StringIO()
    if form == "jsonl":
        for row in rows:
            out.write(json.dumps({k: v for k, v in row.items() if k != "ranked" or top > 1}, ensure_ascii=False) + "\n")
        return out.getvalue()
    writer = csv.writer(out, lineterminator="\n")
    if heading:
        more = [f"{name}_{i}" for i in range(2, top + 1) for name in ("class", "probability")]
        writer.writerow(["file", "class", "probability", *more])
    for row in rows:
        cells = [cell for r in row["ranked"] for cell in (r["class"], f"{r['probability']:.4f}")]
        writer.writerow([row["file"], *cells])
    return out.getvalue()
