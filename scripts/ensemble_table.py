"""Measure the gain of an ensemble on 500 digits: mean and best member, ensemble and gain, as Markdown.

Each repetition has its own split of the 5,000 digits, its own 500 training images and its own seeds.
python scripts/ensemble_table.py [--repetitions 5] [--models 5] [--kind seeds] [--epochs 15] [overrides ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path

from trainer.analysis.intervals import interval
from trainer.cli import main as train


def repeat(index: int, options: argparse.Namespace, folder: Path) -> dict:
    """Train one ensemble and return its result.json."""
    directory = folder / str(index)
    overrides = [
        "job=ensemble", f"job.kind={options.kind}", f"job.models={options.models}", f"epochs={options.epochs}", "data=mnist5k",
        "data.limit=500", f"data.split_seed={index}", f"seed={100 * index}", "observer=[history_file]", f"output={directory}",
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        if train([*overrides, *options.overrides]):
            raise SystemExit(f"repetition {index} failed")
    return json.loads((directory / "result.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--kind", default="seeds", choices=["seeds", "folds", "snapshots"])
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    print(f"{options.kind}, {options.models} models, {options.epochs:g} epochs {' '.join(options.overrides)}\n")
    print("| repetition | mean member | best member | ensemble | gain | calibration error, mean member | ensemble |")
    print("|---|---|---|---|---|---|---|")
    gains = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.repetitions):
            result = repeat(i, options, Path(folder))
            accuracies, ensemble = [m["accuracy"] for m in result["members"]], result["test"]
            error = sum(m["ece"] for m in result["members"]) / len(accuracies)
            gains.append(result["gain"])
            cells = [sum(accuracies) / len(accuracies), max(accuracies), ensemble["accuracy"]]
            texts = [f"{100 * c:.2f} %" for c in (*cells, error, ensemble["ece"])]
            texts.insert(3, f"{100 * result['gain']:+.2f}")
            print(f"| {i} | " + " | ".join(texts) + " |", flush=True)
    better = sum(g > 0 for g in gains)
    print(f"\nbetter than the mean member in {better} of {len(gains)}", end="")
    if len(gains) > 1:
        gain = interval([100 * g for g in gains])
        print(f"; mean gain {gain.mean:+.2f} points (95 % interval {gain.low:+.2f} to {gain.high:+.2f})", end="")
    print()


if __name__ == "__main__":
    main()
