"""Measure each technique on 500 digits of mnist5k over several seeds: mean and interval, paired with a baseline.

Regularizers and augmentation are added to a baseline with a cosine schedule, averaging and cycles to one with a constant
learning rate. Differences are paired by seed. Intervals are 95 % confidence intervals of the t distribution.
python scripts/regularization_table.py [--seeds 5] [--epochs 100] [--only mixup,ema] [--markdown docs/regularization_table.md]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.engine.evaluation import evaluate
from trainer.engine.loop import fit

COMMON = (
    "data=mnist5k",
    "data.limit=500",
    "regularizer=[]",
    "optimizer.lr=0.05",
    "optimizer.weight_decay=0",
    "engine.threads=1",
)
BASELINES = {"cosine": ["schedule=[cosine]"], "constant": ["schedule=[constant]"]}
# name: (baseline, overrides added to it)
TECHNIQUES = {
    "mixup": ("cosine", ["regularizer=[mixup]", "regularizer.mixup.alpha=0.2"]),
    "cutmix": ("cosine", ["regularizer=[cutmix]"]),
    "cutout": ("cosine", ["regularizer=[cutout]", "regularizer.cutout.length=10"]),
    "label_smoothing": ("cosine", ["regularizer=[label_smoothing]"]),
    "dropout": ("cosine", ["regularizer=[dropout]", "regularizer.dropout.p=0.3"]),
    "l2": ("cosine", ["regularizer=[l2]", "regularizer.l2.strength=0.0005"]),
    "augmentation=mnist": ("cosine", ["augmentation=mnist"]),
    "averaging=ema": ("constant", ["averaging=ema"]),
    "averaging=swa": ("constant", ["averaging=swa", "averaging.start=50"]),
    "schedule=clr": ("constant", ["schedule=[clr]", "schedule.clr.step_size=10"]),
    "schedule=warm_restarts": ("constant", ["schedule=[warm_restarts]", "schedule.warm_restarts.cycle=20"]),
}
MEASURES = ("test", "gap", "loss")


def measure(overrides: list[str], seed: int, epochs: float) -> dict[str, float]:
    """Test accuracy, training minus test accuracy (gap), and test loss at the end of a run."""
    config = load_config([*COMMON, *overrides, f"seed={seed}", f"epochs={epochs}"])
    run = build(config, splits=load_splits(config))
    fit(run)
    model = run.model
    if run.averaged is not None:
        from trainer.engine.evaluation import update_averaged_bn

        update_averaged_bn(run)
        model = run.averaged
    assert run.test is not None
    loader: Any = run.train
    loader.pipeline, loader.shuffle = None, False  # training images without augmentation
    train, test = (evaluate(model, part, run.precision, run.task) for part in (run.train, run.test))
    return {"test": test["accuracy"], "gap": train["accuracy"] - test["accuracy"], "loss": test["loss"]}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of the 95 % confidence interval (t distribution).

    >>> tuple(round(v, 3) for v in interval([1.0, 2.0, 3.0]))
    (2.0, 2.484)
    """
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return mean, math.nan
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * std / math.sqrt(n)


def verdict(accuracy: tuple[float, float], gap: tuple[float, float], loss: tuple[float, float]) -> str:
    """The significant ones of the paired differences, in words."""
    differences = []
    if abs(accuracy[0]) > accuracy[1]:
        differences.append("higher accuracy" if accuracy[0] > 0 else "lower accuracy")
    if abs(gap[0]) > gap[1]:
        differences.append("smaller gap" if gap[0] < 0 else "larger gap")
    if abs(loss[0]) > loss[1]:
        differences.append("lower loss" if loss[0] < 0 else "higher loss")
    return ", ".join(differences) or "no significant difference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    chosen = [n for n in arguments.only.split(",") if n] or list(TECHNIQUES)
    overrides = {**BASELINES, **{name: [*BASELINES[TECHNIQUES[name][0]], *TECHNIQUES[name][1]] for name in chosen}}
    jobs = {
        (name, seed): (overrides[name], seed, arguments.epochs) for name in overrides for seed in range(arguments.seeds)
    }
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        waiting = {key: pool.submit(measure, *job) for key, job in jobs.items()}
        rows = {key: future.result() for key, future in waiting.items()}
    results = {name: [rows[name, seed] for seed in range(arguments.seeds)] for name in overrides}
    lines = [
        "| technique | test accuracy | gap train - test | test loss | added to | test accuracy, paired |",
        "|---|---|---|---|---|---|",
    ]
    for name in overrides:
        mean = {m: interval([row[m] for row in results[name]]) for m in MEASURES}
        cells = [f"{100 * mean[m][0]:.2f} ± {100 * mean[m][1]:.2f} %" for m in ("test", "gap")]
        cells.append(f"{mean['loss'][0]:.3f} ± {mean['loss'][1]:.3f}")
        if name in BASELINES:
            lines.append(f"| {name} | {' | '.join(cells)} | | |")
            continue
        base = TECHNIQUES[name][0]
        pairs = list(zip(results[name], results[base], strict=True))
        differences = [interval([row[m] - baseline[m] for row, baseline in pairs]) for m in MEASURES]
        accuracy, half_width = differences[0]
        text = f"{100 * accuracy:+.2f} ± {100 * half_width:.2f} %: {verdict(*differences)}"
        lines.append(f"| {name} | {' | '.join(cells)} | {base} | {text} |")
    text = "\n".join(lines)
    print(text)
    if arguments.markdown:
        head = "# What each technique is worth on 500 digits\n\n"
        head += f"{arguments.seeds} seeds, {arguments.epochs:g} epochs, 1,000 test images of mnist5k "
        head += "(`python scripts/regularization_table.py`). Mean ± half the 95 % confidence\ninterval (t distribution).\n\n"
        arguments.markdown.write_text(head + text + "\n")


if __name__ == "__main__":
    main()
