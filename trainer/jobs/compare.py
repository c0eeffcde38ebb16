"""``job=compare``: compare runs in a table, as Markdown, as a plot and as CSV."""

from __future__ import annotations

import csv
import glob
import io
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.table import Table

from trainer.analysis.comparison import (
    Effect,
    Group,
    Outcome,
    at_edge,
    differences_to_best,
    effects,
    flat_settings,
    flatten,
    format_value,
    group_runs,
    significant,
)
from trainer.config import renamed
from trainer.config.declarations import declaration
from trainer.config.options import OptionFiles
from trainer.errors import ConfigError, Problem
from trainer.files import write_text
from trainer.formats import JsonObject, Result, number_at
from trainer.history import better_is
from trainer.literal import markdown_literal
from trainer.parameters import limits
from trainer.report.figures import comparison_figure, drawing, save_figure
from trainer.report.html import markdown_table
from trainer.run_dir import check_available, read_config, read_jsonl, read_result, terminal

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Compare

AUTO_SCORES = ("test.accuracy", "validation.accuracy", "train.accuracy")
VERDICTS = {True: "yes", False: "no", None: "unknown: single run"}
EFFECT_COLUMNS = ["key", "from -> to", "pairs", "effect", "significant"]


def compare(option: Compare, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Compare``."""
    paths = find_runs(config.runs)
    check_available(run_dir)
    metric, runs = read_outcomes(option, paths, OptionFiles(config.config_dirs))
    groups = group_runs(runs)
    effects_of_keys = effects(groups, option.confidence)
    warnings = edge_warnings(groups, metric, read_config(paths[0], "runs"))
    write_text(run_dir / "compare.md", page(metric, groups, effects_of_keys, option.confidence, len(runs), warnings))
    write_text(run_dir / "compare.csv", csv_text(metric, runs, list(groups[0].settings)))
    curves = [(label(g), [list(run.rows) for run in g.runs], g.scores) for g in groups]
    with drawing("compare"):
        save_figure(comparison_figure(curves, metric), run_dir / "compare.png")
    show(metric, groups, effects_of_keys, option.confidence, run_dir)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def read_outcomes(option: Compare, paths: list[Path], files: OptionFiles) -> tuple[str, list[Outcome]]:
    """Return the metric that ``job.score`` selects, and the runs with it."""
    results = {path: read_result(path) for path in paths}
    metric = option.score
    if metric == "auto":
        candidates = (m for m in AUTO_SCORES if any(score(r, m) is not None for r in results.values()))
        metric = next(candidates, AUTO_SCORES[0])
    if all(score(result, metric) is None for result in results.values()):
        flat = [flatten(cast(JsonObject, result)) for result in results.values()]
        scores = sorted({name for result in flat for name, value in result.items() if isinstance(value, float)})
        hint = f"scores: {', '.join(scores) or 'none'}"
        raise ConfigError(Problem("job.score", metric, "is not a score of any of the runs", hint))
    runs = []
    for path, result in results.items():
        settings = flat_settings(renamed.tree(read_config(path, "runs")), files.option_name)
        runs.append(Outcome(path.name, settings, score(result, metric), read_jsonl(path / "history.jsonl")))
    return metric, runs


def find_runs(runs: tuple[str, ...] | str | None) -> list[Path]:
    """Return the run directories that ``runs`` names directly, by globs, or by directories that contain them.

    Raises:
        ConfigError: Fewer than two run directories.
    """
    if not runs:
        raise ConfigError(Problem("runs", None, "must be given: runs=[a,b,...] or runs=<directory of runs>"))
    paths = {path for value in ([runs] if isinstance(runs, str) else runs) for path in _runs_in(value)}
    if len(paths) < 2:
        value = runs if isinstance(runs, str) else ",".join(runs)
        raise ConfigError(Problem("runs", value, "names only one run", "at least two are needed"))
    return sorted(paths, key=_sort_key)


def _runs_in(value: str) -> list[Path]:
    """Return the run directories that one value of ``runs`` names."""
    place = Path(value).expanduser()
    if not place.is_dir() and any(c in value for c in "*?["):
        matches = [Path(p) for p in glob.glob(str(place)) if (Path(p) / "config.yaml").is_file()]
        if not matches:
            raise ConfigError(Problem("runs", value, "matches no run directory"))
        return matches
    if not place.is_dir():
        raise ConfigError(Problem("runs", value, "no such directory"))
    paths = [place] if (place / "config.yaml").is_file() else [p.parent for p in place.rglob("config.yaml")]
    if not paths:
        hint = "a run directory contains config.yaml and result.json"
        raise ConfigError(Problem("runs", value, "contains no runs", hint))
    return paths


def _sort_key(path: Path) -> tuple[str, int, str]:
    """Sort the jobs of a sweep by their number."""
    number = path.name.partition("_")[0]
    return str(path.parent), int(number) if number.isdigit() else -1, path.name


def score(result: Result, metric: str) -> float | None:
    """Return a score of ``result.json`` by its dotted name; None if there is none or it is not finite."""
    value = number_at(result, *metric.split("."))
    return float(value) if value is not None and math.isfinite(value) else None


def label(group: Group) -> str:
    """Return a group's settings as text.

    >>> label(Group({"optimizer": "sgd", "optimizer.lr": 0.1}))
    'optimizer=sgd optimizer.lr=0.1'
    """
    return " ".join(f"{k}={format_value(v)}" for k, v in group.settings.items()) or "the same config"


def group_columns(metric: str, groups: list[Group]) -> list[str]:
    return [*groups[0].settings, "runs", metric, "difference to best", "significant"]


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
        cells = [f"{mean.mean:.4f}" + plus_minus(mean.half)]
        if gap.mean == 0:
            cells += ["", "best"]
        else:
            cells += [f"{gap.mean:+.4f}" + plus_minus(gap.half), VERDICTS[significant(gap)]]
        rows.append((-mean.mean if higher_is_better else mean.mean, [*settings, count, *cells]))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def effect_rows(effects_of_keys: list[Effect]) -> list[list[str]]:
    """Return a row per changed value of a key."""
    return [
        [
            row["key"],
            f"{row['from']} -> {row['to']}",
            str(row["pairs"]),
            f"{row['effect']:+.4f}" + plus_minus(row["half"]),
            VERDICTS[row["significant"]],
        ]
        for row in effects_of_keys
    ]


def plus_minus(half: float) -> str:
    """Return the half-width of an interval as it follows a mean.

    >>> plus_minus(0.01), plus_minus(math.inf)
    (' ± 0.0100', '')
    """
    return f" ± {half:.4f}" if math.isfinite(half) else ""


def edge_warnings(groups: list[Group], metric: str, tree: JsonObject) -> list[str]:
    """Return a sentence for each numeric key whose best value is at the edge of those tried, and not the last one allowed."""
    sentences = []
    for key, value, side in at_edge(groups, better_is(metric) == "max"):
        parameter = declaration(tree, key)
        allowed = limits(parameter.annotation).values() if parameter else ()
        if value not in allowed:
            beyond = "larger" if side == "largest" else "smaller"
            sentences.append(
                f"the best {key}, {format_value(value)}, is the {side} of those compared: {beyond} ones may be better"
            )
    return sentences


def page(
    metric: str,
    groups: list[Group],
    effects_of_keys: list[Effect],
    confidence: float,
    num_runs: int,
    warnings: list[str],
) -> str:
    """Return the comparison as Markdown."""
    lines = [f"# {num_runs} runs compared by {metric}", ""]
    lines += markdown_table(group_columns(metric, groups), group_rows(metric, groups, confidence))
    intervals = f"Mean and {100 * confidence:g} % confidence interval (t) over runs that differ only in the seed"
    lines += ["", f"{intervals}; differences with Welch's interval.", "", "![curves of all groups](compare.png)"]
    lines += ["", *(f"* Warning: {markdown_literal(warning)}." for warning in warnings)] if warnings else []
    if effects_of_keys:
        lines += ["", "## Effect of each key, all others equal", ""]
        lines += markdown_table(EFFECT_COLUMNS, effect_rows(effects_of_keys))
    return "\n".join([*lines, ""])


def show(metric: str, groups: list[Group], effects_of_keys: list[Effect], confidence: float, run_dir: Path) -> None:
    """Print the comparison."""
    console = terminal(width=None if sys.stdout.isatty() else 160)
    for columns, rows in (
        (group_columns(metric, groups), group_rows(metric, groups, confidence)),
        (EFFECT_COLUMNS, effect_rows(effects_of_keys)),
    ):
        if rows:
            table = Table(*columns)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    print(f"compare.md, compare.png and compare.csv are in {run_dir}")


def csv_text(metric: str, runs: list[Outcome], keys: list[str]) -> str:
    """Return a CSV table with a row per run: its name, the varied settings, the seed, the score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", *keys, "seed", metric])
    for run in runs:
        writer.writerow([run.name, *(run.settings.get(k) for k in keys), run.settings.get("seed"), run.score])
    return file.getvalue()
