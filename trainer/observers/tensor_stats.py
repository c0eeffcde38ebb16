"""Distributions of many tensors at once: sampled and counted on their device, and copied to the host in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLES, BINS = 4096, 64


@dataclass(frozen=True)
class Distribution:
    """Statistics of up to 4,096 values of a tensor: moments, range, ``BINS`` counts between ``low`` and ``high``.

    ``nonfinite`` and ``zero`` are fractions of the values, ``saturated`` the fraction outside the limits given for it.
    Moments, range and counts are those of the finite values.
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

    def quantiles(self, fractions: Sequence[float] = (0.025, 0.16, 0.5, 0.84, 0.975)) -> list[float]:
        """The quantiles at some fractions, interpolated linearly within the bins."""
        total, quantiles, width = sum(self.bins) or 1, [], (self.high - self.low) / BINS
        for fraction in fractions:
            below = 0
            for i, n in enumerate(self.bins):
                if n and below + n >= fraction * total:
                    quantiles.append(self.low + width * (i + (fraction * total - below) / n))
                    break
                below += n
            else:
                quantiles.append(self.high)
        return quantiles


def sample(tensor: Tensor, count: int = SAMPLES) -> Tensor:
    """``count`` values spread evenly over the tensor's memory, without copying the others; a smaller tensor is repeated.

    >>> sample(torch.arange(10.0), 4), sample(torch.tensor([1.0, 2.0]), 5)
    (tensor([0., 1., 2., 3.]), tensor([1., 2., 1., 2., 1.]))
    """
    tensor = tensor.detach()
    n = tensor.numel()
    if n < count:
        return tensor.flatten().repeat(-(-count // max(n, 1)))[:count]
    step = n // count
    while step > 1 and (step % 2 == 0 or step % 3 == 0):
        step -= 1  # a stride with a common factor with the number of channels would skip some of them
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    flat = tensor if dense else tensor.contiguous()
    return flat.as_strided((count,), (step,), flat.storage_offset())


@torch.no_grad()
def distributions(tensors: Sequence[Tensor], limits: Sequence[tuple[float, float] | None] = ()) -> list[Distribution]:
    """The distribution of each tensor, by a fixed number of operations on all samples together and one copy to the host.

    Args:
        tensors: Tensors of any shape on one device.
        limits: For some tensors, the range outside of which a value is saturated.

    >>> result = distributions([torch.tensor([0.0, 1.0, 2.0, 3.0])])[0]
    >>> result.mean, result.low, result.high, result.zero, sum(result.bins), result.count
    (1.5, 0.0, 3.0, 0.25, 4, 4)
    """
    if not tensors:
        return []
    device = tensors[0].device
    x = torch.stack([sample(t).float() for t in tensors])
    rows = len(x)
    sizes = [min(t.numel(), SAMPLES) for t in tensors]
    n = torch.tensor(sizes, device=device)[:, None]
    present = torch.arange(SAMPLES, device=device) < n
    finite = present & torch.isfinite(x)
    num_finite = finite.sum(1).clamp_min(1)
    values = torch.where(finite, x, 0.0)
    mean = values.sum(1) / num_finite
    std = (torch.where(finite, x - mean[:, None], 0.0).square().sum(1) / num_finite).sqrt()
    low = torch.where(finite, x, torch.inf).amin(1)
    high = torch.where(finite, x, -torch.inf).amax(1)
    low, high = (torch.where(torch.isfinite(limit), limit, 0.0) for limit in (low, high))
    ranges = [limit or (-torch.inf, torch.inf) for limit in [*limits, *[None] * (rows - len(limits))]]
    bounds = torch.tensor(ranges, device=device)
    outside = (finite & ((x < bounds[:, :1]) | (x > bounds[:, 1:]))).sum(1)
    index = ((values - low[:, None]) / (high - low).clamp_min(1e-30)[:, None] * BINS).long().clamp_(0, BINS - 1)
    index += torch.arange(rows, device=device)[:, None] * BINS
    counts = torch.zeros(rows * BINS, device=device).index_add_(0, index.flatten(), finite.flatten().float())
    zero = (finite & (x == 0)).sum(1)
    size = n[:, 0]
    parts = (mean, std, low, high, 1 - finite.sum(1) / size, zero / size, outside / size)
    table = torch.cat([torch.stack(parts, 1), counts.view(rows, BINS)], 1).tolist()
    return [
        Distribution(count, *row[:7], bins=tuple(int(c) for c in row[7:]))
        for count, row in zip(sizes, table, strict=True)
    ]
