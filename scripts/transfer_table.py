"""Measure transfer learning on a folder of photographs, for each recipe over several seeds, as Markdown.

All runs use experiment=finetune with another recipe; training from scratch has ``--scratch-epochs``, because it needs more.
python scripts/transfer_table.py FOLDER WEIGHTS [--seeds 5] [--recipe finetune ...] [overrides ...]
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

RECIPES = ("scratch", "transfer", "finetune", "gradual")


def train_recipe(recipe: str, seed: int, options: argparse.Namespace, folder: Path) -> dict:
    """Train once and return the result.json."""
    directory = folder / f"{recipe}_{seed}"
    overrides = [
        "experiment=finetune",
        f"data.root={options.folder}",
        f"recipe={recipe}",
        f"seed={seed}",
        "observer=[history_file]",
    ]
    overrides += [
        f"architecture.weights={options.weights}",
        f"output={directory}",
        "regularizer=[]",
        *options.overrides,
    ]
    if recipe == "scratch":
        overrides += ["architecture.weights=null", "data.normalize=dataset", f"epochs={options.scratch_epochs:g}"]
    with contextlib.redirect_stdout(io.StringIO()):
        if train(overrides):
            raise SystemExit(f"{recipe} with seed {seed} failed")
    return json.loads((directory / "result.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("weights")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scratch-epochs", type=float, default=36)
    parser.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    print(f"{options.folder}, {options.weights}, {options.seeds} seeds {' '.join(options.overrides)}\n")
    print("| recipe | validation accuracy, best epoch | last epoch | of each seed | seconds of training |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.recipe:
            results = [train_recipe(recipe, seed, options, Path(folder)) for seed in range(options.seeds)]
            best, last = ([100 * r["accuracy"] for r in rows] for rows in zip(
                *((f["validation"], f["last"]["validation"]) for f in results), strict=True))  # fmt: skip
            spans = [f"{i.mean:.1f} ± {i.half:.1f} %" for i in map(interval, (best, last))]
            seconds = sum(f["seconds"] for f in results) / len(results)
            print(
                f"| {recipe} | {' | '.join(spans)} | {', '.join(f'{b:.1f}' for b in best)} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
