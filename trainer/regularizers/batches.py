"""Regularizers that change the images (N, C, H, W) and targets (N, K) of a batch: random numbers, then a pure function."""

from __future__ import annotations

from collections.abc import Callable

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
    draw_uniform,
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
    return with_probability(option.p, mix, x, y, option.alpha)


def cutmix(option: options.Cutmix, x: Tensor, y: Tensor) -> Batch:
    return with_probability(option.p, cut_and_mix, x, y, option.alpha)


def mixup_or_cutmix(option: options.MixupOrCutmix, x: Tensor, y: Tensor) -> Batch:
    if draw_uniform() < option.cutmix_fraction:
        return with_probability(option.p, cut_and_mix, x, y, option.cutmix_alpha)
    return with_probability(option.p, mix, x, y, option.mixup_alpha)


def with_probability(
    p: float, change: Callable[[Tensor, Tensor, float], Batch], x: Tensor, y: Tensor, alpha: float
) -> Batch:
    """Change a batch with probability ``p``; without a draw if it is 1."""
    return change(x, y, alpha) if p == 1 or draw_uniform() < p else (x, y)


def mix(x: Tensor, y: Tensor, alpha: float) -> Batch:
    return mixup_batch(x, y, draw_beta(alpha), draw_permutation(x))


def cut_and_mix(x: Tensor, y: Tensor, alpha: float) -> Batch:
    return cutmix_batch(x, y, draw_box(draw_beta(alpha), x.shape[2], x.shape[3]), draw_permutation(x))


def cutout(option: options.Cutout, x: Tensor, y: Tensor) -> Batch:
    return cutout_batch(x, draw_centers(x), option.length, option.value), y
