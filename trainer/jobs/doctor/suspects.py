"""Suspicious images of all splits: duplicates across splits or with other labels, and labels that are probably wrong."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.analysis.cleaning import LEAST_ACCURACY, LabelError, label_errors
from trainer.analysis.diagnosis.copies import describe_near
from trainer.builder import build
from trainer.data.folds import fold, fold_of_each
from trainer.engine.evaluation import logits
from trainer.engine.loop import fit
from trainer.jobs.doctor.table import Check
from trainer.observers.duplicates import (
    Examined,
    Fingerprints,
    count_pairs,
    exact_suspects,
    examined,
    near_suspects,
    place,
)
from trainer.progress import activity
from trainer.report.suspects import Suspect

if TYPE_CHECKING:
    from trainer.config.schema import Config
    from trainer.data import Splits

MAX_IMAGES = 10_000  # that are compared with each other, evenly spaced
FOLDS = 3  # of the linear classifier


def find_suspects(config: Config, splits: Splits, folds: int) -> tuple[list[Suspect], list[Check]]:
    """Return the suspicious images, and the checks about them.

    Args:
        config: The config, whose network is trained if there are ``folds``.
        splits: The data.
        folds: Number of times that the network is trained for out-of-fold predictions; 0 = a linear classifier makes them.
    """
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    prints = Fingerprints({name: part for name, part in parts.items() if part is not None})
    images = examined(prints.parts, MAX_IMAGES)
    near = near_suspects(images, prints)
    suspects = [*exact_suspects(prints), *near]
    checks = [check for check in [near_check(near)] if check]
    if len(splits.targets) != 1 or next(iter(splits.targets)).kind != "classification":
        return suspects, checks
    probabilities = network_predictions(config, splits, images, folds) if folds else linear_predictions(images)
    if probabilities is None:
        return suspects, checks
    accuracy = float((probabilities.argmax(1) == images.labels).mean())
    if accuracy < LEAST_ACCURACY:
        if folds:
            text = f"labels cannot be judged: out-of-fold accuracy {100 * accuracy:.0f} %"
            checks.append(Check("label errors", "warning", text, "first find a config that learns"))
        return suspects, checks
    errors = label_errors(probabilities, images.labels)
    suspects += [wrong_label(images, error, splits.classes) for error in errors]
    if errors:
        text = f"{len(errors)} labels are probably wrong (out-of-fold accuracy {100 * accuracy:.0f} %)"
        checks.append(Check("label errors", "warning", text, "see suspects.csv and suspects.png"))
    return suspects, checks


def wrong_label(images: Examined, error: LabelError, classes: tuple[str, ...]) -> Suspect:
    """Return a label error as a suspect."""
    split, index = str(images.split[error.image]), int(images.index[error.image])
    return Suspect("label error", place(images.parts, split, index), None, classes[error.suggested], error.probability)


def near_check(near: list[Suspect]) -> Check | None:
    """Return a check about near duplicates; the exact ones have checks of their own."""
    text = describe_near(count_pairs(near))
    return Check("near duplicates", "warning", text, "see suspects.csv and suspects.png") if text else None


@activity("looking for wrong labels")
def linear_predictions(images: Examined) -> np.ndarray | None:
    """Return out-of-fold probabilities (n, K) of a linear classifier on the thumbnails; None if a class is too small."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.bincount(images.labels)
    if len(counts) < 2 or counts.min() < FOLDS:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=50))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    x = images.thumbnails.reshape(len(images.labels), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        return np.asarray(cross_val_predict(model, x, images.labels, cv=folds, method="predict_proba"))


def network_predictions(config: Config, splits: Splits, images: Examined, folds: int) -> np.ndarray:
    """Return out-of-fold probabilities (n, K) of the config's network, trained ``folds`` times without the fold."""
    folded = fold(splits, folds, config.data.split_seed, "job.folds")
    known = {name: part for name, part in images.parts.items() if name != "test"}
    fold_of = fold_of_each(np.concatenate([part.labels for part in known.values()]), folds, config.data.split_seed)
    total, classes = sum(map(len, images.parts.values())), len(splits.classes)
    probabilities = np.zeros((total, classes), np.float32)
    for i, part in enumerate(folded):
        print(f"fold {i + 1} of {folds}: training", flush=True)
        run = build(config, None, part)
        fit(run, [])
        run.model.eval()
        for loader, rows, weight in (
            (run.validation, np.flatnonzero(fold_of == i), 1.0),
            (run.test, np.arange(len(fold_of), total), 1 / folds),
        ):
            if loader is not None:
                with torch.inference_mode():
                    outputs = [logits(run.model, x, run.precision).float().softmax(1) for x, _ in loader.batches(0)]
                probabilities[rows] += weight * torch.cat(outputs).cpu().numpy()
    starts = dict(zip(images.parts, np.cumsum([0, *map(len, images.parts.values())]).tolist(), strict=False))
    rows = [starts[s] + i for s, i in zip(images.split.tolist(), images.index.tolist(), strict=True)]
    return probabilities[rows]
