"""The program from Python: the same steps as ``train``, as functions.

from trainer import load_config, build, fit, load_run
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from trainer import builder
from trainer.config.load import config_from_tree, load_config
from trainer.data.images import ImageArray
from trainer.data.in_memory import InMemoryLoader
from trainer.engine.evaluation import evaluate, logits
from trainer.engine.run import Run
from trainer.formats import JsonObject, Result
from trainer.inference import TrainedModel, Weights, trained
from trainer.jobs import Fit
from trainer.jobs.fit import train_and_evaluate
from trainer.run_dir import (
    check_available,
    create_run_dir,
    find_run_dir,
    new_run_dir,
    read_config,
    read_json,
    read_jsonl,
)

if TYPE_CHECKING:
    import pandas as pd

    from trainer.config.schema import Config

BATCH = 256  # images per forward pass of a prediction


def build(config: Config) -> Run:
    """Return a run with its model, loaders, optimizer and schedule; nothing is written yet.

    Args:
        config: From ``load_config``. The run directory is ``config.output``, or a new one in ``outputs``.

    Raises:
        ConfigError: The options do not fit the data or each other, or the run directory contains a run already.
    """
    run_dir = Path(config.output).expanduser() if config.output else new_run_dir([])
    check_available(run_dir)
    return builder.build(config, run_dir)


def fit(run: Run) -> Result:
    """Train a run, evaluate its best weights, and write the run directory; return the content of ``result.json``."""
    assert run.folder is not None
    create_run_dir(run.folder, run.info.config, [], run.notes[0])
    config = config_from_tree(run.info.config)
    return train_and_evaluate(run, config.observer.values(), config.job.tta if isinstance(config.job, Fit) else "none")


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
        classes: The names of the classes.
        shape: Of the images it was trained on, (C, H, W).
    """

    def __init__(self, model: TrainedModel, normalize_each_image: bool) -> None:
        self.module, self.classes, self.shape = model.model, model.info.classes, model.info.shape
        self._model, self._per_image = model, normalize_each_image

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities (N, K) of uint8 images (N, H, W, C)."""
        height, width, channels = self.shape[1], self.shape[2], self.shape[0]
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
            text = (
                f"images must be uint8 of shape (N, {height}, {width}, {channels}), not {images.dtype} {images.shape}"
            )
            if images.shape[1:] == (channels, height, width):
                text += "; images.transpose(0, 2, 3, 1)"
            raise ValueError(text)
        info, precision = self._model.info, self._model.precision
        loader = InMemoryLoader(
            ImageArray(images, np.zeros(len(images), np.int64)),
            num_classes=len(info.classes),
            mean=info.mean,
            std=info.std,
            per_image=self._per_image,
            batch_size=BATCH,
            shuffle=False,
            device=precision.device,
            channels_last=precision.channels_last,
        )
        with torch.inference_mode():
            outputs = [logits(self.module, x, precision).float().softmax(1) for x, _ in loader.batches(0)]
        return torch.cat(outputs).cpu().numpy()


def load_run(directory: str | Path) -> FinishedRun:
    """Return a run from its directory; ConfigError if it is not a run directory."""
    run_dir = find_run_dir("run", str(directory))
    return FinishedRun(run_dir, read_config(run_dir, "run"), read_json(run_dir / "result.json") or {})


__all__ = ["FinishedRun", "Predictor", "build", "evaluate", "fit", "load_config", "load_run"]
