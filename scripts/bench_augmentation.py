"""Times augmentation: pictures a second on one core, both ways, interleaved; 10th percentile of the times of a batch.

python scripts/bench_augmentation.py [--rounds 60]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from trainer import augmentation as aug
from trainer.augmentation.batched import BatchedPipeline
from trainer.augmentation.per_image import PerImagePipeline

SHAPES = {"128 x 1x28x28": (1, 28, 28), "128 x 3x32x32": (3, 32, 32)}
LISTS = {
    "crop + flip": [aug.Crop(), aug.Flip()],
    "crop (reflect) + flip": [aug.Crop(fill="reflect"), aug.Flip()],
    "rotation": [aug.Rotation()],
    "rotation (reflect)": [aug.Rotation(fill="reflect")],
    "rotation + scale + translation": [aug.Rotation(), aug.Scale(), aug.Translation()],
    "gaussian_noise": [aug.GaussianNoise()],
    "brightness_contrast": [aug.BrightnessContrast()],
}
BATCH = 128
WORKER_PICTURES = 16  # of a batch that workers are timed on: they are slow


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The 10th percentile of each call's times, in seconds; calls take turns, so that a slow host hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.percentile(t, 10)) for name, t in times.items()}


def calls_for(shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """Every list of transforms by every way, on one batch of pictures of this shape."""
    x = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
    images = list(x[:WORKER_PICTURES].permute(0, 2, 3, 1).contiguous().numpy())
    rng, found = np.random.default_rng(0), {}
    for name, transforms in LISTS.items():
        resident, workers = BatchedPipeline(transforms, shape), PerImagePipeline(transforms, shape)
        found[f"{name}|resident"] = lambda p=resident: p(x, rng)
        if shape[0] > 1:
            apart = x.contiguous(memory_format=torch.channels_last)
            found[f"{name}|channels-last"] = lambda p=resident, x=apart: p(x, rng)
        found[f"{name}|workers"] = lambda p=workers: p(images, rng)
    return found


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    for label, shape in SHAPES.items():
        times = interleaved(calls_for(shape), rounds)
        print(f"\n{label:32}{'way':>16}{'ms a batch':>12}{'pictures/s':>12}")
        for name, seconds in times.items():
            what, way = name.split("|")
            count = WORKER_PICTURES if way == "workers" else BATCH
            print(f"{what:32}{way:>16}{seconds * 1000 * BATCH / count:12.2f}{count / seconds:12,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    main(parser.parse_args().rounds)
