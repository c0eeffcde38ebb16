"""Time the observers: a ResNet-20 trained with the default observers and without any, interleaved.

Each round is one process of each, ``--epochs`` epochs of 32 x 32 images in batches of 128. Printed are the ratio of their
training times (without evaluation), and the fraction that the run itself reports, which counts the observers' own time.

python scripts/bench_observers.py [--rounds 3] [--epochs 2] [overrides as for train ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

WORK = [
    "architecture=resnet20",
    "data=fake",
    "data.count=15000",
    "data.size=32",
    "augmentation=[crop,flip]",
    "batch_size=128",
]


def train(overrides: list[str], epochs: float, observed: bool) -> dict[str, float]:
    """Train in a process of its own and return the result."""
    with tempfile.TemporaryDirectory() as folder:
        common = [*WORK, f"epochs={epochs}", "regularizer=[]", *overrides, f"output={folder}/run"]
        more = [] if observed else ["observer=[]"]
        command = [sys.executable, "-m", "trainer", *common, *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "run" / "result.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    options, overrides = parser.parse_known_args()
    ratios, fractions = [], []
    for _ in range(options.rounds):
        with_observers, without = (train(overrides, options.epochs, observed) for observed in (True, False))
        ratios.append(with_observers["seconds"] / without["seconds"])
        fractions.append(with_observers["observer_fraction"])
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"seconds with / without observers: {median(ratios):.3f} ({spread}), {options.rounds} rounds")
    spread = f"{100 * min(fractions):.2f} to {100 * max(fractions):.2f}"
    print(f"time in observers: {100 * median(fractions):.2f} % ({spread})")


if __name__ == "__main__":
    main()
