"""What can be drawn of a run: its schedule before training, a batch as it is trained on, the first layer's filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import check
from trainer.observers import Observer

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from torch import Tensor

    from trainer.engine.run import Run


@dataclass
class Filters(Observer):
    """Draws the first layer's filters every ``every`` epochs, at the first step its first ``pictures`` pictures as read and as
    augmented, and the schedule, which TensorBoard has as a curve from the beginning; into ``report/`` and onto TensorBoard.
    """

    every: int = 1
    pictures: int = 8

    def __post_init__(self) -> None:
        check(
            self,
            every=(self.every >= 1, "must be >= 1 epoch"),
            pictures=(self.pictures >= 1, "must be >= 1"),
        )

    def on_fit_start(self, run: Run) -> None:
        self.first: Any = None
        self.expected = run.folder is not None and run.clock.step == 0
        if not self.expected:
            return
        from trainer.observers.event_writer import writer

        times, values, _ = rates(run)
        for i in range(0, len(times), max(1, len(times) // 200)):
            writer(run, "train").add_scalar("schedule/lr", values[i], round(times[i] * len(run.train)))
        self._filters(run)

    def on_step_end(self, run: Run) -> None:
        if not self.expected or run.batch is None:
            return
        import numpy as np

        self.expected = False
        before, after, labels = self.first = first_pictures(run, self.pictures)
        # In haste: what draws the sheet with its names takes a second to load, for which no step is to wait.
        sheet = mosaic(np.concatenate([before, after]), across=len(labels))
        keep(run, "batch", sheet)

    def on_epoch_end(self, run: Run, row: dict[str, Any]) -> None:
        if run.folder is not None and (len(run.history) % self.every == 0 or run.finished):
            self._filters(run)

    def on_fit_end(self, run: Run, result: dict[str, Any]) -> None:
        if self.first is None:
            return
        from trainer.report.figures import batch_figure, schedule_figure

        before, after, labels = self.first
        save(run, "batch", batch_figure(before, after, [run.info.classes[i] for i in labels]), run.clock.step)
        save(run, "schedule", schedule_figure(rates(run)), run.clock.step)

    def _filters(self, run: Run) -> None:
        found = filters_of(run.model, run.info.shape)
        if found is not None:
            keep(run, "filters", mosaic(found))


def keep(run: Run, name: str, picture: np.ndarray) -> None:
    """A picture uint8 (H, W, 3) into ``report/<name>.png`` and onto TensorBoard."""
    import cv2

    from trainer.observers.event_writer import writer

    assert run.folder is not None
    (run.folder / "report").mkdir(exist_ok=True)
    cv2.imwrite(str(run.folder / "report" / f"{name}.png"), picture[..., ::-1])
    writer(run, "train").add_image(name, picture, run.clock.step, dataformats="HWC")


def save(run: Run, name: str, figure: Figure, step: int) -> None:
    """A figure into ``report/<name>.png`` and, at ``step``, onto TensorBoard."""
    import numpy as np

    from trainer.observers.event_writer import writer

    assert run.folder is not None
    (run.folder / "report").mkdir(exist_ok=True)
    figure.savefig(run.folder / "report" / f"{name}.png", dpi=110)
    canvas: Any = figure.canvas
    writer(run, "train").add_image(name, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")


def mosaic(pictures: np.ndarray, side: int = 48, across: int = 16) -> np.ndarray:
    """Pictures (n, h, w, c) in 0..1 in lines of ``across``, enlarged to about ``side`` pixels: uint8 (H, W, 3).

    >>> import numpy as np
    >>> mosaic(np.ones((3, 4, 4, 1)), side=8).shape
    (14, 42, 3)
    """
    import numpy as np

    n, h, w, _ = pictures.shape
    scale, across = max(1, side // max(h, w)), min(n, across)
    down = -(-n // across)
    sheet = np.full((down, across, h * scale + 6, w * scale + 6, 3), 1.0)
    large = np.broadcast_to(pictures.repeat(scale, 1).repeat(scale, 2), (n, h * scale, w * scale, 3))
    sheet.reshape(-1, *sheet.shape[2:])[:n, 3 : 3 + h * scale, 3 : 3 + w * scale] = large
    return (255 * sheet.transpose(0, 2, 1, 3, 4).reshape(down * sheet.shape[2], -1, 3)).round().astype(np.uint8)


def filters_of(model: Any, shape: tuple[int, int, int], most: int = 128) -> np.ndarray | None:
    """The first layer's filters (n, h, w, c) in 0..1, each over its own range: kernels, or the weights of units that see the
    whole picture; of other than 1 or 3 channels the mean. None where the first layer has no spatial form.
    """
    from torch import nn

    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)), None)
    if first is None:
        return None
    weights = first.weight.detach().float().cpu()[:most]
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


def rates(run: Run) -> tuple[list[float], list[float], list[float | None]]:
    """Time in epochs, rate and momentum at each step (of long runs at every so-many-th)."""
    from trainer.history import History

    times: list[float] = []
    values: list[float] = []
    momenta: list[float | None] = []
    before, history = 0.0, History()
    for phase in run.phases:
        steps = run.steps_in(phase)
        stride = max(1, steps // 2000)
        for step in range(0, steps, stride):
            t = step / len(run.train)
            times.append(before + t)
            values.append(run.rate_of(phase) * phase.schedule(t, history))
            momenta.append(phase.schedule.momentum_at(t))
        before += steps / len(run.train)
    return times, values, momenta


def first_batch(run: Run, count: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The first pictures of the first epoch, as read and as they would go into the network, and their classes."""
    import torch

    x, y = next(run.train.batches(0))
    with torch.random.fork_rng():
        x, _ = run.regularizer.batch(x, y)
    return before_and_after(run, x, count, 0, 0)


def first_pictures(run: Run, count: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The first pictures of the step just made, as read and as they went into the network, and their classes."""
    assert run.batch is not None
    return before_and_after(run, run.batch[0], count, run.passes, run.clock.batch - 1)


def before_and_after(
    run: Run, x: Tensor, count: int, epoch: int, batch: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The first pictures of a batch as read and, in ``x``, as augmented and regularized, (N, H, W, C) in 0..1, and classes."""
    import numpy as np

    train: Any = run.train
    chosen = next(train.indices(epoch, batch))[1][:count]
    read = np.stack([train.dataset.center_crop(i, run.info.shape[1]) for i in chosen]).astype(np.float32) / 255
    return read, as_pictures(run, x[: len(chosen)]), train.dataset.labels[chosen].tolist()


def as_pictures(run: Run, x: Tensor) -> np.ndarray:
    """Normalised pictures (N, C, H, W) as (N, H, W, C) in 0..1."""
    import torch

    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (run.info.mean, run.info.std))
    return (x.cpu().float() * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
