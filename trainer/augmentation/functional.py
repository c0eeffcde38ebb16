"""Augmentation of a whole batch by a few tensor operations: pure functions that receive their random numbers.

``x`` is (N, C, H, W) with integers from 0 to 255, uint8 or float32, contiguous or channels-last, on any device. The
result has the same memory format. It is float32 if values are computed: converting them to uint8 is slow, and the
network takes float32. ``scripts/bench_augmentation.py`` measures the speeds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def on_device(x: Tensor, numbers: np.ndarray) -> Tensor:
    """Return a numpy array as a tensor on the device of x; floating-point numbers as float32."""
    dtype = np.float32 if numbers.dtype.kind == "f" else None
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=dtype)).to(x.device, non_blocking=True)


def channels_last(x: Tensor) -> bool:
    """Return whether the channels of a pixel are adjacent in memory (False for one channel, where both formats agree)."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def flip_batch(x: Tensor, chosen: Tensor, dim: int) -> Tensor:
    """Mirror the ``chosen`` images, bool (N,), along ``dim``: 3 for left and right, 2 for top and bottom.

    >>> flip_batch(torch.tensor([[[[1, 2, 3]]], [[[4, 5, 6]]]]), torch.tensor([True, False]), dim=3).flatten(1)
    tensor([[3, 2, 1],
            [4, 5, 6]])
    """
    chosen, flipped = chosen[:, None, None, None], x.flip(dim)
    if x.is_floating_point():
        return torch.where(chosen, flipped, x)
    bits = -chosen.to(torch.int8).view(torch.uint8) if x.dtype == torch.uint8 else -chosen.to(x.dtype)
    return flipped.bitwise_xor_(x).bitwise_and_(bits).bitwise_xor_(x)  # five times as fast as ``where``


def fold_index(index: Tensor, length: int, fill: str) -> Tensor:
    """Return the index of the pixel that replaces pixel ``index`` beyond the edge; ``constant`` is treated as ``edge``.

    >>> [fold_index(torch.arange(-2, 5), 3, fill).tolist() for fill in ("edge", "reflect", "symmetric", "wrap")]
    [[0, 0, 0, 1, 2, 2, 2], [2, 1, 0, 1, 2, 1, 0], [1, 0, 0, 1, 2, 2, 1], [1, 2, 0, 1, 2, 0, 1]]
    """
    if fill == "wrap":
        return index.remainder(length)
    if fill == "symmetric":
        index = index.remainder(2 * length)
        return torch.minimum(index, 2 * length - 1 - index)
    if fill == "reflect":
        period = max(2 * length - 2, 1)  # a single pixel is its own reflection
        index = index.remainder(period)
        return torch.minimum(index, period - index)
    return index.clamp(0, length - 1)


def pad_batch(x: Tensor, padding: int, fill: str) -> Tensor:
    """Pad each side of the images by ``padding`` pixels, which may be more than they have.

    >>> pad_batch(torch.tensor([[[[1, 2]]]]), 1, "wrap")[0, 0]
    tensor([[2, 1, 2, 1],
            [2, 1, 2, 1],
            [2, 1, 2, 1]])
    """
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    if fill != "constant":
        for dim in (3, 2):  # a few slices are copied faster than the whole batch is indexed
            length = x.shape[dim]
            outside = [*range(-padding, 0), *range(length, length + padding)]
            inside = fold_index(torch.tensor(outside), length, fill).tolist()
            for target, source in zip(outside, inside, strict=True):
                padded.select(dim, target + padding).copy_(padded.select(dim, source + padding))
    return padded


def crop_batch(x: Tensor, top: Tensor, left: Tensor, padding: int, fill: str) -> Tensor:
    """Pad by ``padding`` pixels and crop to the original size, image n at (top[n], left[n]), int64 (N,).

    >>> x = torch.arange(1, 10).reshape(1, 1, 3, 3)
    >>> crop_batch(x, torch.tensor([2]), torch.tensor([1]), padding=1, fill="constant")[0, 0]
    tensor([[4, 5, 6],
            [7, 8, 9],
            [0, 0, 0]])
    """
    (n, c, h, w), height, width = x.shape, x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
    x = pad_batch(x, padding, fill)
    image = torch.arange(n, device=x.device) * (c * height * width)
    if channels_last(x):
        flat, size, strides = x.permute(0, 2, 3, 1).flatten(), (h, w * c), (width * c, 1)
        crops = _windows(flat, size, strides).index_select(0, image + (top * width + left) * c)
        return crops.view(n, h, w, c).permute(0, 3, 1, 2)
    flat, size, strides = x.flatten(), (c, h, w), (height * width, width, 1)
    return _windows(flat, size, strides).index_select(0, image + top * width + left)


