"""What the best weights get wrong: the confusion matrix and the highest-loss errors."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from trainer.analysis.predictions import Misclassified, confusion_matrix, highest_loss_errors
from trainer.engine.evaluation import eval_mode, logits
from trainer.engine.observer import Observer
from trainer.engine.run import Loader
from trainer.engine.view import RunView
from trainer.formats import Result
from trainer.observers.context import Context
from trainer.observers.images import save_figure
from trainer.observers.options import Predictions
from trainer.report.figures import confusion_figure, drawing, highest_loss_figure, plot_label
from trainer.run_dir import write_json


class PredictionsObserver(Observer):
    """At the end, predicts the validation images, or the test images if there are none, with the best weights.

    Writes ``predictions.json`` (the confusion matrix and the ``worst`` errors with the highest loss),
    ``report/confusion.png``, ``report/misclassified.png``, and the same to TensorBoard.
    """

    def __init__(self, option: Predictions, context: Context) -> None:
        self.worst, self.writers = option.worst, context.event_writers

    def on_fit_end(self, view: RunView, result: Result) -> None:
        split = "validation" if view.validation is not None else "test"
        if view.folder is None or split not in view.loaders or result.get("status") == "failed" or view.step == 0:
            return
        # The result of an interrupted run is that of its last weights.
        with view.best_weights() if result.get("status") == "finished" else contextlib.nullcontext():
            confusion, errors, images = predict(view, view.loaders[split], self.worst)
        classes = view.info.classes
        rows = [error.as_dict(classes) for error in errors]
        content = {"split": split, "classes": list(classes), "confusion": confusion.tolist(), "misclassified": rows}
        write_json(view.folder / "predictions.json", content)
        with drawing("confusion"):
            save_figure(view, self.writers, "confusion", confusion_figure(confusion.numpy(), list(classes)))
        if rows:
            captions = [error.caption(classes, plot_label) for error in errors]
            with drawing("misclassified"):
                save_figure(view, self.writers, "misclassified", highest_loss_figure(images, captions))


def predict(view: RunView, loader: Loader, count: int) -> tuple[Tensor, list[Misclassified], np.ndarray]:
    """Confusion matrix (K, K), the ``count`` errors with the highest loss, and their images (n, H, W, C) in [0, 1]."""
    num_classes, offset = len(view.info.classes), 0
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=view.precision.device)
    errors: list[tuple[Misclassified, Tensor]] = []
    with eval_mode(view.model), torch.inference_mode():
        for x, y in loader.batches(0):
            outputs, labels = logits(view.model, x, view.precision).float(), y.argmax(1)
            confusion += confusion_matrix(outputs, labels)
            new = highest_loss_errors(outputs, labels, count, offset)
            errors += [(error, x[error.index - offset].cpu()) for error in new]
            errors = sorted(errors, key=lambda pair: -pair[0].loss)[:count]
            offset += len(x)
    images = view.info.denormalized(torch.stack([image for _, image in errors])) if errors else np.zeros((0, 1, 1, 1))
    return confusion.cpu(), [error for error, _ in errors], images
