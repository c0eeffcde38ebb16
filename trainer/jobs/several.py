"""What jobs share that train several networks in one run directory, and can be continued."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.analysis.comparison import flat_settings
from trainer.builder import build
from trainer.config.load import config_from_tree
from trainer.data import Splits
from trainer.data.stratified import stratified_split
from trainer.engine.evaluation import best_weights, eval_mode, logits
from trainer.engine.run import Run
from trainer.engine.used_weights import averaged_is_used
from trainer.errors import ConfigError, Problem
from trainer.exit_codes import INTERRUPTED
from trainer.formats import JsonObject, Result
from trainer.jobs.fit import train_and_evaluate
from trainer.jobs.restore import restore_run
from trainer.literal import print_literal
from trainer.lock import one_writer
from trainer.observers import Observer
from trainer.records import read_result
from trainer.run_dir import check_available, create_run_dir, read_config, write_json
from trainer.tasks.restrict import at_test
from trainer.tasks.task import Task
from trainer.tree import with_value

if TYPE_CHECKING:
    from trainer.config.schema import Config

SMALLEST = 10  # training images


def check_directory(config: Config, run_dir: Path, what: str) -> bool:
    """Return whether a directory is new.

    Args:
        config: Of the job.
        run_dir: The directory.
        what: What the job makes, such as ``ensemble``.

    Raises:
        ConfigError: The directory contains something other than this, or a complete one.
    """
    if config.resume is not None:
        return False
    if (run_dir / "config.yaml").is_file() and read_result(run_dir).get("status") != "finished":
        saved = read_config(run_dir, "output")
        job = saved.get("job")
        if isinstance(job, dict) and job.get("_target_") == f"trainer.jobs.{type(config.job).__name__}":
            before, now = (flat_settings({**tree, "output": None}) for tree in (saved, config.tree))
            changed = [
                f"{k}: {before.get(k)} there, {now.get(k)} here"
                for k in {**before, **now}
                if before.get(k) != now.get(k)
            ]
            if changed:
                text = f"contains another {what}: {'; '.join(changed)}"
                raise ConfigError(Problem("output", str(run_dir), text, "another output=<directory>"))
            return False
    check_available(run_dir)
    return True


def already_complete(config: Config, run_dir: Path, what: str) -> bool:
    """Return whether a job is to be resumed that is complete, which ``what`` says in words; it is printed."""
    if config.resume is None or read_result(run_dir).get("status") != "finished":
        return False
    unused = f"; not used, another output takes them: {', '.join(config.set_keys)}" if config.set_keys else ""
    print_literal(f"there is nothing to resume: {what}{unused}")
    return True


def check_enough_images(count: int, splits: Splits, problem: Problem) -> None:
    """Raise an error, to whose text the numbers are added, if networks would be trained on too few images.

    Args:
        count: The smallest number of training images.
        splits: All data.
        problem: The key at fault; its text is a verb, such as ``leaves``.
    """
    least = max(SMALLEST, len(splits.classes))
    if count < least:
        text = f"{problem.text} {count} of the {len(splits.train)} training images; at least {least} are needed"
        raise ConfigError(dataclasses.replace(problem, text=text))


def stopped(run_dir: Path, what: str) -> int:
    """Record that a job was interrupted; print how to continue it; return the exit code."""
    write_json(run_dir / "result.json", {"status": "interrupted", "stop_reason": "interrupted", "seconds": 0.0})
    print_literal(f"stopped; {quote(f'resume={run_dir}')} continues the {what}", file=sys.stderr)
    return INTERRUPTED


def train(
    tree: JsonObject, splits: Splits, run_dir: Path, observers: list[Observer] | None = None
) -> tuple[Run, Result]:
    """Train one network, or the rest of one that was begun before; return its run and result."""
    config = config_from_tree(with_value(tree, "job", {"_target_": "trainer.jobs.Fit"}))
    run = build(config, run_dir, splits)
    with one_writer(run_dir):
        if not (run_dir / "config.yaml").is_file():
            run.id = create_run_dir(run_dir, config.tree, [], run.notes[0])
        elif complete := restore_run(run, run_dir, config.tree, []):
            print_literal(complete.partition(";")[0])
            return run, read_result(run_dir)
        result = train_and_evaluate(run, [*config.observer.values(), *(observers or [])], draw_later=True)
    if result.get("status") == "diverged" and run.best is None:
        raise ConfigError(f"{run_dir.name} has diverged: {run.diverged}; it has no weights to use")
    return run, result


def train_on(
    config: Config, splits: Splits, count: int, seeds: tuple[int, int], budget: str, run_dir: Path
) -> tuple[Run, Result]:
    """Train a network on some of the training images; epochs are multiplied if the ``budget`` is one of steps.

    Args:
        config: Of the job.
        splits: All data.
        count: Number of training images, the classes in proportion.
        seeds: What is added to the seed of the split for the choice of the images, and to the seed of the network.
        budget: ``steps`` or ``epochs``.
        run_dir: The run directory of the network.
    """
    images, factor = splits.train, 1.0
    if count < len(images):
        chosen = stratified_split(images.labels, count, config.data.split_seed + 1000 + seeds[0], "job.sizes")[1]
        splits = dataclasses.replace(splits, train=images.subset(chosen))
        factor = epochs_factor(len(images), count, config.batch_size) if budget == "steps" else 1.0
    tree = with_value(config.tree, "seed", config.seed + seeds[1])
    return train(with_value(tree, "epochs", config.epochs * factor), splits, run_dir)


def epochs_factor(images: int, count: int, batch_size: int | str) -> float:
    """Return by what the epochs are multiplied, so that training on ``count`` of the images has as many steps as on all.

    >>> epochs_factor(1000, 250, 50), epochs_factor(1000, 10, 50), epochs_factor(1000, 250, "full")
    (4.0, 20.0, 1.0)
    """
    steps = [1 if isinstance(batch_size, str) else math.ceil(n / batch_size) for n in (images, count)]
    return steps[0] / steps[1]


def split_to_measure(splits: Splits) -> str:
    """Return the split on which networks are compared: the test images, or else the validation images."""
    if splits.test is None and splits.validation is None:
        text = "the data has neither test nor validation images to measure the error on"
        raise ConfigError(Problem("data.validation", 0, text, "data.validation=0.2"))
    return "test" if splits.test is not None else "validation"


@contextmanager
def used_model(run: Run) -> Iterator[nn.Module]:
    """The network with the weights that a run would be used with: the best ones, or their average if that is as good."""
    with best_weights(run):
        model = run.averaged if run.averaged is not None and averaged_is_used(run) else run.model
        with eval_mode(model):
            yield model


@torch.inference_mode()
def used_outputs(run: Run, split: str) -> tuple[Task, Tensor, Tensor]:
    """Return the task, of several the main one, and outputs (N, O) and targets (N, D) of a split on the CPU."""
    loader = run.test if split == "test" else run.validation
    assert loader is not None
    with used_model(run) as model:
        task, network = at_test(run.task, model) if split == "test" else (run.task, model)
        pairs = [(logits(network, x, run.precision).float().cpu(), y.cpu()) for x, y in loader.batches(0)]
    outputs, targets = zip(*pairs, strict=True)
    return task, torch.cat(outputs), torch.cat(targets)
