"""Whitening of the patches of images by the first layer (Page 2019; Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAX_PATCHES = 100_000


@torch.no_grad()
def whiten(layer: nn.Conv2d | nn.Linear, batch: Tensor, eps: float = 5e-4) -> None:
    """Set the first filters of a layer to the principal directions of the patches (C, k, k) of ``batch`` (N, C, H, W).

    Each direction is divided by √(its variance + ``eps``), and the directions with the largest variances come first. The
    negatives of these filters follow; filters beyond twice the size of a patch are left unchanged.
    """
    x = batch.detach().float().contiguous()
    if x.device.type == "mps":  # it has neither float64 nor eigenvalues
        x = x.cpu()
    if isinstance(layer, nn.Conv2d):
        kernel = tuple(map(int, layer.kernel_size))
        x = x[:, : layer.weight.shape[1]]  # the inputs of the first group of a grouped convolution
        patches = nn.functional.unfold(x, kernel).transpose(1, 2).flatten(0, 1)  # (N·positions, C·k·k)
    else:
        patches = x.flatten(1)
    patches = patches[:: max(1, len(patches) // MAX_PATCHES)].double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    count = min(patches.shape[1], len(layer.weight) // 2)
    scale = (variances.clamp_min(0) + eps).rsqrt()
    filters = (directions * scale).T.flip(0)[:count].view(count, *layer.weight.shape[1:])
    layer.weight[: 2 * count] = torch.cat((filters, -filters)).to(layer.weight)
