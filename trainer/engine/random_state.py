"""The states of torch's random number generators, that of the CPU and that of the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def device_state(device: torch.device) -> Tensor | None:
    """Return the state of the generator of a device; None for the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_device_state(device: torch.device, state: Tensor | None) -> None:
    """Set the generator of a device to a state of a generator of its kind; None leaves it as it is."""
    if state is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state.cpu(), device)
    elif state is not None and device.type == "mps":
        torch.mps.set_rng_state(state.cpu())


@contextlib.contextmanager
def restored_generators(device: torch.device) -> Iterator[None]:
    """Set the generators back afterwards."""
    cpu, own = torch.get_rng_state(), device_state(device)
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        set_device_state(device, own)
