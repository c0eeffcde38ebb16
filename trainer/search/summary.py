"""What a search leaves: result.json, the winner's experiment file, a table on the terminal, a CSV file of all trials."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from rich.table import Table

from trainer.analysis.intervals import Interval, interval
from trainer.files import write_text
from trainer.formats import JsonObject
from trainer.literal import print_literal, printable
from trainer.run_dir import terminal, write_json
from trainer.search.best import write_experiment
from trainer.search.choice import Candidate, Choice, bare
from trainer.search.progress import format_gain, format_score, metric_value, point_text
from trainer.search.session import FINAL, Session
from trainer.search.stages import best_first, borders


def finish(session: Session, choice: Choice, run_dir: Path) -> None:
    """Write and print the result of a search."""
    write_text(run_dir / "trials.csv", trials_csv(session))
    write_winner(session, choice, run_dir)
    write_json(run_dir / "result.json", result(session, choice))
    show(session, choice, run_dir)


def write_winner(session: Session, choice: Choice, run_dir: Path) -> None:
    """Write ``best.yaml``, the experiment file of the winner."""
    point, epochs = choice.winner.point, session.stages[-1].epochs
    tree = session.trials.configs.tree(session.space.settings(point), epochs, session.config.seed)
    comments = [f"Winner of a search: {point_text(point)}", f"Why: {choice.reason}"]
    if mean := choice.winner.mean:
        comments.append(f"{session.trials.metric}: {interval_text(mean, session.trials.metric)} over {mean.n} seeds")
    write_experiment(run_dir / "best.yaml", tree, comments, session.config.config_dirs)


def result(session: Session, choice: Choice) -> JsonObject:
    """Return the content of ``result.json``."""
    winner, default = choice.winner, choice.candidates[0]
    names = [*(stage.name for stage in session.stages), FINAL]
    content: JsonObject = {
        "status": "finished",
        "stop_reason": f"winner: {point_text(winner.point)}",
        "metric": session.trials.metric,
        "winner": winner.point,
        "reason": choice.reason,
        "search_score": winner.search_score,
        "mean": _interval(winner.mean),
        "gain_over_default": _interval(winner.gain),
        "default_mean": _interval(default.mean),
        "extended": [words for stage in session.stages for plan in stage.plans for words in plan.extended],
        "trials": {name: {**session.ledger.counts(name)} for name in names},
        "seconds": session.clock.elapsed,
    }
    name = bare(session.trials.metric)
    if winner.mean:
        content["validation"] = {name: metric_value(winner.mean.mean, session.trials.metric)}
    if winner.tests:
        content["test"] = {name: sum(winner.tests.values()) / len(winner.tests)}
    return content


def _interval(value: Interval | None) -> JsonObject | None:
    return None if value is None else {"mean": value.mean, "half": value.half, "n": value.n}


def interval_text(value: Interval | None, metric: str) -> str:
    """Return a mean with its interval as the metric is read.

    >>> interval_text(Interval(0.95, 0.01, 5), "validation_accuracy"), interval_text(None, "validation_loss")
    ('95.00 % ± 1.00 points', '')
    """
    if value is None:
        return ""
    half = f" ± {format_gain(value.half, metric)}" if value.half != float("inf") else ""
    return format_score(value.mean, metric) + half


def gain_text(value: Interval | None, metric: str) -> str:
    """Return a paired difference with its interval, and its sign."""
    if value is None:
        return ""
    half = f" ± {format_gain(value.half, metric)}" if value.half != float("inf") else ""
    return ("+" if value.mean >= 0 else "-") + format_gain(abs(value.mean), metric) + half


COLUMNS = ["candidate", "search score (selected for)", "mean over fresh seeds", "gain over the config as typed", "test"]


def candidate_rows(session: Session, choice: Choice) -> list[list[str]]:
    """Return a row per candidate; the test images are shown for the winner and the config as typed only."""
    metric, table = session.trials.metric, []
    for candidate in choice.candidates:
        shown = candidate is choice.winner or not candidate.number
        table.append([
            point_text(candidate.point) + (" (winner)" if candidate is choice.winner else ""),
            "" if candidate.search_score is None else format_score(candidate.search_score, metric),
            interval_text(candidate.mean, metric),
            gain_text(candidate.gain, metric),
            test_text(candidate, metric) if shown else "",
        ])  # fmt: skip
    return table


def test_text(candidate: Candidate, metric: str) -> str:
    """Return the mean on the test images over the seeds, with its interval."""
    return interval_text(interval(list(candidate.tests.values())), metric) if candidate.tests else ""


def show(session: Session, choice: Choice, run_dir: Path) -> None:
    """Print the best trials of each stage, the candidates, and how to train the winner."""
    console = terminal(width=None if sys.stdout.isatty() else 160)
    for stage in session.stages:
        table = Table("trial", "values", session.trials.metric, title=f"{stage.name}: epochs={stage.epochs:g}")
        for r in best_first(stage.results)[:5]:
            table.add_row(str(r.entry.index), point_text(r.point), format_score(r.score or 0.0, session.trials.metric))
        console.print(table)
    table = Table(*COLUMNS)
    for row in candidate_rows(session, choice):
        table.add_row(*row)
    console.print(table)
    for words in warnings(session):
        print(f"warning: {printable(words)}", file=sys.stderr)
    print(printable(f"{choice.reason}: {point_text(choice.winner.point)}"))
    print_literal(f"train experiment={run_dir}/best; plots and tables: {run_dir}/search.html")


def warnings(session: Session) -> list[str]:
    """Return what makes the result doubtful, in words."""
    found = []
    last = session.stages[-1]
    for name, side in borders(last.plans[-1].space, last.results):
        own = last.plans[-1].space[name].distribution
        if own.extended(side) is not None:
            bound = "lower" if side == "low" else "upper"
            found.append(f"the best {name} is still near the {bound} border of {own}: job.space.{name}=... widens it")
    for stage in session.stages:
        lost = [r for r in stage.results if r.state in ("diverged", "failed")]
        if len(lost) > len(stage.results) / 4:
            found.append(
                f"{len(lost)} of {len(stage.results)} trials of {stage.name} diverged or failed: a smaller space is better"
            )
    return found


def trials_csv(session: Session) -> str:
    """Return all trials as a CSV table: stage, trial, origin, seed, state, metric, seconds, test accuracy, values."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [d.name for d in session.space]
    metric = session.trials.metric
    writer.writerow(
        ["stage", "trial", "origin", "seed", "state", metric, "epochs", "seconds", f"test_{bare(metric)}", *names]
    )
    parts = [(stage.name, stage.results) for stage in session.stages] + [(FINAL, session.repetitions)]
    for stage, results in parts:
        for r in results:
            score = "" if r.score is None else metric_value(r.score, metric)
            test = (r.info.get("test") or {}).get(bare(metric), "")
            epochs = r.epochs[-1] if r.epochs else 0
            cells = [stage, r.entry.index, r.entry.origin, session.config.seed + r.entry.seed, r.state, score, epochs]
            writer.writerow([*cells, round(r.seconds, 3), test, *(r.point.get(name, "") for name in names)])
    return file.getvalue()
