"""Measures what each technique does with 500 digits of mnist5k: several seeds, mean and interval, paired with a plain run.

Regularizers and augmentation are added to a run with a cosine, averages and cycles to one with a constant rate; the
difference is taken seed by seed, so that what the seeds have in common drops out. Intervals are Student's, 95 %.
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

from trainer.build import build, load_splits
from trainer.config.compose import compose
from trainer.config.schema import resolve
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
PLAIN = {"cosine": ["schedule=[cosine]"], "constant": ["schedule=[constant]"]}
# name: the plain run it is added to, and what is added
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


def measured(words: list[str], seed: int, epochs: float) -> dict[str, float]:
    """Test accuracy, how much better the training pictures are classified, and the test loss, at the end of a run."""
    config = resolve(compose([*COMMON, *words, f"seed={seed}", f"epochs={epochs}"]))
    run = build(config, splits=load_splits(config))
    fit(run)
    model = run.model
    if run.averaged is not None:
        from trainer.engine.evaluation import update_averaged_bn

        update_averaged_bn(run)
        model = run.averaged
    assert run.test is not None
    pictures: Any = run.train
    pictures.pipeline, pictures.shuffle = None, False  # training pictures as they are
    train, test = (evaluate(model, part, run.precision) for part in (run.train, run.test))
    return {"test": test["accuracy"], "gap": train["accuracy"] - test["accuracy"], "loss": test["loss"]}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of Student's 95 % interval.

    >>> tuple(round(v, 3) for v in interval([1.0, 2.0, 3.0]))
    (2.0, 2.484)
    """
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * deviation / math.sqrt(n)


def verdict(accuracy: tuple[float, float], gap: tuple[float, float], loss: tuple[float, float]) -> str:
    """What the paired differences say, where their intervals leave zero out."""
    said = []
    if abs(accuracy[0]) > accuracy[1]:
        said.append("better accuracy" if accuracy[0] > 0 else "worse accuracy")
    if abs(gap[0]) > gap[1]:
        said.append("smaller gap" if gap[0] < 0 else "larger gap")
    if abs(loss[0]) > loss[1]:
        said.append("lower loss" if loss[0] < 0 else "higher loss")
    return ", ".join(said) or "no difference that these seeds show"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=100)
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    chosen = [n for n in given.only.split(",") if n] or list(TECHNIQUES)
    words = {**PLAIN, **{name: [*PLAIN[TECHNIQUES[name][0]], *TECHNIQUES[name][1]] for name in chosen}}
    jobs = {(name, seed): (words[name], seed, given.epochs) for name in words for seed in range(given.seeds)}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        waiting = {key: pool.submit(measured, *job) for key, job in jobs.items()}
        rows = {key: future.result() for key, future in waiting.items()}
    found = {name: [rows[name, seed] for seed in range(given.seeds)] for name in words}
    lines = [
        "| technique | test accuracy | gap train - test | test loss | added to | test accuracy, paired |",
        "|---|---|---|---|---|---|",
    ]
    for name in words:
        mean = {m: interval([row[m] for row in found[name]]) for m in MEASURES}
        cells = [f"{100 * mean[m][0]:.2f} ± {100 * mean[m][1]:.2f} %" for m in ("test", "gap")]
        cells.append(f"{mean['loss'][0]:.3f} ± {mean['loss'][1]:.3f}")
        if name in PLAIN:
            lines.append(f"| {name} | {' | '.join(cells)} | | |")
            continue
        base = TECHNIQUES[name][0]
        pairs = list(zip(found[name], found[base], strict=True))
        apart = [interval([one[m] - plain[m] for one, plain in pairs]) for m in MEASURES]
        said = f"{100 * apart[0][0]:+.2f} ± {100 * apart[0][1]:.2f} %: {verdict(*apart)}"
        lines.append(f"| {name} | {' | '.join(cells)} | {base} | {said} |")
    text = "\n".join(lines)
    print(text)
    if given.markdown:
        head = "# What each technique does with 500 digits\n\n"
        head += f"{given.seeds} seeds, {given.epochs:g} epochs, 1,000 test pictures of mnist5k. "
        head += "`python scripts/regularization_table.py` makes this table.\n\n"
        given.markdown.write_text(head + text + "\n")


if __name__ == "__main__":
    main()
