"""The tables of ``job=compare``: as Markdown, in the terminal, as CSV."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from trainer.analysis.comparison import Effect, Group, Outcome, differences_to_best, format_value, significant
from trainer.analysis.intervals import Interval, interval
from trainer.analysis.transfer import Transfer
from trainer.columns import IN_UNITS, is_percentage
from trainer.history import better_is, key_word
from trainer.literal import markdown_literal, print_literal
from trainer.report.html import markdown_table
from trainer.run_dir import terminal

VERDICTS = {True: "worse", False: "no clear difference", None: "unknown: single run"}
EFFECTS = {True: "yes", False: "no: it may be chance", None: "unknown: single run"}
EFFECT_COLUMNS = ["key", "from -> to", "pairs", "effect", "has an effect"]
TRANSFER_COLUMNS = ["task", "metric", "alone", "with others", "settings of the others", "difference", "verdict"]
USUAL = ("accuracy", "loss")


@dataclass(frozen=True)
class Comparison:
    """Groups of runs compared by a score, and what is known of the effects of keys and of other tasks."""

    metric: str
    groups: list[Group]
    effects: list[Effect]
    transfers: list[Transfer]
    confidence: float
    best: str = ""  # the best run, and the command that repeats it

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """The tables: title, columns, rows; those without rows are left out."""
        tables = [
            ("", group_columns(self.metric, self.groups), group_rows(self.metric, self.groups, self.confidence)),
            ("Effect of each key, all others equal", EFFECT_COLUMNS, effect_rows(self.effects, self.metric)),
            ("Tasks alone and with others", TRANSFER_COLUMNS, transfer_rows(self.transfers)),
        ]
        return [table for table in tables if table[2]]

    def page(self, warnings: Sequence[str]) -> str:
        """The comparison as Markdown."""
        (_, columns, rows), *others = self.tables()
        lines = [f"# {sum(len(g.runs) for g in self.groups)} runs compared by {self.metric}", ""]
        lines += markdown_table(columns, rows)
        intervals = (
            f"Mean and {100 * self.confidence:g} % confidence interval (t) over runs that differ only in the seed"
        )
        lines += ["", f"{intervals}; differences with Welch's interval.", "", "![curves of all groups](compare.png)"]
        lines += ["", *(f"* Warning: {markdown_literal(warning)}." for warning in warnings)] if warnings else []
        lines += ["", f"{markdown_literal(self.best)}."] if self.best else []
        findings = transfer_findings(self.transfers)
        lines += (
            ["", *(f"* {markdown_literal(finding, within_line=True)}." for finding in findings)] if findings else []
        )
        names = further_metrics(self.metric, self.groups)
        if names:
            columns, rows = [*self.groups[0].settings, *names], metric_rows(names, self.groups, self.confidence)
            others = [("All metrics", columns, rows), *others]
        for title, columns, rows in others:
            lines += ["", f"## {title}", "", *markdown_table(columns, rows)]
        return "\n".join([*lines, ""])

    def show(self, run_dir: Path) -> None:
        """Print the comparison."""
        console = terminal(width=None if sys.stdout.isatty() else 160)
        for _, columns, rows in self.tables():
            table = Table(*columns)
            for row in rows:
                table.add_row(*row)
            console.print(table)
        for finding in transfer_findings(self.transfers):
            print_literal(finding)
        if self.best:
            print_literal(self.best)
        print_literal(f"compare.md, compare.png and compare.csv are in {run_dir}")


def label(group: Group) -> str:
    """Return a group's settings as text.

    >>> label(Group({"optimizer": "sgd", "optimizer.lr": 0.1}))
    'optimizer=sgd optimizer.lr=0.1'
    """
    return " ".join(f"{k}={format_value(v)}" for k, v in group.settings.items()) or "the same config"


def group_columns(metric: str, groups: list[Group]) -> list[str]:
    return [*groups[0].settings, "runs", metric, "difference to best", "compared with the best"]


def group_rows(metric: str, groups: list[Group], confidence: float) -> list[list[str]]:
    """Return a row per group, best first: settings, number of runs, mean, difference to the best, its significance."""
    higher_is_better = better_is(metric) == "max"
    rows = []
    for group, gap in zip(groups, differences_to_best(groups, higher_is_better, confidence), strict=True):
        settings = [format_value(v) for v in group.settings.values()]
        failed = len(group.runs) - len(group.scores)
        count = f"{len(group.scores)}" + (f" (+{failed} without a score)" if failed else "")
        mean = group.interval(confidence)
        if mean is None or gap is None:
            rows.append((math.inf, [*settings, count, "", "", ""]))
            continue
        cells = [mean_and_interval(metric, mean)]
        if gap.mean == 0:
            cells += ["", "best"]
        else:
            cells += [number(metric, gap.mean, "+") + plus_minus(gap.half, metric), VERDICTS[significant(gap)]]
        rows.append((-mean.mean if higher_is_better else mean.mean, [*settings, count, *cells]))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def effect_rows(effects_of_keys: list[Effect], metric: str = "") -> list[list[str]]:
    """Return a row per changed value of a key."""
    return [
        [
            row["key"],
            f"{row['from']} -> {row['to']}",
            str(row["pairs"]),
            number(metric, row["effect"], "+") + plus_minus(row["half"], metric),
            EFFECTS[row["significant"]],
        ]
        for row in effects_of_keys
    ]


def plus_minus(half: float, metric: str = "") -> str:
    """Return the half-width of an interval as it follows a mean.

    >>> plus_minus(0.01), plus_minus(math.inf)
    (' ± 0.0100', '')
    """
    return f" ± {number(metric, half)}" if math.isfinite(half) else ""


def further_metrics(metric: str, groups: Sequence[Group]) -> list[str]:
    """The scores of all metrics on the split of a score, if there are others than accuracy and loss."""
    split = metric.rpartition(".")[0]
    names = dict.fromkeys(
        name for g in groups for run in g.runs for name in run.scores if name.rpartition(".")[0] == split
    )
    usual = all(name.removeprefix(f"{split}.") in USUAL for name in names)
    return [] if usual or not split else list(names)


def metric_rows(names: Sequence[str], groups: Sequence[Group], confidence: float) -> list[list[str]]:
    """Return a row per group: its settings, and the mean of each score."""
    rows: list[list[str]] = []
    for group in groups:
        cells = [format_value(v) for v in group.settings.values()]
        for name in names:
            values = [run.scores[name] for run in group.runs if name in run.scores]
            mean = interval(values, confidence) if values else None
            cells.append("" if mean is None else mean_and_interval(name, mean))
        rows.append(cells)
    return rows


def transfer_rows(transfers: Sequence[Transfer]) -> list[list[str]]:
    """Return a row per task and group of runs that learn it with others."""
    return [
        [
            t.target,
            t.metric,
            *(mean_and_interval(t.metric, mean) for mean in (t.alone, t.together)),
            t.setting,
            number(t.metric, t.difference.mean, "+") + plus_minus(t.difference.half, t.metric),
            t.verdict,
        ]
        for t in transfers
    ]


def transfer_findings(transfers: Sequence[Transfer]) -> list[str]:
    """Return a sentence for each task that does better alone."""
    return [
        f"negative transfer: {t.target} does better alone than with {t.setting}: {t.metric} "
        f"{number(t.metric, t.alone.mean)} and {number(t.metric, t.together.mean)}, a difference of "
        f"{number(t.metric, t.difference.mean, '+')}{plus_minus(t.difference.half, t.metric)}"
        for t in transfers
        if t.verdict == "better alone"
    ]


def mean_and_interval(metric: str, mean: Interval) -> str:
    """Return a mean and its interval; that of a fraction ends at 0 and 100 %.

    >>> mean_and_interval("test.accuracy", Interval(0.9, 0.05, 3)), mean_and_interval("test.accuracy", Interval(0.9, 0.2, 2))
    ('90.00 % ± 5.00 %', '90.00 % (70.00 % to 100 %)')
    """
    if is_percentage(metric) and math.isfinite(mean.half) and not (mean.low >= 0 and mean.high <= 1):
        low = number(metric, mean.low) if mean.low > 0 else "0 %"
        return f"{number(metric, mean.mean)} ({low} to {number(metric, mean.high) if mean.high < 1 else '100 %'})"
    return number(metric, mean.mean) + plus_minus(mean.half, metric)


def number(metric: str, value: float, sign: str = "") -> str:
    """Return the value of a score: a fraction in percent, four digits in the units of the target, else four decimals.

    >>> number("test.accuracy", 0.5), number("test.mae", 0.012345), number("test.accuracy", 0.5, "+"), number("loss", 0.5)
    ('50.00 %', '0.01235', '+50.00 %', '0.5000')
    """
    if is_percentage(metric):
        return f"{100 * value:{sign}.2f} %"
    return f"{value:{sign}#.4g}" if key_word(metric) in IN_UNITS else f"{value:{sign}.4f}"


def csv_text(metric: str, runs: list[Outcome], keys: list[str]) -> str:
    """Return a CSV table with a row per run: its name, the varied settings, the seed, the score, and further metrics."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [name for name in further_metrics(metric, [Group({}, list(runs))]) if name != metric]
    writer.writerow(["run", *keys, "seed", metric, *names])
    for run in runs:
        scores = [run.score, *(run.scores.get(name) for name in names)]
        writer.writerow([run.name, *(run.settings.get(k) for k in keys), run.settings.get("seed"), *scores])
    return file.getvalue()
