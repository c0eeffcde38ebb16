"""The predictions of each kind of task on a split, batch by batch: what is written of them, and their figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from trainer.analysis.cleaning import LEAST_ACCURACY, label_errors
from trainer.analysis.predictions import Misclassified, confusion_matrix, highest_loss_errors
from trainer.engine.info import Info
from trainer.observers.grad_cam import grad_cam
from trainer.report.figures import plot_label
from trainer.report.plots import Plot, kept_images
from trainer.report.prediction_figures import MAX_POINTS
from trainer.tasks.classification import of_labelled_images
from trainer.tasks.part import Part
from trainer.tasks.predictions import Predictions

E = TypeVar("E")
MAX_PROBABILITIES = 20_000_000  # that are kept to judge labels, some 80 MB


class LabelErrorContent(TypedDict):
    """A label that is probably wrong, in ``predictions.json``."""

    index: int
    label: str
    suggested: str
    probability: float  # of the label


class LargestError(TypedDict):
    """A number that is predicted badly, in ``predictions.json``."""

    index: int
    target: str
    true: float
    predicted: float


class Worst(Generic[E]):
    """The errors with the highest scores among those added, each with its image.

    >>> worst = Worst(2)
    >>> worst.add([(0.1, "a", torch.zeros(1)), (0.9, "b", torch.ones(1))])
    >>> worst.add([(0.5, "c", torch.zeros(1))])
    >>> worst.errors
    ['b', 'c']
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.entries: list[tuple[float, E, Tensor]] = []

    def add(self, entries: Sequence[tuple[float, E, Tensor]]) -> None:
        """Add errors, each with its score and its image."""
        self.entries = sorted([*self.entries, *entries], key=lambda entry: -entry[0])[: self.count]

    @property
    def errors(self) -> list[E]:
        """The errors, the highest score first."""
        return [error for _, error, _ in self.entries]

    def images(self, info: Info) -> np.ndarray:
        """Their images (n, H, W, C) as plots keep them."""
        return kept_images(info.denormalized(torch.stack([image for *_, image in self.entries])))


class Predicted(ABC):
    """The predictions of one task on a split; images without a label are left out.

    Args:
        part: The task.
        count: How many errors are kept.
        thresholds: Probability from which each label is predicted.
    """

    def __init__(self, part: Part, count: int, thresholds: Sequence[float] | None = None) -> None:
        self.part, self.count, self.thresholds = part, count, thresholds

    @abstractmethod
    def add(self, x: Tensor, outputs: Tensor, y: Tensor, offset: int) -> None:
        """Add a batch: images (N, C, H, W), outputs (N, O), targets (N, D), and the index of its first image in the split."""

    @abstractmethod
    def content(self) -> dict[str, object]:
        """Return what ``predictions.json`` holds."""

    @abstractmethod
    def plots(self, info: Info) -> dict[str, Plot]:
        """Return the plots, by name."""


class PredictedClasses(Predicted):
    """The confusion matrix, the misclassified images with the highest loss, and the labels that are probably wrong.

    Labels are judged if the predictions are accurate enough, and not more than ``MAX_PROBABILITIES``.
    """

    def __init__(self, part: Part, count: int, thresholds: Sequence[float] | None = None) -> None:
        super().__init__(part, count, thresholds)
        self.confusion = torch.zeros(part.size, part.size, dtype=torch.int64, device=part.device)
        self.worst: Worst[Misclassified] = Worst(count)
        self.probabilities: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.rows: list[int] = []

    def add(self, x: Tensor, outputs: Tensor, y: Tensor, offset: int) -> None:
        own, labels, rows = of_labelled_images(self.part, *self.part.select(outputs, y))
        self.confusion += confusion_matrix(own, labels)
        indices = rows.tolist()
        errors = highest_loss_errors(own, labels, self.count)
        found = [
            (Misclassified(indices[e.index] + offset, e.label, e.predicted, e.probability, e.loss), e) for e in errors
        ]
        self.worst.add([(error.loss, error, x[indices[e.index]].cpu()) for error, e in found])
        if len(self.rows) * self.part.size < MAX_PROBABILITIES:
            self.probabilities.append(own.float().softmax(1).cpu().numpy())
            self.labels.append(labels.cpu().numpy())
        self.rows += [index + offset for index in indices]

    def label_errors(self) -> list[LabelErrorContent] | None:
        """Return the labels that are probably wrong, by confident learning; None if they cannot be judged."""
        labels = np.concatenate(self.labels) if self.labels else np.zeros(0, np.int64)
        if not len(labels) or len(labels) < len(self.rows):
            return None
        probabilities = np.concatenate(self.probabilities)
        if (probabilities.argmax(1) == labels).mean() < LEAST_ACCURACY:
            return None
        names = self.part.classes
        return [
            {
                "index": self.rows[error.image], "label": names[labels[error.image]], "suggested": names[error.suggested],
                "probability": error.probability,
            }
            for error in label_errors(probabilities, labels)
        ]  # fmt: skip

    def content(self) -> dict[str, object]:
        classes = self.part.classes
        rows = [error.as_dict(classes) for error in self.worst.errors]
        content = {"classes": list(classes), "confusion": self.confusion.tolist(), "misclassified": rows}
        return {**content, "label_errors": self.label_errors()}

    def grad_cam(self, model: nn.Module, info: Info, count: int) -> Plot | None:
        """Return the ``count`` errors with the highest loss, of which there are some, with the evidence for the predicted and for
        the true class; None if the network has no feature maps.
        """
        entries = self.worst.entries[:count]
        images = torch.stack([image for *_, image in entries])
        x = images.to(self.part.device)
        errors = [error for _, error, _ in entries]
        kinds = ([e.predicted for e in errors], [e.label for e in errors])
        maps = grad_cam(model, self.part, x, *(torch.tensor(kind, device=x.device) for kind in kinds))
        if maps is None:
            return None
        captions = [error.caption(self.part.classes, plot_label) for error in errors]
        predicted, true = (kept_images(heat.cpu().numpy()) for heat in maps)
        shown = kept_images(info.denormalized(images))
        return Plot("grad_cam", images=shown, predicted=predicted, true=true, titles=captions)

    def plots(self, info: Info) -> dict[str, Plot]:
        classes = self.part.classes
        plots = {"confusion": Plot("confusion", confusion=self.confusion.cpu().numpy(), classes=classes)}
        if self.worst.errors:
            captions = [error.caption(classes, plot_label) for error in self.worst.errors]
            plots["misclassified"] = Plot("errors", images=self.worst.images(info), titles=captions)
        return plots


