"""The report as Markdown."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from trainer.analysis.diagnosis.advice import finding_in_markdown
from trainer.columns import is_percentage, shown, split_and_metric, tasks_of
from trainer.errors import shrunk_text
from trainer.formats import Environment, FindingContent, Result, Resume, Row
from trainer.literal import markdown_literal, printable
from trainer.measurements import TaskInfo
from trainer.report.figures import total_epochs

ENOUGH_SECONDS = 10.0  # of training, for the fraction of the time that observers take
# Plots by name, with title and description, in the order of the report.
PLOTS = (
    ("curves", "Training curves", "loss, {metrics} and learning rate by epoch"),
    (
        "range_test",
        "LR range test",
        "loss of each batch while the learning rate rises, before training or a phase, and what is suggested",
    ),
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
    (
        "grad_cam",
        "Evidence for the errors",
        "Grad-CAM: where the evidence for the predicted and for the true class is, bright = strong",
    ),
    ("embedding", "Penultimate layer", "images that the network finds similar are close to each other"),
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
    notes: Mapping[str, str] | None = None,
    undrawn: Path | None = None,
) -> str:
    """Return the report: how the run ended, scores, findings, data, plots, history, and how to
    reproduce it.

    ``commands`` are the overrides of the command that started the run, and those that resumed it; ``notes`` are added to the
    descriptions of plots, by their names; ``undrawn`` is the run directory if ``job=report`` is to draw the plots.
    """
    overrides, resumes = commands
    named = [o for o in overrides if not o.startswith("output=")]
    title, reason = (markdown_literal(text) for text in (shortened_title(named), str(result.get("stop_reason"))))
    begun = "" if environment is None else str(environment.get("begun", ""))[:16].replace("T", " ")
    lines = [
        f"# {title}",
        "",
        f"{reason}{markdown_literal(f', begun {begun}') if begun else ''}.",
        *score_table(result),
    ]
    if "best_epoch" in result and "last_epoch" in result:
        lines += ["", f"Best epoch {result['best_epoch']:g}, last epoch {result['last_epoch']:g}, {speed(result)}."]
    if "micro_batch" in result:
        lines += ["", f"{shrunk_text(result['micro_batch'])}."]
    found = ["- " + finding_in_markdown(finding, between="\n    ") for finding in findings]
    lines += ["", "## Findings", "", *(found or ["None."])]
    several = len(tasks_of(rows[-1])) > 1 if rows else False
    metrics = "main metrics" if several or not rows else ", ".join(t.metric for t in tasks_of(rows[-1])) or "metrics"
    drawn = {
        name: plot_lines(name, title, text.format(metrics=metrics) + (notes or {}).get(name, ""))
        for name, title, text in named_plots(plots)
    }
    lines += drawn.pop("curves", [])  # what is looked at first
    lines += [] if undrawn is None else undrawn_plots(undrawn)
    lines += [*data, *class_table(tasks), *(line for each in drawn.values() for line in each)]
    lines += [*history_table(rows), "", "## Reproduce", "", command(overrides), "", *resumed(resumes)]
    if environment is not None and environment["versions"]:
        libraries = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        text = f"{environment['device']}; Python {environment['python']}, {libraries}"
        lines += [f"On {markdown_literal(text, within_line=True)}.", ""]
    return "\n".join(lines)


def resumed(resumes: Sequence[Resume]) -> list[str]:
    """Return the commands that resumed a run, each with what it changed."""
    lines = []
    for resume in resumes:
        changed = {**resume["changes"], **resume.get("numerics", {})}
        changes = "; ".join(f"{key} {then} → {now}" for key, (then, now) in changed.items()) or "no changes"
        text = f"Resumed after {resume['epochs']} epochs, {resume['steps']} steps, with {changes}:"
        lines += [markdown_literal(text), "", command(resume["overrides"]), ""]
    return lines


def shortened_title(overrides: list[str], length: int = 80) -> str:
    """Return what the run varies as a heading of about ``length`` characters; paths lead to their last part.

    >>> shortened_title(["optimizer=adam", "architecture.weights=/a/long/path/resnet.pth"])
    'optimizer=adam architecture.weights=…/resnet.pth'
    >>> shortened_title([]), shortened_title(["optimizer=adam", "seed=1"], 16)
    ('Run with the default options', 'optimizer=adam … and 1 more')
    """
    texts = [re.sub(r"=.*/(?=[^/]+$)", "=…/", text) for text in overrides]
    kept: list[str] = []
    while texts and (not kept or len(" ".join([*kept, texts[0]])) <= length):
        kept.append(texts.pop(0))
    return " ".join([*kept, *([f"… and {len(texts)} more"] if texts else [])]) or "Run with the default options"


def plot_lines(name: str, title: str, text: str) -> list[str]:
    """Return a plot with its heading and description."""
    return ["", f"## {title}", "", f"![{text}](report/{name}.png)", "", f"*{text}*"]


def undrawn_plots(run_dir: Path) -> list[str]:
    """Return how the plots that were left for later are drawn."""
    text = "They have not been drawn; this command draws them:"
    return ["", "## More plots", "", text, "", command(["job=report", f"run={run_dir}"])]


def history_table(rows: list[Row]) -> list[str]:
    """Return the history as a table; with several phases, the epochs count over all of them."""
    if not rows:
        return []
    several = len({row["phase"] for row in rows}) > 1
    columns = [c for c in rows[-1] if c != "step" and (several or c != "phase")]
    names = " | ".join(markdown_literal(c, within_line=True) for c in columns)
    lines = ["", "## History", "", f"| {names} |", "|" + "---|" * len(columns)]
    for row, epoch in zip(rows, total_epochs(rows), strict=True):
        cells = [cell(c, epoch if c == "epoch" else row.get(c)) for c in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell(column: str, value: float | str | None) -> str:
    """Return a value of the history or a score as a table shows it: fractions in percent.

    >>> cell("train_accuracy", 0.97123), cell("lr", 6.99e-06), cell("images_per_second", 12345.6), cell("phase", "head")
    ('97.12 %', '6.99e-06', '12,346', 'head')
    """
    if isinstance(value, float) and math.isfinite(value):
        if is_percentage(split_and_metric(column)[1]):
            return shown(column, value)
        if column == "images_per_second":
            return f"{value:,.0f}"
        if column in ("lr", "mean_lr"):
            return f"{value:.3g}"
    return number(value)


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
        rows = [f"| {text} | {' | '.join(cell(n, m.get(n)) for n in names)} |" for text, m in scores.items()]
        heads = " | ".join(markdown_literal(name, within_line=True) for name in names)
        return ["", f"| | {heads} |", "|---|---|---|", *rows]
    rows = [
        f"| {markdown_literal(name, within_line=True)} | {' | '.join(cell(name, m.get(name)) for m in scores.values())} |"
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
    return (
        text
        if fraction is None or result.get("seconds", 0) < ENOUGH_SECONDS
        else f"{text}, {100 * fraction:.1f} % of the time in observers"
    )


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
