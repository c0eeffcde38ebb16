"""The outputs of a trained model for whole splits, and the metrics of its tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.augmentation.transforms import TTA
from trainer.columns import shown
from trainer.data_constraints import moved_numbers
from trainer.engine.evaluation import logits
from trainer.engine.metrics import RunningMetrics, calibration, top_accuracy
from trainer.errors import ConfigError
from trainer.formats import Scores
from trainer.inference import TrainedModel
from trainer.loaders import look
from trainer.progress import steps
from trainer.tasks import losses
from trainer.tasks.classification import of_labelled_images
from trainer.tasks.metrics import compute
from trainer.tasks.part import Part
from trainer.tasks.restrict import for_images
from trainer.tasks.task import Task

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits

SPLITS = ("test", "validation", "train")
FURTHER = {"classification": (), "multilabel": ("exact_match", "f1"), "regression": ("rmse", "r2")}

TEXTS = {"ece": "calibration error"}


def shown_value(metric: str, value: float) -> str:
    """Return the value of a metric as text, see ``trainer.columns.shown``.

    >>> shown_value("digit_accuracy", 0.5), shown_value("digit_ece", 0.5)
    ('50.00 %', '50.00 %')
    """
    return f"{100 * value:.2f} %" if metric.endswith("ece") else shown(metric, value)


def check_tta(task: Task, tta: TTA) -> None:
    """Raise a ConfigError if test-time augmentation moves pixels and some number may change by that."""
    problems = moved_numbers(task, f"job.tta={tta}", "job.tta=none") if tta != "none" else []
    if problems:
        raise ConfigError(*problems)


@torch.inference_mode()
def collect_outputs(
    config: Config, checkpoint: TrainedModel, splits: Splits, names: Sequence[str], tta: TTA = "none"
) -> tuple[Task, Tensor, Tensor]:
    """Return the task for all images of the named splits on the CPU, their outputs (N, O) and targets (N, D), in their order."""
    images = [splits.by_name[name] for name in names]
    model, precision = checkpoint.model, checkpoint.precision
    task = for_images(checkpoint.task, splits.targets, images, precision.device)
    outputs, targets = [], []
    for name in names:
        loader = look(config, checkpoint.info, splits, name, model, precision, task)
        for x, y in steps(f"evaluating batches of {name} images", loader.batches(0), len(loader)):
            outputs.append(logits(model, x, precision, tta).float().cpu())
            targets.append(y.cpu())
    return for_images(checkpoint.task, splits.targets, images), torch.cat(outputs), torch.cat(targets)


def scores(task: Task, outputs: Tensor, y: Tensor, top: int) -> Scores:
    """Return the metrics of outputs (N, O) and targets (N, D) on the CPU, named as in the history; NaN without labels.

    They are those of training, and of classes the top-k accuracy if there are more than k = ``top``, and the expected calibration
    error; of labels ``exact_match`` and ``f1``; of numbers ``rmse`` and ``r2``.
    """
    sums = RunningMetrics(task)
    sums.add(task.loss(outputs, y), outputs, y)
    values = sums.means() | task.evaluate(outputs, y)
    for part in task.parts:
        own, targets, mask = part.select(outputs, y)
        if mask is not None and not mask.any():
            columns = [part.column(name) for name in ("loss", part.option.running_metric)]
            values |= dict.fromkeys([*columns, *(["loss"] if task.option else [])], math.nan)
        elif part.has_classes:
            further = class_scores(part, *of_labelled_images(part, own, targets, mask)[:2], top)
            values |= {part.column(name): value for name, value in further.items()}
        else:
            further = compute(FURTHER[part.spec.kind], part.predictions(own, targets, mask))
            values |= {part.column(name): value for name, value in further.items()}
    return values


def class_scores(part: Part, own: Tensor, labels: Tensor, top: int) -> Scores:
    """Return the metrics of logits (n, K) and classes (n,): the cross-entropy in nats, if that is the loss, is more exact."""
    exact = part.function is losses.cross_entropy
    values = {"loss": F.cross_entropy(own.double(), labels).item()} if exact else {}
    values["accuracy"] = top_accuracy(own, labels, 1)
    if 1 < top < own.shape[1]:
        values[f"top{top}"] = top_accuracy(own, labels, top)
    return values | {"ece": calibration(own, labels)[0]}
