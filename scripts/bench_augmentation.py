"""Time augmentation on one core, per batch and per image, interleaved; 10th percentile of the times of a batch.

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
PER_IMAGE = 16  # images of a batch on which the slow per-image implementation is timed


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The 10th percentile of each call's times in seconds. Calls take turns, so that a slow moment affects all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.percentile(t, 10)) for name, t in times.items()}


def calls_for(shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """Every list of transforms by every implementation, on one batch of images of this shape."""
    x = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
    images = list(x[:PER_IMAGE].permute(0, 2, 3, 1).contiguous().numpy())
    rng, calls = np.random.default_rng(0), {}
    for name, transforms in LISTS.items():
        batched, per_image = BatchedPipeline(transforms, shape), PerImagePipeline(transforms, shape)
        calls[f"{name}|per batch"] = lambda p=batched: p(x, rng)
        if shape[0] > 1:
            channels_last = x.contiguous(memory_format=torch.channels_last)
            calls[f"{name}|channels-last"] = lambda p=batched, x=channels_last: p(x, rng)
        calls[f"{name}|per image"] = lambda p=per_image: p(images, rng)
    return calls


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    for label, shape in SHAPES.items():
        times = interleaved(calls_for(shape), rounds)
        print(f"\n{label:32}{'':>16}{'ms per batch':>14}{'images/s':>12}")
        for name, seconds in times.items():
            transforms, implementation = name.split("|")
            count = PER_IMAGE if implementation == "per image" else BATCH
            print(f"{transforms:32}{implementation:>16}{seconds * 1000 * BATCH / count:14.2f}{count / seconds:12,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    main(parser.parse_args().rounds)
