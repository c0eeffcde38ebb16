"""The evaluation: outputs, scores, what is shown of each task, and the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from trainer.checkpoint_data import splits_for_checkpoint
from trainer.errors import ConfigError, Problem
from trainer.inference import trained
from trainer.jobs.evaluate.classes import class_details
from trainer.jobs.evaluate.details import Details, SplitImages
from trainer.jobs.evaluate.labels import label_details
from trainer.jobs.evaluate.numbers import number_details
from trainer.jobs.evaluate.scores import SPLITS, TEXTS, check_tta, collect_outputs, scores, shown_value
from trainer.literal import print_literal, printable
from trainer.report.figures import drawing, save_figure
from trainer.run_dir import check_available, create_run_dir, terminal, write_json
from trainer.tasks.part import Part
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits
    from trainer.formats import Scores
    from trainer.jobs.options import Evaluate

DETAILS = {"classification": class_details, "multilabel": label_details, "regression": number_details}


def evaluate(option: Evaluate, config: Config, run_dir: Path, overrides: list[str]) -> int:
    """See ``trainer.jobs.Evaluate``."""
    check_available(run_dir)
    checkpoint = trained(config, option.prefer, option.weights, option.fuse)
    check_tta(checkpoint.task, option.tta)
    splits = splits_for_checkpoint(config, checkpoint)
    names = select_splits(option, splits)
    if splits.shape != checkpoint.info.shape:
        (h, w), (trained_h, trained_w) = splits.shape[1:], checkpoint.info.shape[1:]
        print(f"these images are {h} x {w}; the network was trained on {trained_h} x {trained_w}")
    task, outputs, targets = collect_outputs(config, checkpoint, splits, names, option.tta)
    precision = checkpoint.precision
    create_run_dir(run_dir, config.tree, overrides, f"{precision.device}, {precision.name}")
    split = "all" if option.split == "all" or splits.undivided else names[0]
    details = details_of_tasks(task, outputs, targets, SplitImages(splits, names), option.worst)
    notes = [*splits.notes, *(note for each in details.values() for note in each.notes)]
    values = scores(task, outputs, targets, option.top)
    result: dict[str, object] = {
        "status": "finished",
        "stop_reason": "evaluated",
        "checkpoint": str(checkpoint.path),
        "weights": checkpoint.weights,
        "tta": option.tta,
        "split": split,
        "data": {"images": len(outputs), "notes": notes},
        split: values,
    }
    if task.option is None:
        result |= details[""].content if details else {}
    else:
        result["tasks"] = {name: each.content for name, each in details.items()}
    write_json(run_dir / "result.json", result)
    draw(details, run_dir)
    for note in notes:
        print(printable(note))
    images = f"all {len(outputs):,} images" if split == "all" else f"{len(outputs):,} {split} images"
    show(f"{checkpoint.path} ({checkpoint.weights}) on {images}", task, values, details)
    print_literal(f"written to {run_dir}")
    return 0


def draw(details: dict[str, Details], run_dir: Path) -> None:
    """Write the plots; with several tasks, the name of the task follows that of the plot."""
    for task, each in details.items():
        for name, figure in each.figures.items():
            full_name = f"{name}_{task}" if task else name
            with drawing(full_name):
                save_figure(figure(), run_dir / f"{full_name}.png")


def select_splits(option: Evaluate, splits: Splits) -> list[str]:
    """Return the names of the splits to evaluate on."""
    available = [name for name in SPLITS if len(splits.by_name.get(name, ()))]
    if option.split == "all":
        return available
    split = available[0] if option.split == "auto" else option.split
    if split not in available:
        allowed = "job.split=all" if splits.undivided else f"allowed here: auto, all, {', '.join(available)}"
        raise ConfigError(Problem("job.split", split, "the data has no such split", allowed))
    return [split]


def details_of_tasks(
    task: Task, outputs: Tensor, targets: Tensor, images: SplitImages, worst: int
) -> dict[str, Details]:
    """Return what is shown of each task, by its name; those of which no image has a label are left out."""
    details = {}
    for part in task.parts:
        own, y, mask = part.select(outputs, targets)
        if mask is None or mask.any():
            details[part.name] = DETAILS[part.spec.kind](part, own, y, mask, images, worst)
    return details


def show(name: str, task: Task, values: Scores, details: dict[str, Details]) -> None:
    """Print the scores of what is called ``name``, and of each task the table and the files with the highest loss."""
    console = terminal(soft_wrap=True)
    if task.option is not None:
        console.print(f"{name}: loss {values['loss']:.4f}", markup=False)
    for part in task.parts:
        if part.name not in details:
            console.print(f"{part.name or name}: no image has a label of {part.spec.target}", markup=False)
            continue
        texts = describe_scores(own_scores(task, part, values))
        console.print(f"{part.name or name}: {', '.join(texts)}", markup=False)
        console.print(details[part.name].table)
        for line in details[part.name].lines:
            console.print(printable(line), markup=False)


def own_scores(task: Task, part: Part, values: Scores) -> Scores:
    """Return the scores of one task without its name."""
    if task.option is None:
        return values
    names = [other.name for other in task.parts if len(other.name) > len(part.name)]
    return {
        key.removeprefix(f"{part.name}_"): value
        for key, value in values.items()
        if key.startswith(f"{part.name}_") and not any(key.startswith(f"{name}_") for name in names)
    }


def describe_scores(values: Scores) -> list[str]:
    """Return the scores as text: the loss after the first metric, as in a table of results.

    >>> describe_scores({"loss": 0.5, "accuracy": 0.9, "ece": 0.01})
    ['accuracy 90.00 %', 'loss 0.5000', 'calibration error 1.00 %']
    """
    order = [*list(values)[1:2], "loss", *list(values)[2:]]
    return [f"{TEXTS.get(name, name)} {shown_value(name, values[name])}" for name in order]
