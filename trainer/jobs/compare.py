"""``job=compare``: compare runs in a table, as Markdown, as a plot and as CSV."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import renamed
from trainer.analysis.comparison import Group, Outcome, at_edge, effects, flat_settings, format_value, group_runs
from trainer.analysis.scores import SPLITS, own_score, scores_of
from trainer.analysis.transfer import transfers
from trainer.config.options import OptionFiles
from trainer.construct import declaration
from trainer.errors import ConfigError, Problem
from trainer.files import write_text
from trainer.formats import JsonObject
from trainer.history import better_is
from trainer.jobs.compare_tables import Comparison, csv_text, label, number
from trainer.jobs.run_paths import find_runs
from trainer.literal import printable, printable_lines
from trainer.parameters import limits
from trainer.records import read_overrides, read_result, read_rows
from trainer.report.figures import comparison_figure, drawing, save_figure
from trainer.run_dir import as_typed, check_available, read_config

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.options import Compare


def compare(option: Compare, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Compare``."""
    paths = find_runs(config.runs)
    check_available(run_dir)
    trees = read_configs(paths)
    metric, runs = read_outcomes(option, trees, OptionFiles(config.config_dirs))
    groups = group_runs(runs)
    level = option.confidence
    best = best_run(runs, metric, paths)
    comparison = Comparison(metric, groups, effects(groups, level), transfers(groups, level), level, best)
    warnings = edge_warnings(groups, metric, next(iter(trees.values())))
    evaluated = [run for run in runs if any(name.partition(".")[0] in SPLITS for name in run.scores)]
    if option.score == "auto" and any(run.score is None for run in evaluated):
        warnings.append(f"some of the runs learn other tasks, and have no {metric}: job.score names another score")
    write_text(run_dir / "compare.md", comparison.page(warnings))
    write_text(run_dir / "compare.csv", csv_text(metric, runs, list(groups[0].settings)))
    curves = [(label(g), [list(run.rows) for run in g.runs], g.scores) for g in groups]
    with drawing("compare"):
        save_figure(comparison_figure(curves, metric), run_dir / "compare.png")
    comparison.show(run_dir)
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    return 0


def read_configs(paths: list[Path]) -> dict[Path, JsonObject]:
    """Return the configs of runs; one that cannot be read is skipped with a note. ConfigError if fewer than two are left."""
    trees: dict[Path, JsonObject] = {}
    for path in paths:
        try:
            trees[path] = renamed.tree(read_config(path, "runs"))
        except ConfigError as error:
            print(f"note: skipped: {printable_lines(str(error))}", file=sys.stderr)
    if len(trees) < 2:
        raise ConfigError(Problem("runs", None, "fewer than two of the runs can be read", "the notes above say why"))
    return trees


def read_outcomes(option: Compare, trees: dict[Path, JsonObject], files: OptionFiles) -> tuple[str, list[Outcome]]:
    """Return the score that ``job.score`` selects, and the runs with it."""
    results = {path: read_result(path) for path in trees}
    metric, has_it = option.score, [True] * len(trees)
    if metric == "auto":
        metric, has_it = own_score(list(results.values()))
    scores = {path: scores_of(result) for path, result in results.items()}
    if not any(metric in own for own in scores.values()):
        names = sorted({name for own in scores.values() for name in own if "." in name})
        raise ConfigError(
            Problem("job.score", metric, "is not a score of any of the runs", f"scores: {', '.join(names) or 'none'}")
        )
    runs: list[Outcome] = []
    for (path, own), use in zip(scores.items(), has_it, strict=True):
        settings = flat_settings(trees[path], files.option_name)
        rows = read_rows(path / "history.jsonl")
        runs.append(Outcome(path.name, settings, own.get(metric) if use else None, rows, own))
    return metric, runs


def best_run(runs: list[Outcome], metric: str, paths: list[Path]) -> str:
    """Return the run with the best score, and the command that repeats it, as text; empty if no run has a score."""
    scored = [run for run in runs if run.score is not None]
    if not scored:
        return ""
    sign = 1 if better_is(metric) == "max" else -1
    best = max(scored, key=lambda run: sign * (run.score or 0.0))
    path = next(path for path in paths if path.name == best.name)
    command = shlex.join(["train", *as_typed(read_overrides(path))])
    return f"best run: {path} ({metric} {number(metric, best.score or 0.0)}), made by: {command}"


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
