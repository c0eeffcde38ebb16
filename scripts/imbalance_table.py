"""Measure what class weights, sampling and the loss change on imbalanced digits, over several seeds.

Training images of mnist5k are subsampled so that the numbers of images per class fall exponentially from 1 to 1/50; which
class is rare differs from seed to seed. Validation and test images are balanced. The last epoch is evaluated. Differences are
paired by seed; intervals are 95 % confidence intervals of the t distribution.
python scripts/imbalance_table.py [--seeds 5] [--epochs 40] [--ratio 50] [--only balanced,focal] [--processes 2]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from trainer.analysis.intervals import interval
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.engine.evaluation import evaluate
from trainer.engine.loop import fit

COMMON = ("data=mnist5k", "regularizer=[]", "engine.threads=1", "task.metrics=[balanced_accuracy,worst_recall]")
VARIANTS = {
    "natural": [],
    "task.class_weights=balanced": ["task.class_weights=balanced"],
    "task.class_weights=effective_number": ["task.class_weights=effective_number"],
    "data.sampling=balanced": ["data.sampling=balanced"],
    "data.sampling=sqrt": ["data.sampling=sqrt"],
    "task.loss=focal": ["task.loss=focal"],
}
MEASURES = ("accuracy", "balanced_accuracy", "worst_recall")


def long_tail(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Return the indices of images of which class number k of a random order keeps ratio^(−k/(K − 1)) of its own.

    >>> np.bincount(np.repeat([0, 1], 100)[long_tail(np.repeat([0, 1], 100), 50, 0)]).tolist()
    [2, 100]
    """
    rng, count = np.random.default_rng([seed, 13]), int(labels.max()) + 1
    kept = []
    for rank, label in enumerate(rng.permutation(count)):
        members = rng.permutation(np.flatnonzero(labels == label))
        kept.append(members[: round(len(members) * ratio ** (-rank / (count - 1)))])
    return np.sort(np.concatenate(kept))


def measure(overrides: list[str], seed: int, epochs: float, ratio: float) -> dict[str, float]:
    """Train on a long tail; return the metrics of the test images at the end."""
    config = load_config([*COMMON, *overrides, f"seed={seed}", f"epochs={epochs}"])
    splits = load_splits(config)
    splits = dataclasses.replace(splits, train=splits.train.subset(long_tail(splits.train.labels, ratio, seed)))
    run = build(config, splits=splits)
    fit(run)
    assert run.test is not None
    return evaluate(run.model, run.test, run.precision, run.task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--ratio", type=float, default=50)
    parser.add_argument("--only", default="", help="parts of the names of variants, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    parts = [part for part in arguments.only.split(",") if part]
    chosen = [name for name in VARIANTS if name == "natural" or not parts or any(part in name for part in parts)]
    keys = [(name, seed) for name in chosen for seed in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(measure, VARIANTS[n], s, arguments.epochs, arguments.ratio) for n, s in keys]
        rows = {key: future.result() for key, future in zip(keys, waiting, strict=True)}
    print("| | accuracy | balanced accuracy | recall of the worst class | balanced accuracy, paired |")
    print("|---|---|---|---|---|")
    for name in chosen:
        own = [rows[name, seed] for seed in range(arguments.seeds)]
        cells = [interval([row[m] for row in own]) for m in MEASURES]
        text = " | ".join(f"{100 * cell.mean:.1f} ± {100 * cell.half:.1f} %" for cell in cells)
        paired = ""
        if name != "natural":
            base = [rows["natural", seed] for seed in range(arguments.seeds)]
            d = interval([a[MEASURES[1]] - b[MEASURES[1]] for a, b in zip(own, base, strict=True)])
            paired = f"{100 * d.mean:+.1f} ± {100 * d.half:.1f} points"
        shown = name if name == "natural" else f"`{name}`"
        print(f"| {shown} | {text} | {paired} |")


if __name__ == "__main__":
    main()
