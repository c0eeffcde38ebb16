"""Which change of the images of a split, or of the numbers of their classes, would let a network recognize them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from trainer.analysis.diagnosis.splits import OWN_BORDERS, TRAINING_BORDERS
from trainer.engine.evaluation import eval_mode, logits
from trainer.engine.loader import Loader
from trainer.engine.run import Run
from trainer.engine.used_weights import BATCH, used_weights

IMAGES = 1000  # of the split, on which each change is measured

Statistics = tuple[Tensor, Tensor]  # mean and standard deviation of each channel, both (1, C, 1, 1)
# Of images (N, C, H, W) with white = 1, given the statistics of the split and of the images that are recognized.
Change = Callable[[Tensor, Statistics, Statistics], Tensor]


def channel_statistics(x: Tensor) -> Statistics:
    """Mean and standard deviation of each channel of images (N, C, H, W), both (1, C, 1, 1).

    >>> mean, std = channel_statistics(torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]]))
    >>> mean.flatten().tolist(), std.flatten().tolist()
    ([2.0, 2.0], [1.0, 2.0])
    """
    return x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), correction=0, keepdim=True)


def standardized(x: Tensor, own: Statistics, known: Statistics) -> Tensor:
    """Images with the mean and the standard deviation of each channel that are known."""
    return (x - own[0]) / own[1].clamp(min=1e-6) * known[1] + known[0]


def with_borders_of(donors: Tensor, x: Tensor) -> Tensor:
    """Images x whose outer eighth, at least one pixel, is that of other images, all of (N, C, H, W).

    >>> with_borders_of(torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 4))[0, 0].tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    rows, columns = max(1, x.shape[2] // 8), max(1, x.shape[3] // 8)
    inside = (..., slice(rows, -rows), slice(columns, -columns))
    changed = donors.clone()
    changed[inside] = x[inside]
    return changed


def followed(predicted: Tensor, before: Tensor, own: Tensor, donors: Tensor) -> float:
    """The fraction of images that are taken for the class of another image whose borders they got, of those that were not before.

    Args:
        predicted: The predicted classes (N,).
        before: Those with their own borders (N,).
        own: The classes of the images (N,).
        donors: The classes of the images whose borders they got (N,).

    >>> own, donors = torch.tensor([0, 0, 2, 0]), torch.tensor([1, 1, 2, 3])
    >>> followed(torch.tensor([1, 0, 2, 3]), torch.tensor([0, 0, 2, 3]), own, donors)
    0.5
    """
    other = (own != donors) & (before != donors)
    return float((predicted == donors)[other].float().mean()) if other.any() else 0.0


CHANGES: Mapping[str, Change] = {
    "standardized": standardized,
    "channels reversed": lambda x, own, known: x.flip(1),
    "inverted": lambda x, own, known: 1 - x,
    "mirrored": lambda x, own, known: x.flip(3),
    "upside down": lambda x, own, known: x.flip(2),
    "rotated by 180 degrees": lambda x, own, known: x.flip(2, 3),
    "rotated by 90 degrees to the left": lambda x, own, known: x.rot90(1, (2, 3)),
    "rotated by 90 degrees to the right": lambda x, own, known: x.rot90(-1, (2, 3)),
    "transposed": lambda x, own, known: x.transpose(2, 3),
}
OF_SQUARES = ("rotated by 90 degrees to the left", "rotated by 90 degrees to the right", "transposed")


def applicable_changes(shape: torch.Size) -> list[str]:
    """Return the changes of images of a shape (N, C, H, W) that keep it and that change something.

    >>> len(applicable_changes(torch.Size([8, 3, 4, 4]))), applicable_changes(torch.Size([8, 1, 4, 5]))[:2]
    (9, ['standardized', 'inverted'])
    """
    without = {"channels reversed"} if shape[1] == 1 else set[str]()
    return [name for name in CHANGES if name not in without and (shape[2] == shape[3] or name not in OF_SQUARES)]


def renumbered(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """The highest accuracy that renumbering the classes can give (the assignment problem, Kuhn 1955).

    Args:
        predicted: (N,).
        labels: (N,).
        classes: Their number.

    >>> renumbered(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0]), 2)
    1.0
    >>> renumbered(torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 0, 1]), 2)
    0.5
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second

    counts = torch.bincount(predicted * classes + labels, minlength=classes * classes).view(classes, classes)
    matched = linear_sum_assignment(counts.numpy(force=True), maximize=True)
    return float(counts.numpy(force=True)[matched].sum()) / max(len(labels), 1)


@torch.no_grad()
def accuracies_of_changes(run: Run, split: Literal["validation", "test"]) -> dict[str, float]:
    """The accuracy on the first images of a split with each change of them, and with their labels ``renumbered``.

    The weights are those that are used; the run, of a single task with classes, is as before. Validation images are compared with
    the training images, whose borders they are given, too, and test images with those of validation.
    """
    loader, other = (
        (run.test, run.validation) if split == "test" else (run.validation, run.train.without_augmentation(BATCH))
    )
    assert loader is not None
    assert other is not None
    size, predicted = run.task.parts[0].size, defaultdict[str, list[Tensor]](list)
    labels: list[Tensor] = []
    device = run.precision.device
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (run.info.mean, run.info.std))
    known = channel_statistics(next(other.batches(0))[0].float() * std + mean)
    own, of_borders = known, dict[str, float]()

    def guesses_of(pixels: Tensor, dtype: torch.dtype) -> Tensor:
        return logits(run.model, ((pixels - mean) / std).to(dtype), run.precision).argmax(1)

    with used_weights(run), eval_mode(run.model):
        for x, y in loader.batches(0):
            pixels = x.float() * std + mean
            own = own if labels else channel_statistics(pixels)
            labels.append(y[:, :size].argmax(1))
            predicted[""].append(logits(run.model, x, run.precision).argmax(1))
            for name in applicable_changes(x.shape):
                predicted[name].append(guesses_of(CHANGES[name](pixels, own, known), x.dtype))
            if sum(map(len, labels)) >= IMAGES:
                break
        if split == "validation":
            of_borders = borders_followed(
                loader, other, predicted[""], lambda x: logits(run.model, x, run.precision).argmax(1)
            )
    truth, guesses = torch.cat(labels), {name: torch.cat(parts) for name, parts in predicted.items()}
    plain = guesses.pop("")
    accuracies = {name: float((guess == truth).float().mean()) for name, guess in guesses.items()}
    return {**accuracies, **of_borders, "renumbered": renumbered(plain, truth, size)}


def borders_followed(
    loader: Loader, training: Loader, before: Iterable[Tensor], guess: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """How many validation images are taken for the class of a training image, or of another validation image, whose borders they
    are given, and were not before.

    Args:
        loader: Of the validation images.
        training: Of the training images.
        before: The predicted classes (N,) of the validation images, by batch.
        guess: The predicted classes (N,) of images (N, C, H, W).
    """
    guesses, truths = defaultdict[str, list[Tensor]](list), defaultdict[str, list[Tensor]](list)
    batches = zip(loader.batches(0), training.batches(0), before, strict=False)
    for (x, y), (other, others), plain in islice(batches, IMAGES // BATCH):
        count, own = min(len(x), len(other)), y.argmax(1)
        for name, donors, labels in (
            (TRAINING_BORDERS, other[:count], others[:count].argmax(1)),
            (OWN_BORDERS, x[:count].roll(count // 2, 0), own[:count].roll(count // 2)),
        ):
            guesses[name].append(guess(with_borders_of(donors, x[:count])))
            truths[name].append(torch.stack((plain[:count], own[:count], labels)))
    return {name: followed(torch.cat(found), *torch.cat(truths[name], 1)) for name, found in guesses.items()}
