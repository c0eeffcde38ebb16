"""Regularizers that change the images (N, C, H, W) and targets (N, K) of a batch: random numbers, then a pure function."""

from __future__ import annotations

from torch import Tensor

from trainer.errors import ConfigError, Problem
from trainer.regularizers import options
from trainer.regularizers.base import Regularizer, TaskInfo
from trainer.regularizers.functional import (
    cutmix_batch,
    cutout_batch,
    draw_beta,
    draw_box,
    draw_centers,
    draw_permutation,
    mixup_batch,
    smooth_labels,
)

Batch = tuple[Tensor, Tensor]


def label_smoothing(option: options.LabelSmoothing, x: Tensor, y: Tensor) -> Batch:
    return x, smooth_labels(y, option.eps, option.form)


class TaskLabelSmoothing(Regularizer):
    """Label smoothing of the targets of a task, some of whose columns are not those of classes."""

    def __init__(self, option: options.LabelSmoothing, task: TaskInfo) -> None:
        if not task.has_labels:
            text = "has no effect: the task has neither classes nor labels"
            raise ConfigError(Problem("regularizer.label_smoothing", "on", text, "leave it out"))
        self.option, self.task = option, task

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        return x, self.task.smooth(y, self.option.eps, self.option.form)


def mixup(option: options.Mixup, x: Tensor, y: Tensor) -> Batch:
    return mixup_batch(x, y, draw_beta(option.alpha), draw_permutation(x))


def cutmix(option: options.Cutmix, x: Tensor, y: Tensor) -> Batch:
    return cutmix_batch(x, y, draw_box(draw_beta(option.alpha), x.shape[2], x.shape[3]), draw_permutation(x))


def cutout(option: options.Cutout, x: Tensor, y: Tensor) -> Batch:
    return cutout_batch(x, draw_centers(x), option.length, option.value), y
