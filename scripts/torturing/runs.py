"""Trials with whole runs: killed, interrupted, failed or damaged, then resumed and compared bit for bit with one that was not."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from torturing.processes import fork, train, wait

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
SWEEP = ["-m", *BASE, *RUNS["every epoch"], "seed=0,1", "epochs=2"]
DDP = [*BASE, *RUNS["every epoch"], "engine=ddp"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EFBIG, errno.EMFILE)
CLOCK = ("seconds", "images_per_second")


def state(run: Path) -> dict[str, Any]:
    """Return what a run leaves, without wall-clock times."""
    content = {name: torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True) for name in ("last", "best")}
    history = [{k: v for k, v in row.items() if k not in CLOCK} for row in content["last"]["state"]["history"]]
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


def different(run: Path, whole: dict[str, Any]) -> str:
    """Return in what a run differs from an uninterrupted one; empty where it is equal bit for bit."""
    found = state(run)
    names = [key for key in whole if not same(found[key], whole[key])]
    if "files" in names:
        names.append(f"{sorted(found['files'] ^ whole['files'])}")
    return f"different: {', '.join(names)}" if names else ""


def kill(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """SIGKILL at a random moment."""
    child = train(folder, *overrides)
    time.sleep(chance.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    code = wait(child)
    return "" if code in (0, -signal.SIGKILL) else f"exit code {code}"


def interrupt(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """One or two signals at a random moment."""
    child = train(folder, *overrides)
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

    code = wait(train(folder, *overrides, before=inject))
    return "" if code in (0, 1, 2) else f"{operation} {number}: exit code {code}"


FILES = ("checkpoints/last.pt",) * 6 + (
    "result.json",
    "history.jsonl",
    "layers.jsonl",
    "environment.json",
    "overrides.txt",
)


def damage(folder: Path, overrides: list[str], chance: random.Random, seconds: float) -> str:
    """A bit of ``last.pt`` or of another file changes, or its end is lost, after the run was interrupted."""
    failure = interrupt(folder, overrides, chance, seconds)
    path = folder / "run" / chance.choice(FILES)
    if failure or not path.is_file() or not path.stat().st_size:
        return failure
    data = bytearray(path.read_bytes())
    if chance.random() < 0.7:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)
    return ""


Fault = Callable[[Path, list[str], random.Random, float], str]
FAULTS: dict[str, Fault] = {"kill": kill, "signal": interrupt, "disk": fail_disk, "damage": damage}


def judge(folder: Path, overrides: list[str], whole: dict[str, Any], damaged: bool) -> str:
    """Resume the run, or start it if it has not begun; return what was lost."""
    run = folder / "run"
    begun = (run / "config.yaml").is_file()
    code = wait(train(folder, "resume=run") if begun else train(folder, *overrides))
    log = (folder / "log").read_text(errors="replace")
    if "Traceback" in log:
        return "a traceback"
    if code == 2 and damaged and any(text in log for text in ("damaged", "cannot be read", "of another run")):
        return ""  # refused: there was no checkpoint before it
    if code != 0:
        return f"resuming ends with code {code}"
    return different(run, whole)


def sweep_killed(folder: Path, chance: random.Random, seconds: float, whole: dict[str, Any]) -> str:
    """A sweep killed at a random moment, then the same command again."""
    words = [*SWEEP, "output=run"]
    child = train(folder, *words)
    time.sleep(chance.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    wait(child)
    code = wait(train(folder, *words))
    if "Traceback" in (folder / "log").read_text(errors="replace"):
        return "a traceback"
    if code:
        return f"the same command ends with code {code}"
    return next((text for job, left in whole.items() if (text := different(folder / "run" / job, left))), "")


def distributed(folder: Path, *overrides: str) -> list[int]:
    """Start two processes that train together on the CPU, as torchrun does; return their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number: int) -> Callable[[], int]:
        def work() -> int:
            from trainer.cli import main

            own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
            return main(list(overrides))

        return work

    return [fork(rank(number), folder, f"log{number}") for number in range(2)]


def ddp_killed(folder: Path, chance: random.Random, seconds: float, whole: dict[str, Any]) -> str:
    """Both processes of a distributed run killed at a random moment, then resumed."""
    children = distributed(folder, *DDP, "output=run")
    time.sleep(chance.uniform(0, seconds))
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        wait(child)
    begun = (folder / "run" / "config.yaml").is_file()
    codes = [wait(child) for child in distributed(folder, *(["resume=run"] if begun else [*DDP, "output=run"]))]
    if any("Traceback" in path.read_text(errors="replace") for path in folder.glob("log?")):
        return "a traceback"
    return different(folder / "run", whole) if codes == [0, 0] else f"resuming ends with codes {codes}"
