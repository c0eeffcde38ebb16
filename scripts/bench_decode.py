"""Which decoder, at which scale, how many threads, how far ahead: pictures a second from JPEG files to 224 x 224 arrays.

Decoders: Pillow (with draft, its decoding at a smaller scale), torchvision.io, OpenCV; each reads the file, decodes it, brings
the shorter side to 224 and cuts the middle out. At 500 x 375 pixels half the scale leaves too few: all but Pillow decode the
whole. Then a run on the same files with batches made 1, 2, 4, 8 ahead of the training. Rounds of all are taken in turns; the
median and the range are printed as Markdown.

python scripts/bench_decode.py [--rounds 5] [--pictures 256] [--folder DIR] [--ahead]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bench_engine
import cv2
import numpy as np

from trainer.data.decode import decode, resize_and_center_crop

SIZE = 224
Decoder = Callable[[Path, bool], Any]


def pillow(path: Path, reduced: bool) -> Any:
    from PIL import Image

    image = Image.open(path)
    if reduced:
        image.draft("RGB", (SIZE, SIZE))
    image = image.convert("RGB")
    scale = SIZE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    return resize_and_center_crop(np.asarray(image), SIZE)


def torchvision(path: Path, reduced: bool) -> Any:
    """It has no reduced scale."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    return resize_and_center_crop(decode_jpeg(read_file(str(path)), ImageReadMode.RGB).permute(1, 2, 0).numpy(), SIZE)


def area(path: Path, reduced: bool) -> Any:
    """OpenCV's decoder, its resizing by area."""
    image = decode(path, 3, SIZE if reduced else None)
    factor = SIZE / min(image.shape[:2])
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return resize_and_center_crop(cv2.resize(image, size, interpolation=cv2.INTER_AREA), SIZE)


def opencv(path: Path, reduced: bool) -> Any:
    """What this program does: OpenCV's decoder, torch's resizing."""
    return resize_and_center_crop(decode(path, 3, SIZE if reduced else None), SIZE)


DECODERS: dict[str, Decoder] = {"pillow": pillow, "torchvision": torchvision, "opencv, by area": area, "opencv": opencv}


def rate(decoder: Decoder, paths: list[Path], reduced: bool, threads: int) -> float:
    """Pictures a second, decoded by so many threads."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: decoder(path, reduced), paths):
            pass
    return len(paths) / (time.perf_counter() - begin)


def decoders(paths: list[Path], rounds: int) -> None:
    cores = len(os.sched_getaffinity(0))
    cases = []
    for name in DECODERS:
        cases += [(name, reduced, n) for reduced in (False, True) for n in sorted({1, cores})]
    cases = [case for case in cases if case[0] == "pillow" or not case[1]]
    found: dict[Any, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for name, reduced, n in cases:
            found[name, reduced, n].append(rate(DECODERS[name], paths, reduced, n))
    print("| decoder | scale | threads | pictures/s | range |\n|---|---|---|---|---|")
    for (name, reduced, n), rates in found.items():
        scale = "smallest that suffices" if reduced else "full"
        print(f"| {name} | {scale} | {n} | {np.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} |")


def ahead(folder: Path, rounds: int) -> None:
    """Pictures a second into a training step, by how many batches for each worker are made ahead of it."""
    from trainer.data import streaming as workers
    from trainer.engine.step import train_step

    bench_engine.JPEG_FOLDER = folder
    depths = (0, 1, 2, 4, 8)
    with tempfile.TemporaryDirectory() as place:
        run, _ = bench_engine.run_of("jpeg", "cpu", place)
        found: dict[int, list[float]] = {depth: [] for depth in depths}
        for epoch in range(rounds):
            for depth in depths:
                workers.PREFETCH = depth
                begin = time.perf_counter()
                for x, y in run.train.batches(epoch):
                    train_step(run, x, y)
                found[depth].append(run.train.num_images / (time.perf_counter() - begin))
    print("\n| batches ahead, for each worker | pictures/s | range |\n|---|---|---|")
    for depth, rates in found.items():
        print(f"| {depth} | {np.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "trainer_jpegs")
    parser.add_argument("--ahead", action="store_true", help="also how far ahead batches are made")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    paths = sorted(bench_engine.jpegs(options.folder).rglob("*.jpg"))[: options.pictures]
    decoders(paths, options.rounds)
    if options.ahead:
        ahead(options.folder, options.rounds)


if __name__ == "__main__":
    main()
