"""Sweeps: what a job of many says when it begins, fails and ends; the closing table is read from the run folders."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback

from trainer.checks import ConfigError

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
    from rich.console import Console
    from rich.table import Table

    found = outcomes(folder)
    jobs = [(name, result) for name, (_, result) in zip(varied_only(found), found, strict=True)]
    table = Table("job", "overrides", "best epoch", "validation", "test", "seconds", "ended", title=str(folder))
    for number, (name, result) in enumerate(jobs):
        if result["status"] == "failed":
            reason = result["stop_reason"].splitlines()[0]
            table.add_row(str(number), name, "", "", "", "", f"failed: {reason}", style="red")
            continue
        accuracies = [_percent(result.get(part)) for part in ("validation", "test")]
        best = result.get("best_epoch")
        shown = "" if best is None else f"{best:g}"
        table.add_row(str(number), name, shown, *accuracies, f"{result['seconds']:.1f}", result["stop_reason"])
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    failures = sum(result["status"] == "failed" for _, result in jobs)
    if failures:
        print(f"{failures} of {len(jobs)} jobs failed", file=sys.stderr)
    return failures


def _percent(part: dict[str, float] | None) -> str:
    return "" if not part else f"{100 * part['accuracy']:.2f} %"
