"""``job=bias_variance``: which part of the error is bias, which part variance over training sets and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from trainer.analysis.bias_variance import COMPONENTS, Decomposition, decomposition
from trainer.builder import compute, load_splits
from trainer.errors import Problem
from trainer.exit_codes import FINISHED
from trainer.files import write_text
from trainer.jobs.several import (
    already_complete,
    check_directory,
    check_enough_images,
    split_to_measure,
    stopped,
    train_on,
    used_outputs,
)
from trainer.literal import print_literal
from trainer.report.data_figures import LABELS, bias_variance_figure, shares
from trainer.report.figures import drawing, save_figure
from trainer.report.html import markdown_table
from trainer.run_dir import create_run_dir, write_json
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.jobs.data_options import BiasVariance

MEANINGS = {
    "bias": "The networks agree on what is wrong: a larger network, longer training, less regularization or better labels "
    "reduce bias; more data or an ensemble hardly do.",
    "data": "The networks depend on which images they have seen: more data (job=learning_curve tells how much it is worth), "
    "augmentation or more regularization reduce this variance.",
    "seed": "The networks depend on their random numbers: an ensemble (job=ensemble), averaged weights (averaging=ema) or a "
    "lower learning rate at the end reduce this variance.",
}


def bias_variance(option: BiasVariance, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.BiasVariance``."""
    new = check_directory(config, run_dir, "comparison of bias and variance")
    if already_complete(config, run_dir, "bias and variance have been measured"):
        return FINISHED
    splits, precision = load_splits(config), compute(config)
    split, count = split_to_measure(splits), round(option.fraction * len(splits.train))
    check_enough_images(
        count, splits, Problem("job.fraction", option.fraction, "leaves", "a larger fraction, or more data")
    )
    if new:
        create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    predictions: list[list[np.ndarray]] = []
    targets, known, seconds = np.zeros(0), None, 0.0
    for i in range(option.sets):
        predictions.append([])
        for j in range(option.seeds):
            number = i * option.seeds + j + 1
            print_literal(
                f"network {number} of {option.sets * option.seeds}: training set {i + 1}, seed {config.seed + j}"
            )
            name = f"set_{i}_seed_{config.seed + j}"
            run, result = train_on(config, splits, count, (i, j), option.budget, run_dir / name)
            if result.get("status") == "interrupted":
                return stopped(run_dir, "comparison of bias and variance")
            predicted, targets, known = squared(*used_outputs(run, split))
            predictions[-1].append(predicted)
            seconds += result.get("seconds", 0.0)
    stacked = np.array(predictions)
    found, kind = (
        decomposition(stacked, targets, known),
        "regression" if config.name("task") == "regression" else "probabilities",
    )
    label = "squared error, standard deviations²" if kind == "regression" else "Brier score"
    text = page(found, label, split, (option.sets, option.seeds, count)) + errors_of_classes(stacked, targets, config)
    with drawing("bias_variance"):
        save_figure(bias_variance_figure(found, label), run_dir / "bias_variance.png")
    write_text(run_dir / "bias_variance.md", text)
    components = {name: {"value": p.mean, "low": p.low, "high": p.high} for name, p in found.components.items()}
    content = {
        "status": "finished", "stop_reason": "measured", "seconds": seconds, "split": split, "error": found.error, **components,
        "largest": found.largest, "distinct": found.distinct,
    }  # fmt: skip
    write_json(run_dir / "result.json", content)  # last: from here on the job is complete
    print_literal(f"{text}\nwritten to {run_dir / 'bias_variance.md'} and bias_variance.png")
    return FINISHED


def squared(task: Task, outputs: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What the squared error is of: predictions and targets (N, K), and which of them count.

    Probabilities and one-hot classes or labels; numbers in standard deviations of the training images.
    """
    part = task.main or task.parts[0]
    own, values, mask = part.select(outputs, y)
    if part.spec.kind == "regression":
        return own.double().numpy(), values.double().numpy(), None if mask is None else mask.numpy()
    predicted = part.predictions(own, values, mask)
    known = predicted.known if part.spec.kind == "multilabel" else None
    return predicted.probabilities, predicted.positive.astype(float), known


def errors_of_classes(predictions: np.ndarray, targets: np.ndarray, config: Config) -> str:
    """The error of a single network and of the mean prediction of all, of classes."""
    if config.name("task") != "classification":
        return ""
    truth = targets.argmax(1)
    single, together = (predictions.argmax(-1) != truth).mean(), (predictions.mean((0, 1)).argmax(-1) != truth).mean()
    count = predictions.shape[0] * predictions.shape[1]
    return (
        f"\nA single network predicts a wrong class for {100 * single:.2f} % of the images, the mean of all {count} for "
        f"{100 * together:.2f} %.\n"
    )


def page(found: Decomposition, label: str, split: str, sizes: tuple[int, int, int]) -> str:
    """The components as Markdown, with a verdict; ``sizes`` are the numbers of training sets, of seeds and of images of a set."""
    sets, seeds, count = sizes
    rows = []
    for name, fraction in zip(COMPONENTS, shares(found), strict=True):
        part = found.components[name]
        width = f"± {part.half:.2g}" if np.isfinite(part.half) else "unknown, of 2 sets"
        rows.append([LABELS[name].replace("\n", " "), f"{part.mean:.4g}", width, f"{100 * fraction:.0f} %"])
    rows.append(["sum", f"{found.error:.4g}", "", "100 %"])
    lines = [
        "# Bias and variance", "", verdict(found), "",
        *markdown_table([f"{split} images", label, "95 % interval", "fraction"], rows), "",
        f"{sets} training sets of {count:,} images, {seeds} seeds each. With all training images the variance over training sets "
        "is lower; sets that overlap show less of it than there is.", "",
        "![bias and variance](bias_variance.png)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def verdict(found: Decomposition) -> str:
    """Which component is the largest and what reduces it, in words."""
    if not found.error:
        return "There is no error to split."
    name, fraction = LABELS[found.largest].replace("\n", " "), max(shares(found))
    text = f"The largest part of the error, {100 * fraction:.0f} %, is {name}. {MEANINGS[found.largest]}"
    return (
        text
        if found.distinct
        else f"{text} The intervals overlap: more training sets (job.sets) are needed to be certain."
    )
