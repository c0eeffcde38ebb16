"""Measure whether the roughness of the first filters tells a failure: mnist5k, kernels of 7 x 7 pixels, two seeds each.

python scripts/filters_table.py [--seeds 2]
"""

from __future__ import annotations

import argparse
from statistics import mean

import numpy as np
from torch import nn

from trainer.analysis.filters import effective_number, roughness
from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.run import Run
from trainer.jobs.fit import summary

PLAIN = (
    "data=mnist5k", "data.test=800", "data.limit=1500", "architecture=cnn", "architecture.widths=[16,16,32]",
    "architecture.kernel=7", "regularizer=[]", "device=cpu", "precision=float32", "engine.threads=1", "optimizer.lr=0.05",
    "epochs=8",
)  # fmt: skip
CHANGES: dict[str, tuple[str, ...]] = {
    "healthy": (),
    "one epoch": ("epochs=1",),
    "a thousandth of the lr": ("optimizer.lr=5e-5",),
    "20 times the lr": ("optimizer.lr=1",),
    "first layer frozen": ("recipe.freeze=[0]",),
    "60 images": ("data.limit=60", "epochs=60"),
    "weight decay 0.05": ("optimizer.weight_decay=0.05",),
    "no weight decay": ("optimizer.weight_decay=0",),
    "initial standard deviation 0.5": ("initialization=normal", "initialization.std=0.5"),
}


def first_filters(run: Run) -> np.ndarray:
    """The weights of the first convolution (N, H, W, C)."""
    layer = next(m for m in run.model.modules() if isinstance(m, nn.Conv2d))
    return layer.weight.detach().permute(0, 2, 3, 1).numpy()


def measured(overrides: tuple[str, ...], seed: int) -> tuple[float, float, float]:
    """Test accuracy, roughness and effective number of the first filters after training."""
    run = build(load_config([*PLAIN, *overrides, f"seed={seed}"]))
    fit(run, [])
    filters = first_filters(run)
    test = summary(run).get("test") or {}
    return float(test.get("accuracy") or 0.0), roughness(filters), effective_number(filters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    print("| change | test accuracy | roughness | filters that are different, of 16 |\n| --- | --- | --- | --- |")
    for name, overrides in CHANGES.items():
        accuracy, rough, effective = (
            mean(values) for values in zip(*(measured(overrides, s) for s in range(seeds)), strict=True)
        )
        print(f"| {name} | {accuracy:.3f} | {rough:.2f} | {effective:.1f} |", flush=True)


if __name__ == "__main__":
    main()
