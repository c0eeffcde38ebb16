"""The table that closes a sweep."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from trainer.columns import shown, split_and_metric
from trainer.files import write_text
from trainer.formats import Result
from trainer.history import better_is
from trainer.literal import markdown_literal, printable
from trainer.records import read_result
from trainer.report.html import markdown_table
from trainer.run_dir import as_typed, terminal
from trainer.sweep.manifest import Job, Sweep
from trainer.tree import number_at


def varied_only(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the jobs' overrides without those that all jobs have.

    >>> varied_only([["optimizer=sgd", "epochs=3"], ["optimizer=adam", "epochs=3"]])
    ['optimizer=sgd', 'optimizer=adam']
    """
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [",".join(o for o in overrides if o not in common) for overrides in jobs]


def print_table(sweep: Sweep) -> int:
    """Print the results of a sweep, and write ``sweep.md`` and ``sweep.csv``; return how many jobs failed or diverged."""
    from rich.table import Table

    results = [read_result(sweep.run_dir(job)) for job in sweep.jobs]
    lines: list[list[str]] = []
    rows = [{column: show(result) for column, show in COLUMNS.items()} for result in results]
    columns = [column for column in COLUMNS if any(row[column] for row in rows)]  # which ones depends on the job
    table = Table("job", "overrides", *columns, "ended", title=str(sweep.directory))
    names = varied_only([job.overrides for job in sweep.jobs])
    for job, overrides, result, row in zip(sweep.jobs, names, results, rows, strict=True):
        failed, diverged = (result.get("status") == status for status in ("failed", "diverged"))
        reason = str(result.get("stop_reason", sweep.states[job.number])).splitlines()[0]
        cells = [row[column] for column in columns]
        ended = f"failed: {reason}" if failed else reason
        lines.append([str(job.number), overrides, *cells, ended])
        table.add_row(*lines[-1], style="red" if failed or diverged else None)
    terminal(width=None if sys.stdout.isatty() else 160).print(table)
    heads = ["job", "overrides", *columns, "ended"]
    found = best_job(sweep, results)
    best = "" if found is None else found.text
    write_text(sweep.directory / "sweep.md", markdown(sweep, heads, lines, best))
    write_text(sweep.directory / "sweep.csv", csv_text(heads, lines))
    if best:
        print(printable(best))
    failures = {status: sum(result.get("status") == status for result in results) for status in ("failed", "diverged")}
    for status, count in failures.items():
        if count:
            print(f"{count} of {len(results)} jobs {status}", file=sys.stderr)
    return sum(failures.values())


class BestJob(NamedTuple):
    """The best job of a sweep, and how it is told, with its command."""

    job: Job
    text: str


def best_job(sweep: Sweep, results: Sequence[Result]) -> BestJob | None:
    """Return the best of several jobs by their own metric; None where they have none in common."""
    metrics = {str(result.get("metric")) for result in results if result.get("status") == "finished"}
    if len(results) < 2 or len(metrics) != 1 or metrics == {"None"}:
        return None
    metric = metrics.pop()
    split, name = split_and_metric(metric)
    path = ("averaged", "validation") if split == "averaged" else (split,)
    values = {
        job.number: value
        for job, result in zip(sweep.jobs, results, strict=True)
        if result.get("status") == "finished" and (value := number_at(result, *path, name)) is not None
    }
    if not values:
        return None
    best = (max if better_is(metric) == "max" else min)(values, key=lambda number: values[number])
    job = next(job for job in sweep.jobs if job.number == best)
    command = shlex.join(["train", *as_typed(job.overrides)])
    score = f"{metric} {shown(name, values[best])}"
    return BestJob(job, f"best: job {best}, {score}, in {sweep.run_dir(job)}, made by: {command}")


def markdown(sweep: Sweep, heads: list[str], rows: list[list[str]], best: str) -> str:
    """Return the table as Markdown, with the command of the sweep."""
    command = shlex.join(["train", "-m", *sweep.command])
    lines = [f"# Sweep of {len(rows)} jobs", "", *markdown_table(heads, rows), ""]
    lines += [f"{markdown_literal(best)}.", ""] if best else []
    return "\n".join([*lines, f"Command: {markdown_literal(command)}", ""])


def csv_text(heads: list[str], rows: list[list[str]]) -> str:
    """Return the table as CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    return file.getvalue()


def _number(*path: str, form: str = "{:g}", scale: float = 1) -> Callable[[Result], str]:
    """Return a function that formats a number of a result, given by its path; empty if the result has none."""

    def show(result: Result) -> str:
        value = number_at(result, *path)
        return "" if value is None else form.format(value * scale)

    return show


def _healthy(result: Result) -> str:
    healthy = result.get("healthy")
    return ("yes" if healthy else "no") if isinstance(healthy, bool) else ""


def _own_metric(split: str) -> Callable[[Result], str]:
    """Return a function that formats the value of a run's own metric on a split; with its name unless that is the accuracy."""

    def show(result: Result) -> str:
        of_split, name = split_and_metric(str(result.get("metric") or "validation_accuracy"))
        path = ("averaged", split) if of_split == "averaged" else (split,)
        value = number_at(result, *path, name)
        if value is None:
            return ""
        return shown(name, value) if name == "accuracy" else f"{name} {shown(name, value)}"

    return show


COLUMNS = {
    "best epoch": _number("best_epoch"),
    "validation": _own_metric("validation"),
    "test": _own_metric("test"),
    "gain": _number("gain", form="{:+.2f} points", scale=100),
    "min_lr": _number("range_test", "min_lr", form="{:.3g}"),
    "suggested_lr": _number("range_test", "suggested_lr", form="{:.3g}"),
    "max_lr": _number("range_test", "max_lr", form="{:.3g}"),
    "healthy": _healthy,
    "seconds": _number("seconds", form="{:.1f}"),
}
