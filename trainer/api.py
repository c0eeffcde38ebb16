"""The program from Python: the same steps as ``train``, as functions.

from trainer import load_config, build, fit, load_run
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from trainer import builder
from trainer.config.load import config_from_tree, load_config
from trainer.engine.evaluation import evaluate
from trainer.engine.run import Run
from trainer.formats import JsonObject, Result
from trainer.inference import TrainedModel, Weights, predictions, trained
from trainer.jobs.fit import train_and_evaluate
from trainer.jobs.options import Fit
from trainer.lock import one_writer
from trainer.records import read_jsonl, read_table
from trainer.run_dir import (
    check_available,
    create_run_dir,
    find_run_dir,
    new_run_dir,
    read_config,
)
from trainer.trust import allow

if TYPE_CHECKING:
    import pandas as pd

    from trainer.config.schema import Config

BATCH = 256  # images per forward pass of a prediction


def build(config: Config) -> Run:
    """Return a run with its model, loaders, optimizer and schedule.

    Args:
        config: From ``load_config``. The run directory is ``config.output``, or a new one in ``outputs``; nothing is written
            into it yet.

    Raises:
        ConfigError: The options do not fit the data or each other, or the run directory contains a run already.
    """
    run_dir = Path(config.output).expanduser() if config.output else new_run_dir([])
    check_available(run_dir)
    return builder.build(config, run_dir)


def fit(run: Run) -> Result:
    """Train a run, evaluate its best weights, and write the run directory; return the content of ``result.json``."""
    assert run.folder is not None
    config = config_from_tree(run.info.config)
    with one_writer(run.folder):
        run.id = create_run_dir(run.folder, run.info.config, [], run.notes[0])
        draw_later = isinstance(config.job, Fit) and config.job.plots == "later"
        return train_and_evaluate(run, config.observer.values(), config.job.tta, draw_later)


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run read back from its directory.

    Attributes:
        directory: The run directory.
        config: The config as plain values.
        result: The content of ``result.json``; empty while the run lasts.
    """

    directory: Path
    config: JsonObject
    result: Result | JsonObject

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch, one column per metric."""
        import pandas as pd

        return pd.DataFrame(read_jsonl(self.directory / "history.jsonl"))

    def model(self, prefer: Literal["best", "last"] = "best", weights: Weights = "auto") -> Predictor:
        """Return the trained model of a checkpoint, ready for images.

        Args:
            prefer: Which checkpoint.
            weights: ``model``, ``averaged``, or ``auto``: the averaged ones where they were as good on the validation split.
        """
        config = dataclasses.replace(config_from_tree(self.config), checkpoint=str(self.directory))
        return Predictor(trained(config, prefer, weights), config.data.normalize == "channel")


class Predictor:
    """A trained model with its preprocessing.

    Attributes:
        module: The network, in evaluation mode.
        classes: The names of the classes; of a task without classes, of its labels or numbers.
        shape: Of the images it was trained on, (C, H, W).
        tasks: What is known of the target of each task by its name: kind, names of the classes, labels or numbers, thresholds
            of labels. A single task is called like its target.
    """

    def __init__(self, model: TrainedModel, normalize_each_image: bool) -> None:
        self.module, self.classes, self.shape = model.model, model.task.classes, model.info.shape
        self.tasks = {part.name or part.spec.target: part.spec for part in model.task.parts}
        self._model, self._per_image = model, normalize_each_image

    def predict(self, images: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Return what is predicted for uint8 images (N, H, W, C).

        Of classes and labels these are probabilities (N, K), of numbers values in original units (N, K). A single
        classification task returns the array, all others return a dict by the name of the task.
        """
        height, width, channels = self.shape[1], self.shape[2], self.shape[0]
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
            text = (
                f"images must be uint8 of shape (N, {height}, {width}, {channels}), not {images.dtype} {images.shape}"
            )
            if images.shape[1:] == (channels, height, width):
                text += "; images.transpose(0, 2, 3, 1)"
            raise ValueError(text)
        found = predictions(self._model, images, self._per_image, BATCH)
        arrays = {name: values.cpu().numpy() for name, values in zip(self.tasks, found.values(), strict=True)}
        single = len(arrays) == 1 and self._model.task.parts[0].has_classes
        return next(iter(arrays.values())) if single else arrays


def load_run(directory: str | Path) -> FinishedRun:
    """Return a run from its directory; ConfigError if it is not a run directory."""
    run_dir = find_run_dir("run", str(directory))
    return FinishedRun(run_dir, read_config(run_dir, "run"), read_table(run_dir / "result.json"))


__all__ = ["FinishedRun", "Predictor", "allow", "build", "evaluate", "fit", "load_config", "load_run"]
