"""Layer-sequential unit variance (Mishkin & Matas 2015, arXiv:1511.06422)."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn

MIN_STD = 1e-8  # an output that varies less does not vary


class _LayerReached(Exception):
    """Ends the forward pass after the layer in question."""


def scale_to_unit_variance(model: nn.Module, batch: Tensor, tolerance: float = 0.02, max_iterations: int = 10) -> None:
    """Divide the weight of each layer, from first to last, by the standard deviation of its output until that is 1.

    A layer that is not used, or whose output is constant, is left unchanged. Norms and dropout are in evaluation mode. The
    model is moved to the device of the images.

    Args:
        batch: The images (N, C, H, W) that the outputs are computed on.
        tolerance: The deviation of the standard deviation from 1 that is accepted.
    """
    training = model.training
    model.to(batch.device).eval()
    with torch.no_grad():
        for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
            for _ in range(max_iterations):
                std = _output_std(model, layer, batch)
                if std is None or not math.isfinite(std) or std < MIN_STD or abs(std - 1) < tolerance:
                    break
                layer.weight.div_(std)
    model.train(training)


def _output_std(model: nn.Module, layer: nn.Module, batch: Tensor) -> float | None:
    """The standard deviation of the output of a layer, or None if the layer is not used."""
    std: float | None = None

    def measure(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal std
        std = float(output.float().std())
        raise _LayerReached

    hook = layer.register_forward_hook(measure)
    try:
        with contextlib.suppress(_LayerReached):
            model(batch)
    finally:
        hook.remove()
    return std