class PredictedValues(Predicted):
    """The predictions of labels or numbers of all images."""

    def __init__(self, part: Part, count: int, thresholds: Sequence[float] | None = None) -> None:
        super().__init__(part, count, thresholds)
        self.batches: list[Predictions] = []

    def add(self, x: Tensor, outputs: Tensor, y: Tensor, offset: int) -> None:
        self.batches.append(self.part.predictions(*self.part.select(outputs, y)))

    def together(self) -> Predictions:
        """Return the predictions of all batches."""
        first = self.batches[0]
        scores, truth, known = (
            np.concatenate([getattr(batch, name) for batch in self.batches]) for name in ("scores", "truth", "known")
        )
        thresholds = first.thresholds if self.thresholds is None else np.array(self.thresholds)
        return Predictions(first.kind, first.classes, scores, truth, known, thresholds)


class PredictedLabels(PredictedValues):
    """Precision and recall of each label at its threshold."""

    def table(self) -> tuple[Predictions, np.ndarray, np.ndarray]:
        """Return the predictions, and precision and recall of each label (K,), NaN where they are not defined."""
        found = self.together()
        with np.errstate(all="ignore"):  # labels without positives, and logits of a network that has diverged
            hits, positives, predicted = found.counts
            return found, hits / predicted, hits / positives

    def content(self) -> dict[str, object]:
        found, precision, recall = self.table()
        _, positives, predicted = found.counts
        assert found.thresholds is not None
        columns = (found.classes, found.thresholds, precision, recall, positives, predicted, found.known.sum(0))
        names = ("label", "threshold", "precision", "recall", "positives", "predicted", "images")
        values = [column if isinstance(column, tuple) else column.tolist() for column in columns]
        return {"labels": [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]}

    def plots(self, info: Info) -> dict[str, Plot]:
        found, precision, recall = self.table()
        return {"labels": Plot("labels", labels=found.classes, precision=precision, recall=recall)}


class PredictedNumbers(PredictedValues):
    """Predicted and true numbers, and the largest errors in standard deviations of the training images."""

    def __init__(self, part: Part, count: int, thresholds: Sequence[float] | None = None) -> None:
        super().__init__(part, count, thresholds)
        self.worst: Worst[LargestError] = Worst(count)

    def add(self, x: Tensor, outputs: Tensor, y: Tensor, offset: int) -> None:
        super().add(x, outputs, y, offset)
        batch = self.batches[-1]
        errors = np.where(batch.known, np.abs(batch.scores - batch.truth), 0.0)
        sizes = np.nan_to_num(errors / np.array(self.part.spec.std), nan=np.inf)
        largest, targets = sizes.max(1), sizes.argmax(1)
        entries = []
        for i in np.argsort(-largest, kind="stable")[: self.count].tolist():
            k = int(targets[i])
            if batch.known[i, k]:
                true, predicted = float(batch.truth[i, k]), float(batch.scores[i, k])
                error: LargestError = {
                    "index": i + offset,
                    "target": batch.classes[k],
                    "true": true,
                    "predicted": predicted,
                }
                entries.append((float(largest[i]), error, x[i].cpu()))
        self.worst.add(entries)

    def content(self) -> dict[str, object]:
        found = self.together()
        errors = np.where(found.known, np.abs(found.scores - found.truth), 0.0)
        rows = [
            {"target": name, "images": int(n), "mae": float(total / n) if n else None}
            for name, n, total in zip(found.classes, found.known.sum(0), errors.sum(0), strict=True)
        ]
        return {"targets": rows, "largest_errors": self.worst.errors}

    def plots(self, info: Info) -> dict[str, Plot]:
        found = self.together()
        few = slice(None, None, max(1, len(found.known) // MAX_POINTS))
        truth, scores, known = found.truth[few], found.scores[few], found.known[few]
        plots = {"predicted": Plot("predicted", names=found.classes, truth=truth, predicted=scores, known=known)}
        if self.worst.errors:
            names = {name: f"{plot_label(name)}: " if len(found.classes) > 1 else "" for name in found.classes}
            captions = [
                f"{names[error['target']]}true {error['true']:.3g}\npredicted {error['predicted']:.3g}"
                for error in self.worst.errors
            ]
            plots["largest_errors"] = Plot("errors", images=self.worst.images(info), titles=captions)
        return plots


KINDS: dict[str, type[Predicted]] = {
    "classification": PredictedClasses,
    "multilabel": PredictedLabels,
    "regression": PredictedNumbers,
}
