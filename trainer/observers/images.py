"""Images of a run: its schedule, a batch as it is trained on, the first layer's filters."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from trainer.analysis.filters import effective_number, roughness
from trainer.data.targets import MISSING_CLASS
from trainer.engine.observer import Observer
from trainer.engine.run import Run
from trainer.engine.view import RunView
from trainer.files import atomic_path
from trainer.formats import Contribution, Result, Row
from trainer.history import History
from trainer.literal import printable
from trainer.observers.context import Context
from trainer.observers.event_writer import LazyEventWriter, write_png
from trainer.observers.options import Filters
from trainer.progress import activity
from trainer.report.plots import Plot, kept_images
from trainer.tasks.spec import PartSpec

MAX_FILTERS = 128


class FiltersObserver(Observer):
    """Draws the first layer's filters every ``every`` epochs, the first ``images`` images of the first step as read and as
    augmented, and the schedule, which TensorBoard has as a curve from the beginning.

    The images are written to ``report/`` and to TensorBoard. How noisy the filters are, and how many of them differ in form, is
    a curve in TensorBoard; the report has the values of the best weights (``trainer.analysis.filters``).
    """

    def __init__(self, option: Filters, context: Context) -> None:
        self.every, self.images = option.every, option.images
        self.events, self.plots = context.event_writer, context.plots
        self.has_batch = False

    def on_fit_start(self, view: RunView) -> None:
        self.is_new_run = view.folder is not None and view.step == 0
        if not self.is_new_run:
            return
        times, lrs, _ = schedule_curve(view)
        for i in range(0, len(times), max(1, len(times) // 200)):
            self.events().add_scalar("3_lr/planned", lrs[i], round(times[i] * len(view.train)))
        self._draw_filters(view)

    def on_step_end(self, view: RunView) -> None:
        if not self.is_new_run or self.has_batch or view.batch is None:
            return
        self.has_batch = True
        before, after, names, targets = before_and_after(
            view, view.batch, self.images, view.data_epoch, view.batch_index - 1
        )
        self.plots.keep(view, "batch", batch_plot(before, after, names, targets), 0)
        # Without labels: matplotlib, which draws them, takes most of a second to import.
        save_image(view, self.events, "batch", mosaic(np.concatenate([before, after]), columns=len(before)), 0)

    def on_epoch_end(self, view: RunView, row: Row) -> None:
        if view.folder is not None and (view.epochs_done % self.every == 0 or view.over):
            self._draw_filters(view)

    @activity("drawing the batch and the schedule")
    def on_fit_end(self, view: RunView, result: Result) -> Contribution | None:
        if view.folder is None or view.step == 0:
            return None
        self.plots.show(view, "batch")
        self.plots.add(view, "schedule", schedule_plot(view))
        with view.best_weights() if view.best is not None else contextlib.nullcontext():
            filters = first_filters(view.model, view.info.shape)
        if filters is None:
            return None
        return {
            "filters": {
                "roughness": roughness(filters),
                "effective_number": effective_number(filters),
                "count": len(filters),
            }
        }

    def _draw_filters(self, view: RunView) -> None:
        filters = first_filters(view.model, view.info.shape)
        if filters is not None:
            save_image(view, self.events, "filters", mosaic(filters))
            self.events().add_scalar("4_steps/filter_roughness", roughness(filters), view.step)
            self.events().add_scalar("4_steps/different_filters", effective_number(filters), view.step)


def save_image(view: RunView, events: LazyEventWriter, name: str, image: np.ndarray, step: int | None = None) -> None:
    """Write an image uint8 (H, W, 3) to ``report/<name>.png`` and to TensorBoard, at ``step``, by default the current one."""
    assert view.folder is not None
    path = view.folder / "report" / f"{name}.png"
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    write_png(events(), name, path, view.step if step is None else step)


def mosaic(images: np.ndarray, size: int = 48, columns: int = 16) -> np.ndarray:
    """Images (n, h, w, c) in [0, 1] in rows of ``columns``, enlarged to about ``size`` pixels: uint8 (H, W, 3).

    >>> import numpy as np
    >>> mosaic(np.ones((3, 4, 4, 1)), size=8).shape
    (14, 42, 3)
    """
    n, h, w, _ = images.shape
    scale, columns = max(1, size // max(h, w)), min(n, columns)
    rows = -(-n // columns)
    sheet = np.full((rows, columns, h * scale + 6, w * scale + 6, 3), 1.0)
    enlarged = np.broadcast_to(images.repeat(scale, 1).repeat(scale, 2), (n, h * scale, w * scale, 3))
    sheet.reshape(-1, *sheet.shape[2:])[:n, 3 : 3 + h * scale, 3 : 3 + w * scale] = enlarged
    return (255 * sheet.transpose(0, 2, 1, 3, 4).reshape(rows * sheet.shape[2], -1, 3)).round().astype(np.uint8)


def first_filters(model: nn.Module, shape: tuple[int, int, int]) -> np.ndarray | None:
    """The first layer's filters (n, h, w, c), each scaled to [0, 1]: kernels, or the weights of units that see the whole image.

    Filters with neither 1 nor 3 channels are averaged over them. None if the first layer has no spatial form.
    """
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)), None)
    if first is None:
        return None
    weights = first.weight.detach().float().cpu()[:MAX_FILTERS]
    if weights.ndim == 2:
        if weights.shape[1] != shape[0] * shape[1] * shape[2]:
            return None
        weights = weights.view(len(weights), *shape)
    if weights.shape[1] not in (1, 3):
        weights = weights.mean(1, keepdim=True)
    if weights.shape[2] == weights.shape[3] == 1:
        return None
    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    return ((weights - low) / (high - low).clamp_min(1e-12)).nan_to_num(0.5).permute(0, 2, 3, 1).numpy()


def schedule_plot(run: RunView | Run) -> Plot:
    """The schedule as a plot."""
    times, lrs, momenta = (np.array(values, float) for values in schedule_curve(run))
    return Plot("schedule", times=times, lrs=lrs, momenta=momenta)


def schedule_curve(run: RunView | Run) -> tuple[list[float], list[float], list[float | None]]:
    """Time in epochs, learning rate and momentum at the steps of a run, thinned out in long phases."""
    times: list[float] = []
    lrs: list[float] = []
    momenta: list[float | None] = []
    start, history = 0.0, History()
    for phase in run.phases:
        steps = run.steps_in(phase)
        for step in range(0, steps, max(1, steps // 2000)):
            t = step / len(run.train)
            times.append(start + t)
            lrs.append(run.peak_lr(phase) * phase.schedule(t, history))
            momenta.append(phase.schedule.momentum_at(t))
        start += steps / len(run.train)
    return times, lrs, momenta


def batch_plot(before: np.ndarray, after: np.ndarray, names: Sequence[str], targets: Sequence[str]) -> Plot:
    """What ``before_and_after`` returns as a plot."""
    return Plot("batch", before=kept_images(before), after=kept_images(after), names=names, targets=targets)


def first_batch(run: Run, count: int) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """The first images of the first epoch, as read and as they would go into the model, their labels and targets as text."""
    x, y = next(run.train.batches(0))
    with torch.random.fork_rng():
        x, y = run.regularizer.batch(x, y)
    return before_and_after(run, (x, y), count, 0, 0)


def before_and_after(
    run: RunView | Run, trained: tuple[Tensor, Tensor], count: int, epoch: int, batch: int
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """The first images of a batch as read and, in ``trained`` with their targets, as augmented and regularized, both (N, H, W, C)
    in [0, 1]; their labels as text; and what the network is trained on where that is a mixture.
    """
    images = run.train.dataset
    indices = next(run.train.indices(epoch, batch))[1][:count]
    before = np.stack([images.center_crop(i, run.info.shape[1]) for i in indices]).astype(np.float32) / 255
    columns = [[label_text(p.spec, v) for v in images.target(p.spec.target)[indices]] for p in run.task.parts]
    after, targets = run.info.denormalized(trained[0][: len(indices)]), trained[1][: len(indices)].float().cpu()
    mixed = [
        [mixture(p.classes, v, sum(v) if p.has_classes else 1.0) for v in targets[:, p.values].tolist()]
        for p in run.task.parts
        if p.spec.kind != "regression"
    ]
    texts = [caption([text for text in own if text] or [""]) for own in zip(*mixed, strict=True)] or [""] * len(indices)
    return before, after, [caption(texts) for texts in zip(*columns, strict=True)], texts


def mixture(classes: Sequence[str], target: Sequence[float], total: float) -> str:
    """A target that is a mixture of classes or labels as text, those of at least 5 % of ``total``; empty if it is none.

    >>> mixture(("cat", "dog", "cow"), [0.7, 0.3, 0.0], 1.0), mixture(("cat", "dog", "cow"), [0.0, 2.0, 0.0], 2.0)
    ('70 % cat + 30 % dog', '')
    """
    largest = max(target, default=0.0)
    if not largest or all(min(v, largest - v) < 0.005 for v in target):
        return ""
    parts = sorted(
        ((v / total, name) for v, name in zip(target, classes, strict=True) if v >= 0.05 * total), reverse=True
    )
    return " + ".join(f"{100 * v:.0f} % {name}" for v, name in parts)


def label_text(spec: PartSpec, value: np.ndarray) -> str:
    """The value of an image's target as text: its class, its labels, or its numbers; ``?`` where it is missing.

    >>> spec = PartSpec("", "kind", "multilabel", ("red", "round"))
    >>> label_text(spec, np.array([1.0, 0.0])), label_text(spec, np.array([0.0, 0.0])), label_text(spec, np.array([1.0, np.nan]))
    ('red', 'none', 'red ?')
    """
    if spec.kind == "classification":
        return "?" if value == MISSING_CLASS else spec.classes[int(value)]
    if spec.kind == "regression":
        return " ".join("?" if np.isnan(v) else f"{v:.3g}" for v in value)
    names = [name if v == 1 else "?" for name, v in zip(spec.classes, value, strict=True) if v != 0]
    return " ".join(names) or "none"


def caption(texts: Sequence[str], lines: int = 4, length: int = 18) -> str:
    """The labels of an image as a short text, one line per task.

    >>> caption(["7"]), caption(["7", "odd", "prime above_4 not_even", "0.3", "0.1"])
    ('7', '7\\nodd\\nprime above_4 not…\\n… 2 more')
    """
    texts = list(map(printable, texts))
    if len(texts) == 1:
        return texts[0]
    kept = texts if len(texts) <= lines else [*texts[: lines - 1], f"… {len(texts) - lines + 1} more"]
    return "\n".join(text if len(text) <= length else f"{text[: length - 1]}…" for text in kept)
