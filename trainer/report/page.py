"""The report as Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence, Set

from trainer.columns import tasks_of
from trainer.errors import quoted, shrunk_text
from trainer.formats import Environment, FindingContent, Result, Resume, Row, TaskInfo
from trainer.literal import code_span, markdown_literal, printable

# Plots by name, with title and description, in the order of the report.
PLOTS = (
    ("curves", "Training curves", "loss, {metrics} and learning rate by epoch"),
    ("steps", "Gradient norm and update size", "gradient norm, update-to-weight ratio, dead and saturated units"),
    (
        "distributions",
        "Activations and gradients",
        "of all layers, at the first step and the last: median, central 68 % and 95 %",
    ),
    ("filters", "Filters of the first layer", "each scaled to the full range of gray or color"),
    ("batch", "Training images", "the first images, original and augmented"),
    ("confusion", "Confusion matrix", "true classes down, predicted ones across"),
    ("misclassified", "Highest-loss errors", "true class, predicted class and its probability"),
    ("labels", "Labels", "precision and recall of each label at its threshold"),
    ("predicted", "Predicted and true numbers", "on the diagonal if they are equal"),
    ("largest_errors", "Largest errors", "true and predicted numbers"),
    ("suspects", "Suspicious images", "images in two splits or with two labels, each next to the one that it equals"),
)


def page(
    rows: list[Row],
    result: Result,
    commands: tuple[list[str], list[Resume]],
    findings: list[FindingContent],
    plots: set[str],
    environment: Environment | None,
    tasks: Sequence[TaskInfo] = (),
    data: Sequence[str] = (),
) -> str:
    """Return the report: how the run ended, scores, findings, data, plots, history, and how to
    reproduce it.

    ``commands`` are the overrides of the command that started the run, and those that resumed it.
    """
    overrides, resumes = commands
    named = [o for o in overrides if not o.startswith("output=")]
    title, reason = (markdown_literal(text) for text in (" ".join(named), str(result.get("stop_reason"))))
    lines = [f"# {title or 'the default run'}", "", f"{reason}.", *score_table(result)]
    if "best_epoch" in result and "last_epoch" in result:
        lines += ["", f"Best epoch {result['best_epoch']:g}, last epoch {result['last_epoch']:g}, {speed(result)}."]
    if "micro_batch" in result:
        lines += ["", f"{shrunk_text(result['micro_batch'])}."]
    lines += ["", "## Findings", "", *(finding_list(findings) or ["None."])]
    lines += [*data, *class_table(tasks)]
    several = len(tasks_of(rows[-1])) > 1 if rows else False
    metrics = "main metrics" if several or not rows else ", ".join(t.metric for t in tasks_of(rows[-1])) or "metrics"
    for name, title, text in named_plots(plots):
        shown_text = text.format(metrics=metrics)
        lines += ["", f"## {title}", "", f"![{shown_text}](report/{name}.png)", "", f"*{shown_text}*"]
    if rows:
        columns = [c for c in rows[-1] if c not in ("phase", "step")]
        names = " | ".join(markdown_literal(c, within_line=True) for c in columns)
        lines += ["", "## History", "", f"| {names} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(number(row.get(c)) for c in columns)} |" for row in rows]
    lines += ["", "## Reproduce", "", command(overrides), ""]
    for resume in resumes:
        changed = {**resume["changes"], **resume.get("numerics", {})}
        changes = "; ".join(f"{key} {then} → {now}" for key, (then, now) in changed.items()) or "no changes"
        text = f"Resumed after {resume['epochs']} epochs, {resume['steps']} steps, with {changes}:"
        lines += [markdown_literal(text), "", command(resume["overrides"]), ""]
    if environment is not None and environment["versions"]:
        libraries = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        text = f"{environment['device']}; Python {environment['python']}, {libraries}"
        lines += [f"On {markdown_literal(text, within_line=True)}.", ""]
    return "\n".join(lines)


def command(overrides: list[str]) -> str:
    """Return a command as a block of code.

    >>> command(["data=digits", "regularizer=[l2]"]), command([])
    ("    train data=digits 'regularizer=[l2]'", '    train')
    """
    return f"    train {' '.join(printable(shlex.quote(o)) for o in overrides)}".rstrip()


def named_plots(plots: Set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, title and description of the plots that there are; those of one of several tasks are named after it.

    >>> [(name, title) for name, title, _ in named_plots({"confusion_digit", "curves"})]
    [('curves', 'Training curves'), ('confusion_digit', 'Confusion matrix: digit')]
    """
    for name, title, text in PLOTS:
        for plot in sorted(plots):
            if plot == name:
                yield plot, title, text
            elif plot.startswith(f"{name}_") and not any(plot == other for other, *_ in PLOTS):
                yield plot, f"{title}: {markdown_literal(plot.removeprefix(f'{name}_'), within_line=True)}", text


