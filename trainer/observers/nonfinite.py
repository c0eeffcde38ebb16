"""The origin of NaN and Inf: the first layer in a forward pass whose output is not finite."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from trainer.engine.evaluation import no_side_effects
from trainer.engine.view import RunView


def first_nonfinite(view: RunView) -> str | None:
    """The first layer, in the order of the forward pass of the last batch, whose weights or output are not all finite.

    None if all are finite. Neither the model nor the random number generators change.
    """
    if view.batch is None:
        return None
    layers: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, module in view.model.named_modules():
            if next(module.children(), None) is not None:
                continue

            def check_output(module: nn.Module, inputs: object, output: object, name: str = name) -> None:
                finite_weights = all(bool(p.isfinite().all()) for p in module.parameters())
                finite_output = isinstance(output, torch.Tensor) and bool(output.isfinite().all())
                if not layers and not (finite_weights and finite_output):
                    where = "" if finite_weights else ", in its weights"
                    layers.append(f"{name} ({type(module).__name__}{where})")

            stack.callback(module.register_forward_hook(check_output).remove)
        stack.enter_context(no_side_effects(view.model, view.precision))
        view.model(view.batch[0][:32])
    return layers[0] if layers else None
