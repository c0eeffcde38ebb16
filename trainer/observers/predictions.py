"""What the best weights predict: confusion matrices, labels, numbers, and the largest errors."""

from __future__ import annotations

import contextlib
import re

import torch

from trainer.engine.evaluation import eval_mode, logits
from trainer.engine.loader import Loader
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.formats import Result
from trainer.observers.context import Context
from trainer.observers.images import save_figure
from trainer.observers.options import Predictions
from trainer.observers.predicted import KINDS, Predicted
from trainer.progress import activity, steps
from trainer.report.figures import drawing
from trainer.run_dir import write_json
from trainer.tasks.restrict import at_test


class PredictionsObserver(Observer):
    """At the end, predicts the validation images, or the test images if there are none, with the best weights.

    Writes ``predictions.json`` and figures, which also go to TensorBoard. Of classes: the confusion matrix and the ``worst``
    errors with the highest loss (``report/confusion.png``, ``report/misclassified.png``). Of labels: precision and recall at
    the thresholds (``labels.png``). Of numbers: predicted against true ones and the largest errors (``predicted.png``,
    ``largest_errors.png``). With several tasks, ``predictions.json`` has an entry for each under ``tasks``, and the name of
    the task follows that of the figure: ``confusion_digit.png``; of test images, only the main task if there is one. Images
    without a label are left out.
    """

    def __init__(self, option: Predictions, context: Context) -> None:
        self.worst, self.events = option.worst, context.event_writer

    @activity("predicting and drawing the errors")
    def on_fit_end(self, view: RunView, result: Result) -> None:
        split = "validation" if view.validation is not None else "test"
        status = result.get("status")
        if view.folder is None or split not in view.loaders or status == "failed" or view.step == 0:
            return
        if status == "diverged" and view.best is None:
            return  # there are no sane weights
        # The result of an interrupted run is that of its last weights.
        with view.best_weights() if status != "interrupted" else contextlib.nullcontext():
            predicted = predict(view, view.loaders[split], self.worst)
        contents = {name: task.content() for name, task in predicted.items()}
        several = any(predicted)
        tasks = {name: {"kind": predicted[name].part.spec.kind, **content} for name, content in contents.items()}
        write_json(
            view.folder / "predictions.json", {"split": split, **({"tasks": tasks} if several else contents[""])}
        )
        for name, task in predicted.items():
            for figure_name, draw in task.figures(view.info).items():
                full_name = f"{figure_name}_{file_name(name)}" if several else figure_name
                with drawing(full_name):
                    save_figure(view, self.events, full_name, draw())


def file_name(task: str) -> str:
    """The name of a task as part of a file's name.

    >>> file_name("left/right eye")
    'left-right-eye'
    """
    return re.sub(r"[^\w.+-]+", "-", task)


def predict(view: RunView, loader: Loader, count: int) -> dict[str, Predicted]:
    """The predictions of each task by its name, with the ``count`` largest errors."""
    thresholds, offset = view.task.thresholds.get("model", {}), 0
    shown, model = at_test(view.task, view.model) if loader is view.test else (view.task, view.model)
    tasks = {p.name: KINDS[p.spec.kind](p, count, thresholds.get(p.name)) for p in shown.parts}
    with eval_mode(model), torch.inference_mode():
        for x, y in steps("collecting predictions of batches", loader.batches(0), len(loader)):
            outputs = logits(model, x, view.precision).float()
            for task in tasks.values():
                task.add(x, outputs, y, offset)
            offset += len(x)
    return tasks
