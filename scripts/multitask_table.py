"""Measure whether learning several tasks at once helps each of them, over several seeds.

Tasks of data=mnist5k_multitask with few training images: each alone, all with hard sharing, with soft sharing, and with learned
weights of the losses. The last epoch is evaluated on 1,000 test images. Differences from learning the task alone are paired by
seed; intervals are 95 % confidence intervals of the t distribution.
python scripts/multitask_table.py [--seeds 5] [--images 200,1000] [--steps 600] [--only hard] [--processes 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from trainer.analysis.intervals import interval
from trainer.builder import build, load_splits
from trainer.config.load import load_config
from trainer.engine.evaluation import evaluate
from trainer.engine.loop import fit

TASKS = {"digit": "accuracy", "loops": "accuracy", "slant": "mae", "ink": "mae"}
KINDS = {"digit": "classification", "loops": "classification", "slant": "regression", "ink": "regression"}
COMMON = ("data=mnist5k_multitask", "regularizer=[]", "engine.threads=1")
TOGETHER = f"task.tasks={{{','.join(f'{name}:{{}}' for name in TASKS)}}}"
VARIANTS = {
    "hard": [],
    "soft, strength 0.01": ["task.sharing=soft", "task.strength=0.01"],
    "hard, uncertainty": ["task.weighting=uncertainty"],
    "hard, dwa": ["task.weighting=dwa"],
    "hard, gradnorm": ["task.weighting=gradnorm"],
}
SCALE = {"accuracy": 100, "mae": 1000}
UNITS = {"accuracy": "%", "mae": "· 10⁻³"}
BATCH_SIZE = 32


def measure(overrides: list[str], images: int, seed: int, steps: int) -> dict[str, float]:
    """Train; return the metrics of the test images at the end, of a single task with its name in front."""
    epochs = steps / -(-images // BATCH_SIZE)
    words = [*COMMON, *overrides, f"data.limit={images}", f"batch_size={BATCH_SIZE}", f"epochs={epochs:g}"]
    config = load_config([*words, f"seed={seed}"])
    run = build(config, splits=load_splits(config))
    fit(run)
    assert run.test is not None
    return evaluate(run.model, run.test, run.precision, run.task)


def jobs(only: list[str]) -> dict[tuple[str, str], list[str]]:
    """The overrides of each (variant, task); the task is empty for all at once."""
    alone = {("alone", name): [f"task={KINDS[name]}", f"task.target={name}"] for name in TASKS}
    together = {
        (name, ""): ["task=multitask", TOGETHER, *overrides]
        for name, overrides in VARIANTS.items()
        if not only or any(part in name for part in only)
    }
    return alone | together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", default="200,1000")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--only", default="", help="parts of the names of variants, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    chosen, seeds = jobs([part for part in arguments.only.split(",") if part]), range(arguments.seeds)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        for images in map(int, arguments.images.split(",")):
            waiting = {
                (*key, seed): pool.submit(measure, overrides, images, seed, arguments.steps)
                for key, overrides in chosen.items()
                for seed in seeds
            }
            rows = {key: future.result() for key, future in waiting.items()}
            show(images, [variant for variant, task in chosen if not task], rows, arguments.seeds)


def show(images: int, variants: list[str], rows: dict[tuple[str, str, int], dict[str, float]], count: int) -> None:
    """Print the table of one number of training images."""
    print(f"\n{images} training images\n\n| | " + " | ".join(f"{name}, {m}" for name, m in TASKS.items()) + " |")
    print("|---" * (len(TASKS) + 1) + "|")
    alone = {name: [rows["alone", name, seed][metric] for seed in range(count)] for name, metric in TASKS.items()}
    cells = {name: interval(values) for name, values in alone.items()}
    texts = [
        f"{SCALE[TASKS[n]] * c.mean:.1f} ± {SCALE[TASKS[n]] * c.half:.1f} {UNITS[TASKS[n]]}" for n, c in cells.items()
    ]
    print(f"| alone | {' | '.join(texts)} |")
    for variant in variants:
        texts = []
        for name, metric in TASKS.items():
            values = [rows[variant, "", seed][f"{name}_{metric}"] for seed in range(count)]
            mean = interval(values)
            paired = interval([v - a for v, a in zip(values, alone[name], strict=True)])
            scale = SCALE[metric]
            texts.append(f"{scale * mean.mean:.1f} ({scale * paired.mean:+.1f} ± {scale * paired.half:.1f})")
        print(f"| {variant} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
