"""Compare images in archives with the same in a directory: seconds to open, images per second read and decoded at random.

The archives are a tar archive of the directory, WebDataset shards, and Arrow files of Hugging Face datasets. Every round opens
and reads each of them once, in turn; the median of the ratios to the directory within a round is printed with its range, as
Markdown. The images of all must be equal. --cold evicts the files from the page cache before each measurement.

python scripts/bench_archive.py [--rounds 5] [--images 20000] [--side 32] [--format png] [--folder DIR] [--cold]
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data import Folder, Table
from trainer.data.images import ImageFiles
from trainer.hardware import usable_cores

CLASSES = 10
PER_SHARD = 10_000
MEASURES = ("open", "read", "decode")


def write_directory(root: Path, count: int, side: int, form: str) -> None:
    """Write images of noise around one color per class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (rng.integers(0, 40, (side, side, 3)) + 20 * (number % CLASSES)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:08}.{form}")


def write_tar(root: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as tar:
        tar.add(root, ".")
    return file


def write_shards(root: Path, folder: Path) -> Path:
    folder.mkdir()
    paths = sorted(root.rglob("*.*"))
    for start in range(0, len(paths), PER_SHARD):
        with tarfile.open(folder / f"{start // PER_SHARD:06}.tar", "w") as tar:
            for path in paths[start : start + PER_SHARD]:
                key = f"{path.parent.name}_{path.stem}"
                for ending, data in ((path.suffix[1:], path.read_bytes()), ("cls", path.parent.name.encode())):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def write_arrow(root: Path, folder: Path) -> Path:
    """Write what ``datasets.Dataset.save_to_disk`` writes."""
    import json

    import pyarrow as pa

    folder.mkdir()
    paths = sorted(root.rglob("*.*"))
    writer = None
    with (folder / "data-00000-of-00001.arrow").open("wb") as file:
        for start in range(0, len(paths), 1000):
            part = paths[start : start + 1000]
            images = [{"bytes": path.read_bytes(), "path": path.name} for path in part]
            batch = pa.RecordBatch.from_pydict({"image": images, "label": [path.parent.name for path in part]})
            writer = writer or pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder


def evict(place: Path) -> None:
    """Drop files from the page cache."""
    for file in [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(opened: Callable[[], ImageFiles], place: Path, size: int, cold: bool) -> dict[str, float]:
    """Return the seconds to open a data set, to read all its bytes at random, and to decode them in threads."""
    images: list[ImageFiles] = []
    result = {"open": seconds(lambda: images.append(opened()))}
    train = images[0]
    order = np.random.default_rng(1).permutation(len(train)).tolist()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for name, call in (
            ("read", lambda i: len(train.paths[i].read_bytes())),
            ("decode", lambda i: train.center_crop(i, size).shape),
        ):
            if cold:
                evict(place)
            result[name] = seconds(lambda call=call: sum(1 for _ in pool.map(call, order, chunksize=64)))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--format", default="png")
    parser.add_argument("--folder", type=Path, help="directory of classes to use instead of generated images")
    parser.add_argument("--cold", action="store_true", help="evict the files from the page cache before reading them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        root = arguments.folder or work / "images"
        if arguments.folder is None:
            write_directory(root, arguments.images, arguments.side, arguments.format)
        common = {"size": arguments.side, "test": 0, "validation": 0}
        places = {
            "directory": root,
            "tar archive": write_tar(root, work / "images.tar"),
            "WebDataset shards": write_shards(root, work / "shards"),
            "Arrow (datasets)": write_arrow(root, work / "arrow"),
        }
        options = {
            "directory": Folder(root=str(root), **common),
            "tar archive": Folder(root=str(places["tar archive"]), **common),
            "WebDataset shards": Table(path=str(places["WebDataset shards"]), labels="cls", **common),
            "Arrow (datasets)": Table(path=str(places["Arrow (datasets)"]), **common),
        }
        opened = {name: (lambda option=option: option.read().train) for name, option in options.items()}
        used = {name: call() for name, call in opened.items()}
        assert len({len(images) for images in used.values()}) == 1
        sums = {
            sum(images.center_crop(i, arguments.side).sum(dtype=int) for i in range(len(images)))
            for images in used.values()
        }
        assert len(sums) == 1, "the images differ"
        rounds = [
            {name: measure(opened[name], places[name], arguments.side, arguments.cold) for name in opened}
            for _ in range(arguments.rounds)
        ]
    report(rounds, len(used["directory"]))


def report(rounds: list[dict[str, dict[str, float]]], count: int) -> None:
    print(f"{count:,} images, {len(rounds)} rounds, {usable_cores()} cores\n")
    print("| | open, s | read, images/s | relative to the directory | decode, images/s | relative to the directory |")
    print("|---|---|---|---|---|---|")
    for name in rounds[0]:
        cells = [f"{np.median([r[name]['open'] for r in rounds]):.2f}"]
        for what in MEASURES[1:]:
            ratios = [r["directory"][what] / r[name][what] for r in rounds]
            cells.append(f"{count / np.median([r[name][what] for r in rounds]):,.0f}")
            cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
