"""The page of a search, ``search.md`` and ``search.html``, with its plots as PNG files, and its trials in TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.files import write_text
from trainer.literal import code_span, markdown_literal
from trainer.report.figures import drawing, save_figure
from trainer.report.html import markdown_table, self_contained_html
from trainer.search import figures
from trainer.search.choice import Choice
from trainer.search.importance import LEAST, importances
from trainer.search.progress import expected_gain, format_gain, format_score, point_text
from trainer.search.session import FINAL, Session
from trainer.search.stages import best_first
from trainer.search.summary import COLUMNS, candidate_rows, warnings
from trainer.search.tensorboard import write_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "importance": "Importance of each key in the first stage, which covers the whole space.",
    "space": "Score against each key; later stages darker, dashed lines the first space, dotted ones later spaces; "
    "triangles pruned, red crosses diverged or failed. A best value at a line asks for a wider space.",
    "isolation": "Isolation plots: the best score in each part of a range, whatever the other values, and the number of trials.",
    "parallel": "Parallel coordinates of the first stage.",
    "curves": "Learning curves of all trials, colored by score.",
    "narrowing": "The space of each stage, and its best trial.",
}


def write_page(session: Session, choice: Choice, run_dir: Path) -> None:
    """Write the page, its plots, and the events for TensorBoard's HPARAMS."""
    draw(session, run_dir / "search")
    text = page(session, choice, {path.stem for path in (run_dir / "search").glob("*.png")})
    write_text(run_dir / "search.md", text)
    write_text(run_dir / "search.html", self_contained_html(text, run_dir))
    stages = [*((stage.name, stage.results) for stage in session.stages), (FINAL, session.repetitions)]
    shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)  # of a search that has been continued
    write_trials(run_dir / "tensorboard", stages, session.trials.metric)


def draw(session: Session, directory: Path) -> None:
    """Draw all plots; one that fails is left out."""
    label = session.trials.metric
    first = session.stages[0]
    spaces = [session.space, *(stage.plans[-1].space for stage in session.stages[1:])]
    wide = first.plans[-1].space  # extended
    results = [stage.results for stage in session.stages]
    values = importances(wide, first.results)
    curves = [*((stage.name, stage.results) for stage in session.stages), (FINAL, session.repetitions)]
    plots: dict[str, Callable[[], Figure | None]] = {
        "importance": lambda: figures.importance_figure(values) if values else None,
        "space": lambda: figures.space_figure([wide, *spaces[1:]], results, label),
        "isolation": lambda: figures.isolation_figure(wide, first.results, label),
        "parallel": lambda: figures.parallel_figure(wide, first.results, label) if len(wide) > 1 else None,
        "curves": lambda: figures.curves_figure([(name, r) for name, r in curves if r], label),
        "narrowing": lambda: figures.narrowing_figure([wide, *spaces[1:]], results) if len(results) > 1 else None,
    }
    for name, make in plots.items():
        with drawing(name):
            if (figure := make()) is not None:
                save_figure(figure, directory / f"{name}.png")


def page(session: Session, choice: Choice, plots: set[str]) -> str:
    """Return the page as Markdown."""
    metric = session.trials.metric
    title, reason = markdown_literal(point_text(choice.winner.point)), markdown_literal(choice.reason, within_line=True)
    lines = [f"# Search: {title}", "", f"The winner is {reason}.", ""]
    lines += markdown_table(COLUMNS, candidate_rows(session, choice))
    lines += [
        "",
        "The search score is that of the best of many trials and therefore too good; the mean is over seeds that the",
    ]
    lines += [
        "search did not use, and the gain is the mean of paired differences, with 95 % confidence intervals (t;",
        "of gains with the standard deviation within all finalists).",
        "",
    ]
    lines += [f"* Warning: {markdown_literal(words, within_line=True)}." for words in warnings(session)]
    for stage in session.stages:
        lines += ["", f"## {stage.name}: epochs={stage.epochs:g}", "", stage_text(session, stage.name), ""]
        lines += [
            f"* extended: {markdown_literal(words, within_line=True)}"
            for plan in stage.plans
            for words in plan.extended
        ]
        lines += [""] if any(plan.extended for plan in stage.plans) else []
        rows = [
            [str(r.entry.index), r.entry.origin, point_text(r.point), format_score(r.score or 0.0, metric)]
            for r in best_first(stage.results)[:10]
        ]
        lines += markdown_table(["trial", "origin", "values", metric], rows)
    lines += ["", "## Plots"]
    if "importance" not in plots:
        lines += ["", f"Importances need two keys and {LEAST} trials in the first stage."]
    for name, caption in CAPTIONS.items():
        if name in plots:
            lines += ["", f"![{name}](search/{name}.png)", "", f"*{caption}*"]
    lines += [
        "",
        "## Best epoch",
        "",
        best_epochs(session),
        "",
        "All trials are in `trials.csv`; `best.yaml` is the winner.",
    ]
    return "\n".join([*lines, ""])


def stage_text(session: Session, name: str) -> str:
    """Return how the trials of a stage ended, and what more of them may gain."""
    stage = next(stage for stage in session.stages if stage.name == name)
    counts = session.ledger.counts(name)
    text = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    space = ", ".join(code_span(f"{key}={own}") for key, own in stage.plans[-1].space.describe().items())
    gain = expected_gain([r.score for r in best_first(stage.results) if r.score is not None])
    more = f" Doubling the trials may gain {format_gain(gain, session.trials.metric)}." if gain is not None else ""
    return f"Trials: {text}. Space: {space}.{more}"


def best_epochs(session: Session) -> str:
    """Return when in the last stage the metric was best, and what that says about the length (Tuning Playbook)."""
    shares = []
    for r in best_first(session.stages[-1].results):
        sign = 1 if (r.score or 0) >= 0 else -1
        best = max(range(len(r.curve)), key=lambda i, r=r, sign=sign: sign * r.curve[i])
        shares.append((best + 1) / len(r.curve))
    if not shares:
        return "No trial of the last stage ran to its end."
    late, early = (sum(test(s) for s in shares) / len(shares) for test in (lambda s: s > 0.75, lambda s: s <= 0.1))
    text = (
        f"The metric was best in the last quarter of the training in {100 * late:.0f} % of the trials of the last stage"
    )
    if late > 0.75:
        return f"{text}: longer training may help (job.epochs)."
    return f"{text}, in the first tenth in {100 * early:.0f} %" + (": it is too long." if early > 0.75 else ".")
