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
from trainer.observers.embedding import Embedded
from trainer.observers.options import Predictions
from trainer.observers.predicted import KINDS, Predicted, PredictedClasses
from trainer.progress import activity, steps
from trainer.report.figures import drawing
from trainer.run_dir import write_json
from trainer.tasks.restrict import at_test


class PredictionsObserver(Observer):
    """At the end, predicts the validation images, or the test images if there are none, with the best weights.

    Writes ``predictions.json`` and figures, which also go to TensorBoard. Of classes: the confusion matrix and the ``worst``
    errors with the highest loss (``report/confusion.png``, ``report/misclassified.png``). Of labels: precision and recall at
    the thresholds (``labels.png``). Of numbers: predicted against true ones and the largest errors (``predicted.png``,
    ``largest_errors.png``). Grad-CAM shows where the evidence for the errors of classes is (``grad_cam.png``), of networks with
    feature maps. The penultimate layer of a finished run is drawn in two dimensions (``embedding.png``) and in full in
    TensorBoard's projector. With several tasks, ``predictions.json`` has an entry for each under ``tasks``, and the name of
    the task follows that of the figure: ``confusion_digit.png``; of test images, only the main task if there is one. Images
    without a label are left out.
    """

    def __init__(self, option: Predictions, context: Context) -> None:
        self.option, self.plots = option, context.plots

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
            embedded = Embedded(self.option.embedded if self.option.embedding != "none" else 0)
            predicted = predict(view, view.loaders[split], self.option.worst, embedded)
            without_maps = [name for name, task in predicted.items() if not self._grad_cam(view, name, task)]
        if embedded.complete and status == "finished":
            self.plots.add(view, "embedding", embedded.plot(self.option.embedding))
            embedded.write_projector(view)
        contents = {name: task.content() for name, task in predicted.items()}
        for name in without_maps:
            contents[name]["grad_cam"] = "none: the network has no feature maps"
        several = any(predicted)
        tasks = {name: {"kind": predicted[name].part.spec.kind, **content} for name, content in contents.items()}
        write_json(
            view.folder / "predictions.json", {"split": split, **({"tasks": tasks} if several else contents[""])}
        )
        for name, task in predicted.items():
            for plot_name, plot in task.plots(view.info).items():
                self.plots.add(view, named_after(plot_name, name), plot)

    def _grad_cam(self, view: RunView, name: str, predicted: Predicted) -> bool:
        """Draw the evidence for the largest errors of a task with classes; return whether the network has feature maps."""
        full_name, has_maps = named_after("grad_cam", name), True
        if self.option.grad_cam and isinstance(predicted, PredictedClasses) and predicted.worst.errors:
            with drawing(full_name):
                plot = predicted.grad_cam(view.model, view.info, self.option.grad_cam)
                has_maps = plot is not None
                if plot is not None:
                    self.plots.add(view, full_name, plot)
        return has_maps


def named_after(plot: str, task: str) -> str:
    """The name of a plot, with that of its task if there are several.

    >>> named_after("confusion", ""), named_after("confusion", "digit")
    ('confusion', 'confusion_digit')
    """
    return f"{plot}_{file_name(task)}" if task else plot


def file_name(task: str) -> str:
    """The name of a task as part of a file's name.

    >>> file_name("left/right eye")
    'left-right-eye'
    """
    return re.sub(r"[^\w.+-]+", "-", task)


def predict(view: RunView, loader: Loader, count: int, embedded: Embedded) -> dict[str, Predicted]:
    """The predictions of each task by its name, with the ``count`` largest errors; ``embedded`` collects features."""
    thresholds, offset = view.task.thresholds.get("model", {}), 0
    shown, model = at_test(view.task, view.model) if loader is view.test else (view.task, view.model)
    tasks = {p.name: KINDS[p.spec.kind](p, count, thresholds.get(p.name)) for p in shown.parts}
    with eval_mode(model), torch.inference_mode(), embedded.collecting(model):
        for x, y in steps("collecting predictions of batches", loader.batches(0), len(loader)):
            outputs = logits(model, x, view.precision).float()
            for task in tasks.values():
                task.add(x, outputs, y, offset)
            embedded.add(x, outputs, y, next(iter(tasks.values())))
            offset += len(x)
    return tasks
