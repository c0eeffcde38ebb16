"""Compare image decoders, scales, numbers of threads and prefetching: images per second from JPEG files to 224 x 224 arrays.

Decoders: Pillow (with draft, its decoding at a reduced scale), torchvision.io, OpenCV. Each reads the file, decodes it, resizes
the shorter side to 224 and crops the center. At 500 x 375 pixels, half the scale is too small: all but Pillow decode at full
size. --ahead also trains on the same files with 0, 1, 2, 4 and 8 prefetched batches per worker. Rounds are interleaved; the
median and the range are printed as Markdown.

python scripts/bench_decode.py [--rounds 5] [--images 256] [--folder DIR] [--ahead]
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
    """torchvision.io has no reduced scale."""
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    return resize_and_center_crop(decode_jpeg(read_file(str(path)), ImageReadMode.RGB).permute(1, 2, 0).numpy(), SIZE)


def area(path: Path, reduced: bool) -> Any:
    """OpenCV's decoder and its INTER_AREA resizing."""
    image = decode(path, 3, SIZE if reduced else None)
    factor = SIZE / min(image.shape[:2])
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return resize_and_center_crop(cv2.resize(image, size, interpolation=cv2.INTER_AREA), SIZE)


def opencv(path: Path, reduced: bool) -> Any:
    """As in this program: OpenCV's decoder, torch's resizing."""
    return resize_and_center_crop(decode(path, 3, SIZE if reduced else None), SIZE)


DECODERS: dict[str, Decoder] = {"pillow": pillow, "torchvision": torchvision, "opencv, by area": area, "opencv": opencv}


def images_per_second(decoder: Decoder, paths: list[Path], reduced: bool, threads: int) -> float:
    """Decode all files with this number of threads and return the speed."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda path: decoder(path, reduced), paths):
            pass
    return len(paths) / (time.perf_counter() - start)


def compare_decoders(paths: list[Path], rounds: int) -> None:
    cores = len(os.sched_getaffinity(0))
    cases = []
    for name in DECODERS:
        cases += [(name, reduced, n) for reduced in (False, True) for n in sorted({1, cores})]
    cases = [case for case in cases if case[0] == "pillow" or not case[1]]
    speeds: dict[Any, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for name, reduced, n in cases:
            speeds[name, reduced, n].append(images_per_second(DECODERS[name], paths, reduced, n))
    print("| decoder | scale | threads | images/s | range |\n|---|---|---|---|---|")
    for (name, reduced, n), values in speeds.items():
        scale = "reduced" if reduced else "full"
        print(f"| {name} | {scale} | {n} | {np.median(values):,.0f} | {min(values):,.0f} to {max(values):,.0f} |")


def compare_prefetching(folder: Path, rounds: int) -> None:
    """Images per second in training, by the number of batches that each worker prefetches."""
    from trainer.data import streaming
    from trainer.engine.step import train_step

    bench_engine.JPEG_FOLDER = folder
    depths = (0, 1, 2, 4, 8)
    with tempfile.TemporaryDirectory() as directory:
        run, _ = bench_engine.build_run("jpeg", "cpu", directory)
        speeds: dict[int, list[float]] = {depth: [] for depth in depths}
        for epoch in range(rounds):
            for depth in depths:
                streaming.PREFETCH = depth
                start = time.perf_counter()
                for x, y in run.train.batches(epoch):
                    train_step(run, x, y)
                speeds[depth].append(run.train.num_images / (time.perf_counter() - start))
    print("\n| prefetched batches per worker | images/s | range |\n|---|---|---|")
    for depth, values in speeds.items():
        print(f"| {depth} | {np.median(values):,.0f} | {min(values):,.0f} to {max(values):,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "trainer_jpegs")
    parser.add_argument("--ahead", action="store_true", help="also compare numbers of prefetched batches")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    paths = sorted(bench_engine.write_jpegs(options.folder).rglob("*.jpg"))[: options.images]
    compare_decoders(paths, options.rounds)
    if options.ahead:
        compare_prefetching(options.folder, options.rounds)


if __name__ == "__main__":
    main()
