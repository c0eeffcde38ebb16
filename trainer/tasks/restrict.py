"""A task after training: the main one of several alone, and on data in which other labels are missing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.architectures.layers import Parallel, find_head
from trainer.data.images import Images
from trainer.data.targets import Target, is_missing
from trainer.tasks.build import assembled
from trainer.tasks.options import SingleTask
from trainer.tasks.spec import PartSpec
from trainer.tasks.task import Task


def main_only(task: Task) -> Task:
    """Return the main task of several as a task of its own, with its thresholds; any other task is returned unchanged."""
    if task.main is None:
        return task
    spec = replace(task.main.spec, name="")
    return Task(assembled([(task.main.option, spec)], task.device), None, task.device)


def restricted(task: Task, model: nn.Module, shape: Sequence[int]) -> tuple[Task, nn.Module]:
    """Return the main task alone, and the network without the outputs of the others.

    Of networks side by side (soft sharing) it is that of the main task; else the last layer keeps only the rows of the main
    task. Without a main task both are returned as they are.

    Args:
        task: Several tasks.
        model: Their network in evaluation mode, which is not changed.
        shape: Of an image, (C, H, W).
    """
    if task.main is None:
        return task, model
    if isinstance(model, Parallel):
        return main_only(task), model.network(task.main.name)
    return main_only(task), without_other_outputs(model, task.main.outputs, task.num_outputs, shape)


def at_test(task: Task, model: nn.Module) -> tuple[Task, nn.Module]:
    """Return the main task under its name, and the network that predicts it, without a copy; else both as they are.

    It is what a run evaluates on the test images, whose targets are those of all tasks.

    Args:
        task: One or several tasks.
        model: Their network, or its average.
    """
    if task.main is None:
        return task, model
    network = model.module if isinstance(model, AveragedModel) else model
    assert isinstance(network, nn.Module)
    alone = Task([task.main], None, task.device)
    return alone, network.network(task.main.name) if isinstance(network, Parallel) else model


def without_other_outputs(model: nn.Module, columns: slice, count: int, shape: Sequence[int]) -> nn.Module:
    """Return a network with only these of its ``count`` outputs.

    The last layer is reduced to their rows, if that gives the same outputs; of other networks the outputs are selected.
    """
    narrowed = copy.deepcopy(model)
    head = find_head(narrowed)[1]
    plain = isinstance(head.weight, nn.Parameter) and not torch.nn.utils.parametrize.is_parametrized(head)
    if plain and len(head.weight) == count and (isinstance(head, nn.Linear) or head.groups == 1):
        head.weight = nn.Parameter(head.weight[columns].detach().clone(), head.weight.requires_grad)
        if head.bias is not None:
            head.bias = nn.Parameter(head.bias[columns].detach().clone(), head.bias.requires_grad)
        setattr(head, "out_features" if isinstance(head, nn.Linear) else "out_channels", len(head.weight))
        if same_outputs(model, narrowed, columns, shape):
            return narrowed
    return Selected(model, columns)


@torch.no_grad()
def same_outputs(model: nn.Module, narrowed: nn.Module, columns: slice, shape: Sequence[int]) -> bool:
    """Return whether the outputs of random images in these columns are all outputs of the narrowed network."""
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        outputs = narrowed(x)
    except RuntimeError:  # a layer after the head expects all rows
        return False
    expected = model(x)[:, columns]
    return outputs.shape == expected.shape and torch.allclose(outputs, expected, rtol=1e-3, atol=1e-4)


class Selected(nn.Module):
    """Some of the outputs of a network."""

    def __init__(self, model: nn.Module, columns: slice) -> None:
        super().__init__()
        self.model, self.columns = model, columns

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[:, self.columns]


def on_device(task: Task, device: torch.device | str) -> Task:
    """Return the task with its tensors on a device."""
    return Task(assembled([(part.option, part.spec) for part in task.parts], device), task.option, device)


def for_images(
    task: Task, targets: Sequence[Target], splits: Sequence[Images], device: torch.device | str = "cpu"
) -> Task:
    """Return the task for images among which other labels may be missing than in training.

    Args:
        task: After training.
        targets: Of the data, those of the task among them; the single target of data may have any name.
        splits: The images.
        device: Where its tensors are kept.
    """
    pairs: list[tuple[SingleTask, PartSpec]] = []
    for part in task.parts:
        target = next((t for t in targets if t.name == part.spec.target), targets[0])
        missing = any(bool(is_missing(target, images.target(target.name)).any()) for images in splits)
        labelled = part.spec.labelled if part.spec.masked else 1.0
        spec = replace(part.spec, target=target.name, masked=part.spec.masked or missing, labelled=labelled)
        pairs.append((part.option, spec))
    return Task(assembled(pairs, device), task.option, device)
