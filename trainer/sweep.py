"""Sweeps (``-m``): Hydra enumerates the jobs, each takes the same path as a single command, a table closes the sweep."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.compose import hydra_problem, search_path
from trainer.config.constraints import launched_processes
from trainer.config.load import load_config, prepare
from trainer.config.options import CONF, OptionFiles
from trainer.config.overrides import render
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import FAILED, INTERRUPTED
from trainer.run_dir import read_result, slug, terminal, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config

Run = Callable[["Config", Sequence[str], Path], int]


def run_sweep(overrides: Sequence[str], files: OptionFiles, defaults: Sequence[str], run: Run) -> int:
    """Run every combination of the values; return the worst exit code.

    Args:
        overrides: As typed.
        files: The option files.
        defaults: Overrides that stand in front of the user's.
        run: What runs one job, given its config, overrides and run directory.
    """
    if launched_processes() > 1:
        hint = "torchrun ... -m trainer engine=ddp for each run, without -m"
        raise ConfigError(Problem("", None, "a sweep needs a single process, and torchrun started several", hint))
    command = prepare(overrides, files, defaults, multirun=True)
    if any(o.key == "resume" and o.value is not None for o in command.typed):
        command.problems.append(Problem("resume", None, "cannot be combined with -m: resume one run at a time"))
    if command.problems:
        command.compose()  # raises, with the errors of the values
    output = next((str(o.value) for o in command.typed if o.key == "output"), None)
    directory = Path(output or datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S_sweep"))
    codes: list[int] = []

    def job(_: Any) -> None:
        codes.append(_run_job(run, files, defaults))
        if codes[-1] == INTERRUPTED:
            raise KeyboardInterrupt  # the remaining jobs do not start

    from omegaconf import OmegaConf

    varied = tuple(f"{o.key}=" for o in command.typed if o.sweep)
    OmegaConf.register_new_resolver("job_directory", partial(_job_directory, varied), replace=True)
    # Hydra checks keys against the options without the sweep over them. Each job has its config composed and checked
    # by `load_config`, so here every key is added.
    texts = [
        o.text if o.kind or o.key.startswith("hydra") or o.key in files.groups else f"++{o.text}" for o in command.typed
    ]
    places = [f"hydra.sweep.dir={render(str(directory))}", "hydra.sweep.subdir='${job_directory:}'"]
    typed = {o.key for o in command.typed}
    run_hydra(["--multirun"], [*(p for p in places if p.partition("=")[0] not in typed), *texts], files, job)
    return max([*codes, min(print_table(directory), FAILED)])


def run_hydra(
    flags: Sequence[str], overrides: Sequence[str], files: OptionFiles, task: Callable[[Any], None] = lambda _: None
) -> None:
    """Let Hydra do what only Hydra can: ``--multirun``, ``--info``, ``--cfg hydra``."""
    from hydra._internal.utils import _run_hydra, get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing
    parser = get_args_parser()
    # hydra.main() reads sys.argv; this is what it calls then.
    arguments = parser.parse_args([*flags, *search_path(files), *overrides])
    try:
        _run_hydra(arguments, parser, task, config_path=str(CONF), config_name="train")
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(hydra_problem(error)) from None


def _run_job(run: Run, files: OptionFiles, defaults: Sequence[str]) -> int:
    """Run one job of a sweep; report and record a failure, so that the next one can start."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    task: list[str] = [str(text) for text in hydra.overrides.task]
    overrides = [text.removeprefix("++") for text in task]
    number, directory = hydra.job.num, Path(hydra.runtime.output_dir)
    print(f"\n#{number} {' '.join(overrides) or 'no override'}", flush=True)
    try:
        config = load_config(overrides, files.directories[1:], defaults)
        return run(config, overrides, directory)
    except ConfigError as error:
        reason = str(error)
    except Exception as error:  # a bug, of ours or in a class of the user: the traceback is needed
        reason = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    print(f"#{number} failed: {reason}", file=sys.stderr, flush=True)
    write_json(directory / "result.json", {"status": "failed", "stop_reason": reason})
    return FAILED


def _job_directory(varied: tuple[str, ...]) -> str:
    """The directory of a job inside that of the sweep, as a resolver of Hydra's config.

    What varies comes first, so that a long name that is cut still tells the jobs apart.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    overrides = [str(text).removeprefix("++") for text in hydra.overrides.task]
    return "_".join(filter(None, [str(hydra.job.num), slug(sorted(overrides, key=lambda o: not o.startswith(varied)))]))


def results(directory: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return each job's overrides and result, ordered by job number."""
    jobs = []
    for file in directory.glob("*/result.json"):
        number, _, overrides = file.parent.name.partition("_")
        if number.isdigit():
            jobs.append((int(number), overrides, read_result(file.parent)))
    return [(overrides, result) for _, overrides, result in sorted(jobs, key=lambda job: job[0])]


def varied_only(jobs: list[tuple[str, Any]]) -> list[str]:
    """Return the jobs' overrides without those that all jobs have.

    >>> varied_only([("optimizer=sgd,epochs=3", {}), ("optimizer=adam,epochs=3", {})])
    ['optimizer=sgd', 'optimizer=adam']
    """
    overrides = [text.split(",") for text, _ in jobs]
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [",".join(o for o in of_job if o not in common) for of_job in overrides]


def print_table(directory: Path) -> int:
    """Print the results of a sweep; return how many jobs failed."""
    from rich.table import Table

    jobs = results(directory)
    rows = [{column: show(result) for column, show in COLUMNS.items()} for _, result in jobs]
    columns = [column for column in COLUMNS if any(row[column] for row in rows)]  # which ones depends on the job
    table = Table("job", "overrides", *columns, "ended", title=str(directory))
    for number, (overrides, (_, result), row) in enumerate(zip(varied_only(jobs), jobs, rows, strict=True)):
        failed, reason = result["status"] == "failed", result["stop_reason"].splitlines()[0]
        cells = [row[column] for column in columns]
        ended = f"failed: {reason}" if failed else reason
        table.add_row(str(number), overrides, *cells, ended, style="red" if failed else None)
    terminal(width=None if sys.stdout.isatty() else 160).print(table)
    failures = sum(result["status"] == "failed" for _, result in jobs)
    if failures:
        print(f"{failures} of {len(jobs)} jobs failed", file=sys.stderr)
    return failures


def _number(*path: str, form: str = "{:g}", scale: float = 1) -> Callable[[dict[str, Any]], str]:
    """Return a function that formats a number of a result, given by its path; empty if the result has none."""

    def show(result: dict[str, Any]) -> str:
        value: Any = result
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return "" if value is None else form.format(value * scale)

    return show


COLUMNS = {
    "best epoch": _number("best_epoch"),
    "validation": _number("validation", "accuracy", form="{:.2f} %", scale=100),
    "test": _number("test", "accuracy", form="{:.2f} %", scale=100),
    "gain": _number("gain", form="{:+.2f} points", scale=100),
    "min_lr": _number("range_test", "min_lr", form="{:.3g}"),
    "suggested_lr": _number("range_test", "suggested_lr", form="{:.3g}"),
    "max_lr": _number("range_test", "max_lr", form="{:.3g}"),
    "healthy": lambda result: {True: "yes", False: "no"}.get(result.get("healthy"), ""),
    "seconds": _number("seconds", form="{:.1f}"),
}
