"""What watching costs: a ResNet-20 trained with all observers of the default and with none, in turns.

Each round is one process of each, ``--epochs`` epochs of pictures of 32 x 32 in batches of 128; the ratio of their seconds
of training (evaluation left out), and the share that the run itself prints, which counts the observers' own time.

python scripts/bench_watching.py [--rounds 3] [--epochs 2] [overrides as for train ...]
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


def trained(words: list[str], epochs: float, watched: bool) -> dict[str, float]:
    """The result of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        common = [*WORK, f"epochs={epochs}", "regularizer=[]", *words, f"output={folder}/run"]
        more = [] if watched else ["observer=[]"]
        command = [sys.executable, "-m", "trainer", *common, *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "run" / "result.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    options, words = parser.parse_known_args()
    ratios, shares = [], []
    for _ in range(options.rounds):
        watched, alone = (trained(words, options.epochs, watched) for watched in (True, False))
        ratios.append(watched["seconds"] / alone["seconds"])
        shares.append(watched["watching_share"])
    print(
        f"seconds watched / unwatched: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {options.rounds} rounds"
    )
    print(
        f"the observers' own share: {100 * median(shares):.2f} % ({100 * min(shares):.2f} to {100 * max(shares):.2f})"
    )


if __name__ == "__main__":
    main()
