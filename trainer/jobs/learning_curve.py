"""``job=learning_curve``: the error over the number of training images, and whether more of them are worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.analysis.intervals import interval
from trainer.analysis.learning_curve import WORTH, LearningCurve, sizes_of
from trainer.analysis.learning_curve import learning_curve as fitted
from trainer.builder import compute, load_splits
from trainer.columns import is_percentage, shown
from trainer.engine.run import Run
from trainer.engine.used_weights import averaged_is_used
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import FINISHED
from trainer.files import write_text
from trainer.formats import Result, SplitScores
from trainer.history import better_is, key_word
from trainer.jobs.several import (
    already_complete,
    check_directory,
    check_enough_images,
    split_to_measure,
    stopped,
    train_on,
)
from trainer.literal import print_literal
from trainer.report.data_figures import learning_curve_figure
from trainer.report.figures import drawing, save_figure
from trainer.report.html import markdown_table
from trainer.run_dir import create_run_dir, write_json

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.data_options import LearningCurve as Option


def learning_curve(option: Option, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.LearningCurve``."""
    new = check_directory(config, run_dir, "learning curve")
    if already_complete(config, run_dir, "the learning curve is complete"):
        return FINISHED
    splits, precision = load_splits(config), compute(config)
    split, sizes = split_to_measure(splits), sizes_of(len(splits.train), option.sizes)
    problem = Problem("job.sizes", option.sizes, "would begin with", "fewer sizes, or more data")
    check_enough_images(sizes[0], splits, problem)
    if new:
        create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    values: list[list[float]] = []
    metric, seconds = "", 0.0
    for place, size in enumerate(sizes):
        values.append([])
        for seed in range(option.seeds):
            number = place * option.seeds + seed + 1
            name = f"size_{size}_seed_{config.seed + seed}"
            print_literal(f"network {number} of {len(sizes) * option.seeds}: {size} images, seed {config.seed + seed}")
            run, result = train_on(config, splits, size, (seed, seed), option.budget, run_dir / name)
            if result.get("status") == "interrupted":
                return stopped(run_dir, "learning curve")
            metric, value = used_score(run, result, split)
            values[-1].append(value)
            seconds += result.get("seconds", 0.0)
    errors = [[error(metric, value) for value in each] for each in values]
    curve = fitted(sizes, errors)
    text = page(curve, metric, split, option.budget)
    with drawing("learning_curve"):
        save_figure(
            learning_curve_figure(curve, error_name(metric), is_percentage(metric)), run_dir / "learning_curve.png"
        )
    rows = [f"{n},{config.seed + i},{v}" for n, each in zip(sizes, values, strict=True) for i, v in enumerate(each)]
    write_text(run_dir / "learning_curve.csv", "\n".join([f"images,seed,{split}_{metric}", *rows]) + "\n")
    write_text(run_dir / "learning_curve.md", text)
    content = {
        "status": "finished", "stop_reason": "measured", "seconds": seconds, "metric": metric, "split": split,
        "sizes": sizes, "values": values, "floor": curve.law.floor, "scale": curve.law.scale, "exponent": curve.law.exponent,
        "twice": {"error": curve.twice, "low": curve.low, "high": curve.high}, "predicted_largest": curve.predicted,
        "worth": curve.worth,
    }  # fmt: skip
    write_json(run_dir / "result.json", content)  # last: from here on the job is complete
    print_literal(f"{text}\nwritten to {run_dir / 'learning_curve.md'} and learning_curve.png")
    return FINISHED


def used_score(run: Run, result: Result, split: str) -> tuple[str, float]:
    """The metric of a run, and its value on a split with the weights that are used.

    Raises:
        ConfigError: The run has no such score.
    """
    averaged = result.get("averaged") if run.averaged is not None and averaged_is_used(run) else None
    source: SplitScores | Result = averaged or result
    scores = (source.get("test") if split == "test" else source.get("validation")) or {}
    metric = run.metric.partition("_")[2]
    name = metric if metric in scores else "loss"
    if (value := scores.get(name)) is None:
        raise ConfigError(f"{run.folder} has no {split} {name}")
    return name, float(value)


def error(metric: str, value: float) -> float:
    """The error that a metric stands for: 1 minus it if higher is better, else itself.

    >>> error("accuracy", 0.75), error("loss", 0.5)
    (0.25, 0.5)
    """
    return 1 - value if better_is(metric) == "max" else value


def error_name(metric: str) -> str:
    """What the error is called.

    >>> error_name("accuracy"), error_name("digit_f1"), error_name("loss")
    ('error', '1 − digit_f1', 'loss')
    """
    if better_is(metric) == "min":
        return metric
    return "error" if key_word(metric) == "accuracy" else f"1 − {metric}"


def page(curve: LearningCurve, metric: str, split: str, budget: str) -> str:
    """The learning curve as Markdown: verdict, table, and what the extrapolation is worth."""
    rows = []
    for size, errors in zip(curve.sizes, curve.errors, strict=True):
        mean = interval(errors)
        own = "-" if size == curve.sizes[0] else shown_error(metric, curve.law.at(size))
        rows.append([f"{size:,}", shown_error(metric, mean.mean), f"± {shown_error(metric, mean.half)}", own])
    law = curve.law
    head = ["training images", f"{split} {error_name(metric)}", "95 % interval", "power law"]
    lines = [
        "# Learning curve", "", verdict(curve, metric), "", *markdown_table(head, rows), "",
        f"The law is {law.floor:.3g} + {law.scale:.3g} · n^(−{law.exponent:.3g}), fitted to the means of {len(curve.errors[0])} "
        f"seeds with the same number of {budget} for every size. Without the largest size it would predict "
        f"{shown_error(metric, curve.predicted)} there; {shown_error(metric, curve.means[-1])} was measured. Not every learning "
        "curve follows a power law, and images from elsewhere, or harder ones, are worth more or less than these.", "",
        "![error by the number of training images](learning_curve.png)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def verdict(curve: LearningCurve, metric: str) -> str:
    """Whether more data is worth it, in words."""
    name, measured = error_name(metric), shown_error(metric, curve.means[-1])
    now, twice, low, high = (shown_error(metric, v) for v in (curve.now, curve.twice, curve.low, curve.high))
    to = f"from {now} to about {twice} ({low} to {high})"
    gains = f"twice as many training images would take the {name} {to}"
    if curve.worth == "yes":
        return f"More data is worth it: {gains}."
    if curve.worth == "little":
        return f"More data is hardly worth it: {gains}, which saves less than {100 * WORTH:.0f} % of it."
    if not curve.foreseen:
        return (
            f"Whether more data is worth it cannot be told: the {name} with {curve.sizes[-1]:,} images is {measured}, the "
            f"smaller sizes predict {shown_error(metric, curve.predicted)}, so no power law describes this curve. More "
            "sizes (job.sizes) or seeds (job.seeds) may help."
        )
    return f"Whether more data is worth it cannot be told: {gains}. More seeds (job.seeds) narrow the interval."


def shown_error(metric: str, value: float) -> str:
    """An error as text, in percent where the metric is.

    >>> shown_error("accuracy", 0.0512), shown_error("loss", 0.5)
    ('5.12 %', '0.5000')
    """
    return shown(metric, value)
