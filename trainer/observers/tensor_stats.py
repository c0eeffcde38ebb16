"""Distributions of many tensors at once: sampled and counted where the tensors are, brought over in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLES, BINS = 4096, 64


@dataclass(frozen=True)
class Distribution:
    """What up to 4,096 values of a tensor say: moments, range, ``BINS`` counts between ``low`` and ``high``.

    ``nonfinite`` and ``zero`` are shares of the values, ``saturated`` the share outside the range given for it; the moments,
    the range and the counts are those of the finite values.
    """

    count: int
    mean: float
    std: float
    low: float
    high: float
    nonfinite: float
    zero: float
    saturated: float
    bins: tuple[int, ...]

    @property
    def rms(self) -> float:
        """√(mean of the squares)."""
        return (self.mean**2 + self.std**2) ** 0.5

    def edges(self) -> list[float]:
        """The upper edges of the bins."""
        width = (self.high - self.low) / BINS
        return [self.low + width * (i + 1) for i in range(BINS - 1)] + [self.high]

    def quantiles(self, shares: Sequence[float] = (0.025, 0.16, 0.5, 0.84, 0.975)) -> list[float]:
        """Where so much of the values lies below, straight lines within the bins."""
        total, found, width = sum(self.bins) or 1, [], (self.high - self.low) / BINS
        for share in shares:
            seen = 0
            for i, n in enumerate(self.bins):
                if n and seen + n >= share * total:
                    found.append(self.low + width * (i + (share * total - seen) / n))
                    break
                seen += n
            else:
                found.append(self.high)
        return found


def sample(tensor: Tensor, count: int = SAMPLES) -> Tensor:
    """``count`` values spread evenly over the tensor's memory, without copying the rest; a smaller tensor is repeated.

    >>> sample(torch.arange(10.0), 4), sample(torch.tensor([1.0, 2.0]), 5)
    (tensor([0., 1., 2., 3.]), tensor([1., 2., 1., 2., 1.]))
    """
    tensor = tensor.detach()
    n = tensor.numel()
    if n < count:
        return tensor.flatten().repeat(-(-count // max(n, 1)))[:count]
    step = n // count
    while step > 1 and (step % 2 == 0 or step % 3 == 0):
        step -= 1  # a step that shares a factor with the number of channels would meet some of them only
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    flat = tensor if dense else tensor.contiguous()
    return flat.as_strided((count,), (step,), flat.storage_offset())


@torch.no_grad()
def distributions(tensors: Sequence[Tensor], limits: Sequence[tuple[float, float] | None] = ()) -> list[Distribution]:
    """The distribution of each tensor, by a fixed number of operations on all samples together and one copy to the host.

    ``limits``: for some tensors the range outside of which a value is saturated.

    >>> found = distributions([torch.tensor([0.0, 1.0, 2.0, 3.0])])[0]
    >>> found.mean, found.low, found.high, found.zero, sum(found.bins), found.count
    (1.5, 0.0, 3.0, 0.25, 4, 4)
    """
    if not tensors:
        return []
    device = tensors[0].device
    x = torch.stack([sample(t).float() for t in tensors])
    rows = len(x)
    sizes = [min(t.numel(), SAMPLES) for t in tensors]
    n = torch.tensor(sizes, device=device)[:, None]
    there = torch.arange(SAMPLES, device=device) < n
    finite = there & torch.isfinite(x)
    good = finite.sum(1).clamp_min(1)
    clean = torch.where(finite, x, 0.0)
    mean = clean.sum(1) / good
    std = (torch.where(finite, x - mean[:, None], 0.0).square().sum(1) / good).sqrt()
    low = torch.where(finite, x, torch.inf).amin(1)
    high = torch.where(finite, x, -torch.inf).amax(1)
    low, high = (torch.where(torch.isfinite(v), v, 0.0) for v in (low, high))
    wide = [limit or (-torch.inf, torch.inf) for limit in [*limits, *[None] * (rows - len(limits))]]
    bounds = torch.tensor(wide, device=device)
    outside = (finite & ((x < bounds[:, :1]) | (x > bounds[:, 1:]))).sum(1)
    place = ((clean - low[:, None]) / (high - low).clamp_min(1e-30)[:, None] * BINS).long().clamp_(0, BINS - 1)
    place += torch.arange(rows, device=device)[:, None] * BINS
    counts = torch.zeros(rows * BINS, device=device).index_add_(0, place.flatten(), finite.flatten().float())
    zero = (finite & (x == 0)).sum(1)
    size = n[:, 0]
    parts = (mean, std, low, high, 1 - finite.sum(1) / size, zero / size, outside / size)
    table = torch.cat([torch.stack(parts, 1), counts.view(rows, BINS)], 1).tolist()
    return [
        Distribution(count, *row[:7], bins=tuple(int(c) for c in row[7:]))
        for count, row in zip(sizes, table, strict=True)
    ]
