"""Passes through the network that leave no trace in it, in the random numbers, or in what was compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from trainer.engine.run import Run


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each module is put back into its own afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def no_side_effects(run: Run) -> Iterator[None]:
    """Evaluation mode, no gradients, the run's number format, random numbers put back, and nothing compiled anew for it."""
    import torch

    device = run.precision.device
    compiled = getattr(run.model, "_compiled_call_impl", None) is not None
    with (
        eval_mode(run.model),
        torch.no_grad(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext(),
        run.precision.autocast(),
    ):
        yield