def _windows(flat: Tensor, size: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """Return a view of the windows of one size that start at each position of ``flat``.

    An index_select from it copies whole rows: seven times as fast as indexing images, rows and columns.
    """
    extent = sum((length - 1) * stride for length, stride in zip(size, strides, strict=True))
    return flat.as_strided((len(flat) - extent, *size), (1, *strides))


# grid_sample's padding modes: its reflection is numpy's symmetric and, with align_corners, numpy's reflect. It has no wrap,
# which warp_batch implements.
PADDING = {"constant": "zeros", "edge": "border", "symmetric": "reflection", "reflect": "reflection", "wrap": "border"}


def warp_batch(x: Tensor, sources: Tensor, fill: str) -> Tensor:
    """Resample image n such that its pixel (x, y) comes from sources[n] @ (x, y, 1); ``sources``: float32 (N, 2, 3).

    Bilinear, rounded; pixel centers have integer coordinates.

    >>> half_a_pixel = torch.tensor([[[1.0, 0.0, -0.5], [0.0, 1.0, 0.0]]])
    >>> row = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    >>> {fill: warp_batch(row, half_a_pixel, fill).flatten().tolist() for fill in ("constant", "edge", "wrap")}
    {'constant': [5.0, 15.0, 25.0], 'edge': [10.0, 15.0, 25.0], 'wrap': [20.0, 15.0, 25.0]}
    """
    h, w = x.shape[2:]
    values, align_corners = x.float(), fill == "reflect"
    grid = torch.empty(2, len(x), h, w, device=x.device)
    columns, rows = torch.arange(w, device=x.device), torch.arange(h, device=x.device)
    for axis, length in enumerate((w, h)):
        if fill == "wrap":
            values = torch.cat([values, values.narrow(3 - axis, 0, 1)], 3 - axis)
        # grid_sample's coordinates go from -1 to 1 between the edges, or between the centers of the outermost pixels
        half = 0.0 if align_corners else 0.5
        unit = 2 / max(values.shape[3 - axis] - 1 + 2 * half, 1)
        a, b, c = sources[:, axis, :, None].unbind(1)
        if fill == "wrap":
            source = (a * columns + c)[:, None, :] + (b * rows)[:, :, None]
            torch.sub(source, (source / length).floor_(), alpha=length, out=grid[axis]).add_(half).mul_(unit).sub_(1)
        else:
            a, b, c = a * unit, b * unit, (c + half) * unit - 1
            torch.add((a * columns + c)[:, None, :], (b * rows)[:, :, None], out=grid[axis])
    warped = grid_sample(values, grid.permute(1, 2, 3, 0), "bilinear", PADDING[fill], align_corners=align_corners)
    return warped.round_().contiguous(
        memory_format=torch.channels_last if channels_last(x) else torch.contiguous_format
    )


def noise_batch(x: Tensor, std: Tensor, seed: int) -> Tensor:
    """Add Gaussian noise of standard deviation std[n] to image n, float32 (N,); rounded and clipped.

    >>> noise_batch(torch.full((1, 1, 1, 2), 7, dtype=torch.uint8), torch.zeros(1), seed=0).flatten()
    tensor([7., 7.])
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    noise = torch.randn(x.shape, generator=generator, device=x.device).mul_(std[:, None, None, None])
    if channels_last(x):
        noise = noise.contiguous(memory_format=torch.channels_last)
    return noise.add_(x).round_().clamp_(0, 255)


def adjust_batch(x: Tensor, α: Tensor, β: Tensor) -> Tensor:
    """Return α x + β with α and β, float32 (N,), one per image; clipped and truncated, like in albumentations.

    >>> x = torch.tensor([10, 200], dtype=torch.uint8).reshape(1, 1, 1, 2)
    >>> adjust_batch(x, torch.tensor([1.25]), torch.tensor([20.0])).flatten()
    tensor([ 32., 255.])
    """
    return (x * α[:, None, None, None]).add_(β[:, None, None, None]).clamp_(0, 255).floor_()


def color_batch(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply the colors of image n by matrices[n], float32 (N, 3, 3); rounded and clipped. Grayscale images stay as they are.

    >>> swap = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    >>> color_batch(torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(1, 3, 1, 1), swap).flatten()
    tensor([3., 2., 1.])
    """
    if x.shape[1] != 3:
        return x
    values, result = x.float(), torch.empty_like(x, dtype=torch.float32)
    weights = matrices[:, :, :, None, None]
    for k in range(3):
        terms = [values[:, c] * weights[:, k, c] for c in range(3)]
        result[:, k] = terms[0].add_(terms[1]).add_(terms[2])
    return result.round_().clamp_(0, 255)


def erase_batch(x: Tensor, box: Tensor, value: Tensor | int) -> Tensor:
    """Replace the pixels of image n inside box[n] = (top, bottom, left, right), int64 (N, 4), by ``value``, of the form of x.

    >>> x = torch.ones(1, 1, 2, 3, dtype=torch.uint8)
    >>> erase_batch(x, torch.tensor([[0, 1, 1, 3]]), 0)[0, 0]
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.uint8)
    """
    rows, columns = torch.arange(x.shape[2], device=x.device), torch.arange(x.shape[3], device=x.device)
    top, bottom, left, right = box[:, :, None].unbind(1)
    inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(inside, value, x) if isinstance(value, Tensor) else x.masked_fill(inside, value)


def random_pixels(x: Tensor, seed: int) -> Tensor:
    """Return uniform random values from 0 to 255 in the shape, the type and the memory format of x."""
    generator = torch.Generator(x.device).manual_seed(seed)
    values = torch.randint(0, 256, x.shape, generator=generator, device=x.device, dtype=torch.uint8).to(x.dtype)
    return values.contiguous(memory_format=torch.channels_last) if channels_last(x) else values
