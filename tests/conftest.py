"""Shared helpers: a command in this process or in one of its own, and what is read back from run directories."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.environment import configure_libraries

configure_libraries()

# A small run with every stateful part: batch norm, dropout, momentum, warmup, averaging, augmentation.
STATEFUL = (
    "data=fake", "data.size=12", "data.count=150", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16",
    "regularizer=[dropout,mixup]", "schedule=[warmup,cosine]", "averaging=ema", "augmentation=[crop,flip]", "epochs=3",
)  # fmt: skip
QUIET = "observer=[checkpoint,history_file]"


def pytest_collection() -> None:
    """Import without searching for cyclic garbage, and leave out of later searches what exists then: as the program does."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _few_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, because tests run in parallel; nothing is written into the checkout."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TRAINER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRAINER_ALLOW", "")  # restored after a test has named a module
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Any:
    """``train(*arguments)`` in this process: (exit code, standard output, standard error)."""
    from trainer.cli import main

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def start(*arguments: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``train`` as a process of its own in the directory ``cwd``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "trainer", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def result_of(folder: Path | str) -> dict[str, Any]:
    return json.loads((Path(folder) / "result.json").read_text())


def history_of(folder: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "history.jsonl").read_text().splitlines()]


def load(folder: Path | str, name: str = "last") -> dict[str, Any]:
    return torch.load(Path(folder) / "checkpoints" / f"{name}.pt", weights_only=True, map_location="cpu")


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """History rows without wall-clock times."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal bit for bit, through nested containers."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def same_run(a: Path | str, b: Path | str) -> bool:
    """Whether two runs ended with equal weights, averages, optimizer, generators and history, bit for bit."""
    first, second = load(a)["state"], load(b)["state"]
    first["history"], second["history"] = without_clock(first["history"]), without_clock(second["history"])
    same_file = without_clock(history_of(a)) == without_clock(history_of(b))
    return same_file and same(first, second) and same(load(a, "best")["model"], load(b, "best")["model"])
