"""Breaks training runs on purpose, many times a second, and tells what was lost.

A server imports the program once; each trial is a forked process with a directory of its own. A trial kills or signals a run,
a sweep or a distributed run at a random moment, fails one operation of the disk, or damages a file; then the run is resumed,
and compared with an uninterrupted one bit for bit: weights, averages, optimizer, random numbers, history. Fuzzed inputs
(``fuzz``) are given to the functions that read them; hostile configs, checkpoints and files (``hostile``) to the commands that
take them, while an audit hook watches for foreign calls and for writes outside the directory. Lost is a difference, a
traceback, an exit code that does not tell, a temporary file, a lock that stays, more than 5 s of the processor, a foreign call.

The table lists fault, tried, survived, lost. The exit code is 1 if anything is lost; the directories of lost trials are kept.
With ``--output`` the counts are kept in a file, and the same command continues until all are reached, so that a long series can
be run in parts (``--minutes``).

python scripts/torture.py [--short] [--minutes 5 --output counts.json] [--kill 300 --signal 200 --disk 300 --damage 300
    --sweep 20 --ddp 20 --fuzz 100000 --hostile 1000] [--seed 0] [--only kill fuzz]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torturing import fuzzing, hostile, runs
from torturing.processes import train, wait
from torturing.tally import Tally

SHORT = 2.0  # minutes
LONG = {
    "kill": 300,
    "signal": 200,
    "disk": 300,
    "damage": 300,
    "sweep": 20,
    "ddp": 20,
    "fuzz": 100_000,
    "hostile": 1000,
}
# Of all fuzzed inputs, how many are of each kind, and how many of them one process takes: some ten seconds of work.
FUZZED = {"overrides": 0.025, "checkpoints": 0.025, "spaces": 0.25, "records": 0.2, "images": 0.5}
CHUNKS = {"overrides": 125, "checkpoints": 250, "spaces": 1000, "records": 1000, "images": 4000}


class Uninterrupted:
    """Runs that nobody interrupts, made when they are first needed: what the others are compared with."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.known: dict[str, tuple[Any, float]] = {}

    def __call__(self, kind: str) -> tuple[Any, float]:
        """Return what a run of a kind leaves, and the seconds that it takes."""
        if kind not in self.known:
            folder = self.home / f"uninterrupted {kind}"
            folder.mkdir()
            started = time.monotonic()
            if kind == "ddp":
                codes = [wait(child) for child in runs.distributed(folder, *runs.DDP, "output=run")]
            else:
                words = runs.SWEEP if kind == "sweep" else [*runs.BASE, *runs.RUNS[kind]]
                codes = [wait(train(folder, *words, "output=run"))]
            if any(codes):
                raise SystemExit("\n".join(path.read_text() for path in folder.glob("log*")))
            seconds, run = time.monotonic() - started, folder / "run"
            jobs = {path.parent.name: runs.state(path.parent) for path in run.glob("*/config.yaml")}
            left = jobs if kind == "sweep" else runs.state(run)
            self.known[kind] = left, seconds
        return self.known[kind]


def run_trial(name: str, number: int, seed: int, home: Path, uninterrupted: Uninterrupted) -> tuple[str, str]:
    """Break one run; return its row of the table and what was lost."""
    chance = random.Random(f"{seed}/{name}/{number}")
    kind = name if name in ("sweep", "ddp") else list(runs.RUNS)[number % len(runs.RUNS)]
    whole, seconds = uninterrupted(kind)
    folder = home / f"{name} {number}"
    folder.mkdir()
    if name in ("sweep", "ddp"):
        failure = {"sweep": runs.sweep_killed, "ddp": runs.ddp_killed}[name](folder, chance, 1.1 * seconds, whole)
    else:
        words = [*runs.BASE, *runs.RUNS[kind], "output=run"]
        failure = runs.FAULTS[name](folder, words, chance, 1.1 * seconds) or runs.judge(
            folder, words, whole, name == "damage"
        )
    if failure:
        return kind, f"{folder}: {failure}"
    shutil.rmtree(folder)
    return kind, ""


def trials(name: str, wanted: int, tally: Tally, seed: int, home: Path, uninterrupted: Uninterrupted) -> Iterator[None]:
    """Make the trials of a kind that are still missing, one for each step of the iterator."""
    if name == "fuzz":
        for number in range(10**9):
            # The kind that is furthest behind.
            missing = {k: wanted * part - tally.rows.get(f"fuzz: {k}", [0])[0] for k, part in FUZZED.items()}
            kind = max(missing, key=lambda k: missing[k] / FUZZED[k])
            if missing[kind] <= 0:
                return
            done = tally.rows.get(f"fuzz: {kind}", [0])[0]
            count = min(CHUNKS[kind], max(1, int(missing[kind] + 0.5)))
            tried, failures = fuzzing.fuzz(kind, 1_000_000 * seed + done + number, count, home)
            tally.add("fuzz", kind, tried, failures)
            yield
    elif name == "hostile":
        uninterrupted("every epoch")
        known = hostile.cases(home / "uninterrupted every epoch" / "run")
        for number, (title, write) in enumerate(islice(known, tally.tried(name), wanted), tally.tried(name)):
            folder = home / f"hostile {number}"
            failure = hostile.attempt(title, write, folder)
            tally.add(name, title.partition(":")[0], 1, [f"{title}, {folder}: {failure}"] if failure else [])
            if not failure:
                shutil.rmtree(folder)
            yield
    else:
        for number in range(tally.tried(name), wanted):
            kind, failure = run_trial(name, number, seed, home, uninterrupted)
            tally.add(name, kind, 1, [failure] if failure else [])
            yield


def torture(counts: dict[str, int], minutes: float | None, seed: int, tally: Tally, home: Path) -> bool:
    """Make the missing trials of all kinds in turn until the time is over; return whether none is missing any more."""
    uninterrupted = Uninterrupted(home)
    whole = home / "whole"
    uninterrupted("every epoch")
    whole.symlink_to(home / "uninterrupted every epoch")  # what fuzzed files are made from
    end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    pending = {name: trials(name, count, tally, seed, home, uninterrupted) for name, count in counts.items()}
    while pending and time.monotonic() < end:
        for name in list(pending):
            if next(pending[name], done := object()) is done:
                del pending[name]
            if time.monotonic() > end:
                break
    return not pending


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT:g} minutes, as in CI")
    parser.add_argument("--minutes", type=float, help="end after this time; with --output the same command continues")
    parser.add_argument("--output", type=Path, help="file of the counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=LONG, default=list(LONG))
    for name, count in LONG.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"how many, by default {count:,}")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    home, tally = Path(tempfile.mkdtemp(prefix="torture-")), Tally(arguments.output)
    warm_up(home / "first")
    counts = {name: getattr(arguments, name) for name in arguments.only}
    complete = torture(counts, SHORT if arguments.short else arguments.minutes, arguments.seed, tally, home)
    print(f"\n{tally.table()}")
    if not complete and not arguments.short:
        print(
            "not all trials were made; the same command continues" if arguments.output else "not all trials were made"
        )
    if tally.lost:
        print(f"the directories of lost trials are in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home)
    return 0


def warm_up(folder: Path) -> None:
    """Import what every trial needs."""
    from trainer.cli import main as program

    work: Callable[[], int] = lambda: program([*runs.BASE, *runs.RUNS["report"], f"output={folder}"])  # noqa: E731
    with contextlib.redirect_stdout(io.StringIO()):
        work()


if __name__ == "__main__":
    sys.exit(main())
