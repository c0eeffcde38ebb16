"""The report as Markdown."""

from __future__ import annotations

import shlex
from typing import Any

PICTURES = (
    ("curves", "How it went", "loss, accuracy and rate by epoch"),
    ("steps", "How it stepped", "norm of the gradient, size of the steps, dead and saturated units"),
    ("distributions", "What the layers did", "activations and gradients by step: median, 68 % and 95 % of the values"),
    ("filters", "The first layer's filters", "each stretched to the whole range of grey or colour"),
    ("batch", "What it was trained on", "the first pictures as read, and as augmented"),
    ("confusion", "What it takes for what", "true classes down, predicted ones across"),
    ("mistakes", "Its worst mistakes", "true class, predicted class and how sure it was"),
)


def page(
    rows: list[dict[str, Any]], result: dict[str, Any], overrides: list[str], findings: list[dict[str, Any]], there: set[str],
    environment: dict[str, Any],
) -> str:  # fmt: skip
    """How it ended, the scores, what was found, the pictures that are ``there``, every epoch, the command to repeat it."""
    named = [o for o in overrides if not o.startswith("output=")]
    lines = [f"# {' '.join(named) or 'the default run'}", "", f"{result['stop_reason']}.", *scores(result)]
    if result.get("best_epoch") is not None:
        lines += ["", f"Best epoch {result['best_epoch']:g}, last epoch {result['last_epoch']:g}, {speed(result)}."]
    lines += ["", "## What was found", "", *(told(findings) or ["Nothing out of the ordinary."])]
    for name, title, text in PICTURES:
        if name in there:
            lines += ["", f"## {title}", "", f"![{text}](report/{name}.png)", "", f"*{text}*"]
    if rows:
        columns = [c for c in rows[-1] if c not in ("phase", "step")]
        lines += ["", "## Every epoch", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(number(row.get(c)) for c in columns)} |" for row in rows]
    lines += ["", "## Again", "", f"    train {' '.join(shlex.quote(o) for o in overrides)}".rstrip(), ""]
    versions = environment.get("versions") or {}
    if versions:
        known = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += [f"On {environment.get('device')}; Python {environment.get('python')}, {known}.", ""]
    return "\n".join(lines)


def scores(result: dict[str, Any]) -> list[str]:
    """The table of accuracy and loss of the best, the averaged and the last weights."""
    places = [("best", result), ("averaged", result.get("averaged") or {}), ("last", result.get("last") or {})]
    found = [
        f"| {name}, {part} | {number(mine.get('accuracy'))} | {number(mine.get('loss'))} |"
        for name, place in places
        for part in ("validation", "test")
        if (mine := place.get(part))
    ]
    return ["", "| | accuracy | loss |", "|---|---|---|", *found] if found else []


def speed(result: dict[str, Any]) -> str:
    """How long it took, and how much of it was spent watching."""
    text = f"{result.get('seconds', 0):.1f} s of training, {result.get('images_per_second', 0):,.0f} images per second"
    share = result.get("watching_share")
    return text if share is None else f"{text}, {100 * share:.1f} % of the time for watching"


def told(findings: list[dict[str, Any]]) -> list[str]:
    """The findings, each with its evidence, its meaning, and what to try."""
    lines = []
    for finding in findings:
        attempt = ", ".join(f"`{a}`" for a in finding["attempt"])
        lines.append(f"- **{finding['name']}** ({finding['kind']}): {finding['evidence']}. {finding['meaning']}")
        if attempt:
            lines.append(f"    Try {attempt}.")
    return lines


def number(value: Any) -> str:
    """A value as a table shows it.

    >>> number(None), number(0.123456), number(3)
    ('', '0.1235', '3')
    """
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