def score_table(result: Result) -> list[str]:
    """Return the metrics of the best, the averaged and the last weights as the lines of a table; many of them in a row each."""
    weights = [("best", result), ("averaged", result.get("averaged") or {}), ("last", result.get("last") or {})]
    scores = {
        f"{name}, {split}": metrics
        for name, trees in weights
        for split in ("validation", "test")
        if (metrics := trees.get(split))
    }
    if not scores:
        return []
    names = list(dict.fromkeys(name for metrics in scores.values() for name in metrics))
    if len(names) == 2:
        names = [name for name in names if name != "loss"] + ["loss"]
        rows = [f"| {text} | {' | '.join(number(m.get(n)) for n in names)} |" for text, m in scores.items()]
        shown = " | ".join(markdown_literal(name, within_line=True) for name in names)
        return ["", f"| | {shown} |", "|---|---|---|", *rows]
    rows = [
        f"| {markdown_literal(name, within_line=True)} | {' | '.join(number(m.get(name)) for m in scores.values())} |"
        for name in names
    ]
    return ["", f"| | {' | '.join(scores)} |", "|---" * (len(scores) + 1) + "|", *rows]


def class_table(tasks: Sequence[TaskInfo]) -> list[str]:
    """Return the classes of each task whose classes are weighted or sampled: training images, images per epoch, weight."""
    lines: list[str] = []
    for task in tasks:
        weights, sampled, counts = task.get("class_weights"), task.get("epoch_counts"), task.get("class_counts") or []
        if weights is None and sampled is None:
            continue
        name = task.get("name")
        images = "positives" if task.get("kind") == "multilabel" else "training images"
        columns = {
            "class": [markdown_literal(c, within_line=True) for c in task.get("classes") or []],
            images: [str(n) for n in counts],
            "images per epoch": [str(n) for n in sampled or counts],
            "weight in the loss": [f"{w:.4g}" for w in weights or [1.0] * len(counts)],
        }
        title = f": {markdown_literal(name, within_line=True)}" if name else ""
        lines += ["", f"## Classes{title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(row)} |" for row in zip(*columns.values(), strict=True)]
    return lines


def speed(result: Result) -> str:
    """Return how long training took, and which fraction of it the observers."""
    text = f"{result.get('seconds', 0):.1f} s of training, {result.get('images_per_second', 0):,.0f} images per second"
    fraction = result.get("observer_fraction")
    return text if fraction is None else f"{text}, {100 * fraction:.1f} % of the time in observers"


def finding_list(findings: list[FindingContent]) -> list[str]:
    """Return the findings as a list, each with its evidence, its meaning, and what to try."""
    lines = []
    for finding in findings:
        texts = (finding["name"], finding["kind"], finding["evidence"], finding["meaning"])
        name, kind, evidence, meaning = (markdown_literal(text, within_line=True) for text in texts)
        lines.append(f"- **{name}** ({kind}): {evidence}. {meaning}")
        if finding["attempt"]:
            lines.append(f"    Try {', '.join(code_span(quoted(text)) for text in finding['attempt'])}.")
    return lines


def number(value: float | str | None) -> str:
    """Return a value as a table shows it.

    >>> number(None), number(0.123456), number(3)
    ('', '0.1235', '3')
    """
    return (
        ""
        if value is None
        else f"{value:.4g}"
        if isinstance(value, float)
        else markdown_literal(str(value), within_line=True)
    )
