"""Sweeps: what a job of many says when it begins, fails and ends; the closing table is read from the run folders."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback

from trainer.errors import ConfigError
from trainer.run_dir import terminal

FAILED = 1


def guard(cfg: Any, job: Callable[[Any], int]) -> int:
    """Run one job of a sweep; a failure is told at once and recorded, and the next job goes on."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    print(f"\n#{hydra.job.num} {' '.join(hydra.overrides.task) or 'no override'}", flush=True)
    try:
        return job(cfg)
    except ConfigError as error:
        reason = str(error)
        print(f"#{hydra.job.num} failed: {reason}", file=sys.stderr, flush=True)
    except Exception as error:  # a fault of ours or of a class of the user's: it needs its traceback
        reason = f"{type(error).__name__}: {error}"
        traceback.print_exc()
        print(f"#{hydra.job.num} failed: {reason}", file=sys.stderr, flush=True)
    folder = Path(hydra.runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"status": "failed", "stop_reason": reason}, indent=1) + "\n")
    return FAILED


class SweepTable(Callback):
    """Prints the table that closes a sweep (a Hydra callback, named in ``conf/train.yaml``)."""

    failed: ClassVar[int] = 0  # jobs of the last sweep; they may have run in other processes, so the folders are asked

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        SweepTable.failed = print_table(Path(config.hydra.sweep.dir))


def outcomes(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each job's overrides and result, in the order of their numbers."""
    found = []
    for file in folder.glob("*/result.json"):
        number, _, name = file.parent.name.partition("_")
        if number.isdigit():
            found.append((int(number), name, json.loads(file.read_text())))
    return [(name, result) for _, name, result in sorted(found, key=lambda job: job[0])]


def varied_only(jobs: list[tuple[str, Any]]) -> list[str]:
    """The jobs' overrides without those that all of them have.

    >>> varied_only([("optimizer=sgd,epochs=3", {}), ("optimizer=adam,epochs=3", {})])
    ['optimizer=sgd', 'optimizer=adam']
    """
    words = [name.split(",") for name, _ in jobs]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return [",".join(w for w in mine if w not in common) for mine in words]


def print_table(folder: Path) -> int:
    """The jobs of a sweep with how they ended; returns how many failed."""
    from rich.table import Table

    found = outcomes(folder)
    jobs = [(name, result) for name, (_, result) in zip(varied_only(found), found, strict=True)]
    rows = [{head: show(result) for head, show in COLUMNS.items()} for _, result in jobs]
    heads = [head for head in COLUMNS if any(row[head] for row in rows)]  # each kind of job has some
    table = Table("job", "overrides", *heads, "ended", title=str(folder))
    for number, ((name, result), row) in enumerate(zip(jobs, rows, strict=True)):
        failed, reason = result["status"] == "failed", result["stop_reason"].splitlines()[0]
        ended = f"failed: {reason}" if failed else reason
        table.add_row(str(number), name, *(row[head] for head in heads), ended, style="red" if failed else None)
    console = terminal(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    failures = sum(result["status"] == "failed" for _, result in jobs)
    if failures:
        print(f"{failures} of {len(jobs)} jobs failed", file=sys.stderr)
    return failures


def _number(*path: str, form: str = "{:g}", scale: float = 1) -> Callable[[dict[str, Any]], str]:
    """What shows a number of a result by its path; nothing where the result has none."""

    def show(result: dict[str, Any]) -> str:
        found: Any = result
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return "" if found is None else form.format(found * scale)

    return show


COLUMNS = {
    "best epoch": _number("best_epoch"),
    "validation": _number("validation", "accuracy", form="{:.2f} %", scale=100),
    "test": _number("test", "accuracy", form="{:.2f} %", scale=100),
    "gain": _number("gain", form="{:+.2f} points", scale=100),
    "floor": _number("range_test", "floor", form="{:.3g}"),
    "fixed rate": _number("range_test", "fixed", form="{:.3g}"),
    "peak": _number("range_test", "peak", form="{:.3g}"),
    "healthy": lambda result: {True: "yes", False: "no"}.get(result.get("healthy"), ""),
    "seconds": _number("seconds", form="{:.1f}"),
}
