"""The report as Markdown."""

from __future__ import annotations

import shlex

from trainer.formats import Environment, FindingContent, Result, Row
from trainer.literal import code_span, markdown_literal, printable

# Plots by name, with title and description, in the order of the report.
PLOTS = (
    ("curves", "Training curves", "loss, accuracy and learning rate by epoch"),
    ("steps", "Gradient norm and update size", "gradient norm, update-to-weight ratio, dead and saturated units"),
    ("distributions", "Activations and gradients", "by step: median, central 68 % and 95 % of the values"),
    ("filters", "Filters of the first layer", "each scaled to the full range of gray or color"),
    ("batch", "Training images", "the first images, original and augmented"),
    ("confusion", "Confusion matrix", "true classes down, predicted ones across"),
    ("misclassified", "Highest-loss errors", "true class, predicted class and its probability"),
)


def page(
    rows: list[Row],
    result: Result,
    overrides: list[str],
    findings: list[FindingContent],
    plots: set[str],
    environment: Environment | None,
) -> str:
    """Return the report: how the run ended, scores, findings, plots, history, and the command that reproduces it."""
    named = [o for o in overrides if not o.startswith("output=")]
    title, reason = (markdown_literal(text) for text in (" ".join(named), str(result.get("stop_reason"))))
    lines = [f"# {title or 'the default run'}", "", f"{reason}.", *score_table(result)]
    if "best_epoch" in result and "last_epoch" in result:
        lines += ["", f"Best epoch {result['best_epoch']:g}, last epoch {result['last_epoch']:g}, {speed(result)}."]
    lines += ["", "## Findings", "", *(finding_list(findings) or ["None."])]
    for name, title, text in PLOTS:
        if name in plots:
            lines += ["", f"## {title}", "", f"![{text}](report/{name}.png)", "", f"*{text}*"]
    if rows:
        columns = [c for c in rows[-1] if c not in ("phase", "step")]
        lines += ["", "## History", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(number(row.get(c)) for c in columns)} |" for row in rows]
    lines += [
        "",
        "## Reproduce",
        "",
        f"    train {' '.join(printable(shlex.quote(o)) for o in overrides)}".rstrip(),
        "",
    ]
    if environment is not None and environment["versions"]:
        libraries = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        lines += [f"On {environment['device']}; Python {environment['python']}, {libraries}.", ""]
    return "\n".join(lines)


def score_table(result: Result) -> list[str]:
    """Return accuracy and loss of the best, the averaged and the last weights as the lines of a table."""
    weights = [("best", result), ("averaged", result.get("averaged") or {}), ("last", result.get("last") or {})]
    rows = [
        f"| {name}, {split} | {number(metrics.get('accuracy'))} | {number(metrics.get('loss'))} |"
        for name, scores in weights
        for split in ("validation", "test")
        if (metrics := scores.get(split))
    ]
    return ["", "| | accuracy | loss |", "|---|---|---|", *rows] if rows else []


def speed(result: Result) -> str:
    """Return how long training took, and which fraction of it the observers."""
    text = f"{result.get('seconds', 0):.1f} s of training, {result.get('images_per_second', 0):,.0f} images per second"
    fraction = result.get("observer_fraction")
    return text if fraction is None else f"{text}, {100 * fraction:.1f} % of the time in observers"


def finding_list(findings: list[FindingContent]) -> list[str]:
    """Return the findings as a list, each with its evidence, its meaning, and what to try."""
    lines = []
    for finding in findings:
        lines.append(
            f"- **{finding['name']}** ({finding['kind']}): {markdown_literal(finding['evidence'])}. {finding['meaning']}"
        )
        if finding["attempt"]:
            lines.append(f"    Try {', '.join(map(code_span, finding['attempt']))}.")
    return lines


def number(value: float | str | None) -> str:
    """Return a value as a table shows it.

    >>> number(None), number(0.123456), number(3)
    ('', '0.1235', '3')
    """
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
