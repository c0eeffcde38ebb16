"""Time what reliability costs: training and checkpoints against an earlier revision, checkpoints without checksums; interleaved.

A round is one process of each revision, in turns; compared are the seconds of its training without evaluation, and those of
writing checkpoints of about ``--megabytes``, synced and renamed. Checksums are those of torch's files, which earlier revisions
wrote as well.

python scripts/bench_reliability.py [--base REV] [--rounds 5] [--megabytes 45] [overrides as for train ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from trainer.engine import checkpoint

ROOT = Path(__file__).resolve().parents[1]
WORK = [
    "architecture=resnet20", "data=fake", "data.count=2000", "data.size=32", "batch_size=128", "epochs=2", "device=cpu",
    "observer=[checkpoint,history_file]", "regularizer=[]",
]  # fmt: skip


WRITE = """
import inspect, sys, time
from pathlib import Path
from statistics import median
import torch
from trainer.engine import checkpoint
weights = {f"layer{i}": torch.randn(int(float(sys.argv[1]) * 2**18 / 20)) for i in range(20)}
keeps = "previous" in inspect.signature(checkpoint.write_temporary).parameters
seconds = []
for _ in range(9):
    more = {"previous": Path("previous.pt")} if keeps else {}
    started = time.perf_counter()
    checkpoint.write_temporary({"format": 1, "model": weights}, Path("last.pt"), **more)()
    seconds.append(time.perf_counter() - started)
print(median(seconds[2:]))
"""


def run(source: Path, folder: str, *arguments: str) -> str:
    """Run Python with the program of a directory; return what it prints."""
    variables = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=variables).stdout


def train(source: Path, overrides: list[str]) -> float:
    """Train in a process of its own with the program of a directory; return the seconds of the steps."""
    with tempfile.TemporaryDirectory() as folder:
        run(source, folder, "-m", "trainer", *WORK, *overrides, f"output={folder}/run")
        rows = (Path(folder) / "run" / "history.jsonl").read_text().splitlines()
        return sum(json.loads(row)["seconds"] for row in rows)


def write(source: Path, megabytes: float) -> float:
    """Write checkpoints in a process of its own with the program of a directory; return the median of their seconds."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return float(run(source, folder, "-c", WRITE, str(megabytes)))


def compare_revisions(base: str, rounds: int, measures: dict[str, Callable[[Path], float]]) -> None:
    """Print the ratios of this revision and an earlier one, whose files are put into a directory for the time."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "base"
        other.mkdir()
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", base], check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", str(other)], check=True, input=archive)
        for title, measure in measures.items():
            ratios = []
            for i in range(rounds):
                sides = (ROOT, other) if i % 2 else (other, ROOT)
                seconds = {side: measure(side) for side in sides}
                ratios.append(seconds[ROOT] / seconds[other])
            show(f"seconds of {title}, this revision / {base}", ratios)


def compare_checkpoints(megabytes: float, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {f"layer{i}": torch.randn(int(megabytes * 2**18 / 20), generator=generator) for i in range(20)}
    content = cast(Any, {"format": checkpoint.FORMAT, "model": weights})
    ratios = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for i in range(rounds + 1):
            seconds = {}
            for summed in (True, False) if i % 2 else (False, True):
                torch.serialization.set_crc32_options(summed)
                started = time.perf_counter()
                checkpoint.save(content, Path(folder) / f"{summed}.pt")
                seconds[summed] = time.perf_counter() - started
            ratios.append(seconds[True] / seconds[False])
    torch.serialization.set_crc32_options(True)
    show(f"seconds of writing {megabytes:g} MB, with / without checksums", ratios[1:])  # the first creates the files


def show(title: str, ratios: list[float]) -> None:
    print(f"{title}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {len(ratios)} rounds", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a revision to compare the training with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=45.0)
    options, overrides = parser.parse_known_args()
    compare_checkpoints(options.megabytes, 4 * options.rounds)
    if options.base:
        title = f"writing {options.megabytes:g} MB"
        measures = {title: lambda side: write(side, options.megabytes), "training": lambda side: train(side, overrides)}
        compare_revisions(options.base, options.rounds, measures)


if __name__ == "__main__":
    main()
