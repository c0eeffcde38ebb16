"""Loss scaling: gradients of fp16, whose smallest number is 6e-8, are computed of a multiple of the loss."""

from __future__ import annotations

import torch
from torch import Tensor


class LossScale:
    """The factor of the loss, by ``torch.amp.GradScaler``: halved where a gradient overflows, and the step is left out.

    It begins with 65536 and is doubled after 2000 steps without an overflow (Micikevicius et al. 2018, arXiv:1710.03740).
    Gradients are divided by it before anything reads them.
    """

    def __init__(self, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type)
        self.divided = False

    def begin(self) -> None:
        """Begin with the gradients of a step; those of before may not have been used."""
        if self.divided:
            self.scaler.update(self.scaler.get_scale())
            self.divided = False

    def multiplied(self, loss: Tensor) -> Tensor:
        """The loss whose gradients are computed."""
        return self.scaler.scale(loss)

    def divide(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor, and remember whether they are finite."""
        if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            self.scaler.unscale_(optimizer)
            self.divided = True

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights unless a gradient was NaN or Inf, and then the factor."""
        if self.divided:
            self.scaler.step(optimizer)
            self.scaler.update()
            self.divided = False

    def state_dict(self) -> dict[str, float]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scaler.load_state_dict(state)
        self.divided = False
