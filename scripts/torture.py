"""Breaks training runs on purpose, many times a second, and tells what was lost.

A server imports the program once; each trial is a forked process with a directory of its own. A trial kills or signals a run at a
random moment, fails one operation of the disk, or damages one byte of a checkpoint; then the run is resumed, and compared with an
uninterrupted one bit for bit: weights, averages, optimizer, random numbers, history. Lost is a difference, a traceback, an exit
code that does not tell, a temporary file, or a lock that stays.

The table lists fault, tried, survived, lost. The exit code is 1 if anything is lost; the directories of lost trials are kept.

python scripts/torture.py [--short | --minutes 60 | --trials 1100] [--seed 0] [--only kill signal disk damage]
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SHORT, LONG = 2.0, 60.0  # minutes
LIMIT = 60.0  # seconds for one process
BASE = [
    "data=fake", "data.size=12", "data.count=150", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16", "epochs=3",
    "device=cpu", "averaging=ema", "augmentation=[crop,flip]", "regularizer=[dropout,mixup]", "engine.threads=1",
]  # fmt: skip
RUNS = {
    "every epoch": ["observer=[checkpoint,history_file]"],
    "every step": ["observer=[checkpoint,history_file]", "observer.checkpoint.every_steps=1"],
    "phases": ["observer=[checkpoint,history_file]", "recipe=finetune", "recipe.head_epochs=1"],
    "report": ["observer=[checkpoint,history_file,diagnosis,report]", "epochs=1"],
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EFBIG, errno.EMFILE)


def call(folder: Path, *overrides: str, before: Callable[[], None] = lambda: None) -> int:
    """Start the program in a forked process, its output in ``log``; return the process id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from trainer.cli import main

        before()
        code = main(list(overrides))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a process, negative if a signal ended it; one that does not end is killed."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def state(run: Path) -> dict[str, Any]:
    """What a run leaves, without wall-clock times."""
    content = {name: torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True) for name in ("last", "best")}
    history = [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
        for row in content["last"]["state"]["history"]
    ]
    # A resumed run has a list of its resumes, and another file of TensorBoard's events.
    own = [p for p in run.rglob("*") if p.is_file() and p.name != "resumed.jsonl" and "tfevents" not in p.name]
    files = {str(p.relative_to(run)) for p in own}
    return {"state": {**content["last"]["state"], "history": history}, "best": content["best"]["model"], "files": files}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def kill(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """SIGKILL at a random moment."""
    child = call(folder, *overrides)
    time.sleep(chance.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    code = wait(child)
    return "" if code in (0, -signal.SIGKILL) else f"exit code {code}"


def interrupt(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """One or two signals at a random moment."""
    child = call(folder, *overrides)
    time.sleep(chance.uniform(0, seconds))
    for _ in range(chance.choice((1, 2))):
        os.kill(child, chance.choice(SIGNALS))
        time.sleep(chance.choice((0.0, 0.01)))
    code = wait(child)
    return "" if code in (0, 130, -signal.SIGTERM, -signal.SIGINT) else f"exit code {code}"


def fail_disk(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """One operation fails, or all of them from there on."""
    operation, error = chance.choice(("replace", "fsync", "open", "mkdir")), chance.choice(ERRORS)
    number, lasting = chance.randint(1, 30), chance.random() < 0.5

    def inject() -> None:
        count, real = [0], getattr(os, operation)

        def failing(*arguments: Any, **keywords: Any) -> Any:
            writes = operation != "open" or (len(arguments) > 1 and arguments[1] & (os.O_WRONLY | os.O_RDWR))
            count[0] += bool(writes)
            if writes and (count[0] == number or (lasting and count[0] > number)):
                raise OSError(error, os.strerror(error), "run")
            return real(*arguments, **keywords)

        setattr(os, operation, failing)

    code = wait(call(folder, *overrides, before=inject))
    return "" if code in (0, 1, 2) else f"{operation} {number}: exit code {code}"


def damage(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """A bit of ``last.pt`` changes, or its end is lost, after the run was interrupted."""
    failure = interrupt(folder, overrides, chance, seconds)
    last = folder / "run" / "checkpoints" / "last.pt"
    if failure or not last.is_file():
        return failure
    data = bytearray(last.read_bytes())
    if chance.random() < 0.7:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        del data[chance.randrange(len(data)) :]
    last.write_bytes(data)
    return ""


FAULTS = {"kill": kill, "signal": interrupt, "disk": fail_disk, "damage": damage}


def judge(folder: Path, overrides: list[str], whole: dict[str, Any], damaged: bool) -> str:
    """Resume the run, or start it if it has not begun; return what was lost."""
    run = folder / "run"
    begun = (run / "config.yaml").is_file()
    code = wait(call(folder, "resume=run") if begun else call(folder, *overrides))
    log = (folder / "log").read_text(errors="replace")
    if "Traceback" in log:
        return "a traceback"
    if code == 2 and damaged and ("damaged" in log or "cannot be read" in log):
        return ""  # refused: there was no checkpoint before it
    if code != 0:
        return f"resuming ends with code {code}"
    found = state(run)
    different = [key for key in whole if not same(found[key], whole[key])]
    if "files" in different:
        different.append(f"{sorted(found['files'] ^ whole['files'])}")
    return f"different: {', '.join(different)}" if different else ""


def torture(minutes: float, trials: int | None, seed: int, names: list[str], home: Path) -> int:
    """Run trials in turn, as many as given or until the time is over; print the table and return how many lost something."""
    unbroken = {}
    for kind, extra in RUNS.items():
        folder = home / f"whole {kind}"
        folder.mkdir()
        started = time.monotonic()
        code = wait(call(folder, *BASE, *extra, "output=run"))
        if code:
            print((folder / "log").read_text(), file=sys.stderr)
            return 1
        unbroken[kind] = state(folder / "run"), time.monotonic() - started
    tried, lost, end, number = Counter[str](), Counter[str](), time.monotonic() + 60 * minutes, 0
    while number < trials if trials is not None else time.monotonic() < end:
        name, kind = names[number % len(names)], list(RUNS)[number // len(names) % len(RUNS)]
        folder, (whole, seconds) = home / f"{number}", unbroken[kind]
        folder.mkdir()
        overrides = [*BASE, *RUNS[kind], "output=run"]
        failure = FAULTS[name](folder, overrides, random.Random(f"{seed}/{number}"), 1.1 * seconds)
        failure = failure or judge(folder, overrides, whole, name == "damage")
        row = f"{name}, {kind}"
        tried[row] += 1
        if failure:
            lost[row] += 1
            print(f"lost: {row}, {folder}: {failure}", flush=True)
        else:
            shutil.rmtree(folder)
        number += 1
    print("\n| fault | tried | survived | lost |\n|---|---|---|---|")
    for row in sorted(tried):
        print(f"| {row} | {tried[row]} | {tried[row] - lost[row]} | {lost[row]} |")
    print(f"| **sum** | {number} | {number - lost.total()} | {lost.total()} |")
    return lost.total()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT:g} minutes, as in CI")
    parser.add_argument("--minutes", type=float, default=LONG)
    parser.add_argument("--trials", type=int, help="number of trials, however long they take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    from trainer.cli import main as train

    home = Path(tempfile.mkdtemp(prefix="torture-"))
    with contextlib.redirect_stdout(io.StringIO()):  # imports what every trial needs
        train([*BASE, *RUNS["report"], f"output={home / 'first'}"])
    minutes = SHORT if arguments.short else arguments.minutes
    lost = torture(minutes, arguments.trials, arguments.seed, arguments.only, home)
    if lost:
        print(f"the directories of lost trials are in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
