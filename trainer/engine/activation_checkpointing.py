"""``engine.checkpoint_activations``: the activations within blocks are computed again in the backward pass, instead of kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeGuard

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.architectures.layers import networks_of
from trainer.engine.random_state import restored_generators
from trainer.errors import ConfigError, Problem

KEY = "engine.checkpoint_activations"
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
HINT = (
    "architecture=resnet20, wide_resnet, densenet, or a network of torchvision or timm with blocks; or micro_batch=..."
)


def checkpoint_blocks(model: nn.Module, shape: Sequence[int]) -> int:
    """Let each block of the networks keep its input alone for the backward pass; return the number of blocks.

    The random numbers of the second computation are those of the first one, and running statistics are updated once: weights
    are those of training without it, bit for bit.

    Args:
        model: Is changed in place; the names of its parameters stay.
        shape: Of an image, (C, H, W).

    Raises:
        ConfigError: There are no blocks, or a layer of one changes with each forward pass.
    """
    if next(model.parameters()).device.type == "mps":
        text = "needs a CPU or a CUDA GPU: the random numbers of MPS cannot be repeated"
        raise ConfigError(Problem(KEY, True, text, "micro_batch=... saves memory, too"))
    found = {
        f"{prefix}{name}": b for prefix, network in networks_of(model).items() for name, b in blocks(network).items()
    }
    if not found:
        raise ConfigError(Problem(KEY, True, "needs a network of blocks, such as residual ones", HINT))
    if changing := changing_buffer(model, found, shape):
        raise ConfigError(
            Problem(KEY, True, f"{changing} changes with each forward pass, of which there would be two", HINT)
        )
    for block in found.values():
        # On the instance, and not a module around the block, whose parameters would have other names.
        block.forward = partial(recomputed, block.forward, block)
    return len(found)


def blocks(module: nn.Module, name: str = "") -> dict[str, nn.Module]:
    """Return the blocks of a network by name: modules of several layers that stand in a container of modules.

    Of blocks within a block, those inside are taken if they hold most of its parameters.

    >>> list(blocks(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Sequential(nn.TransformerEncoderLayer(4, 1), nn.ReLU()))))
    ['1.0']
    """
    found: dict[str, nn.Module] = {}
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}".strip(".")
        inner = blocks(child, path)
        is_block = (
            isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS) and any(True for _ in child.children())
        )
        if is_block and size(child) and 2 * sum(map(size, inner.values())) < size(child):
            found[path] = child
        else:
            found |= inner
    return found


def size(module: nn.Module) -> int:
    """The number of values in the parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def recomputed(forward: Callable[..., object], block: nn.Module, *inputs: object, **more: object) -> object:
    """Call the forward method of a block; in training what it computes is not kept, but computed again when it is needed."""
    if not (torch.is_grad_enabled() and block.training):
        return forward(*inputs, **more)
    contexts = partial(two_contexts, block)
    return checkpoint(  # pyright: ignore[reportCallIssue]  # it is declared for no function
        forward,  # pyright: ignore[reportArgumentType]
        *inputs,
        use_reentrant=False,
        context_fn=contexts,
        **more,
    )


def two_contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """The contexts of the first and of the second computation."""
    return contextlib.nullcontext(), without_statistics(block)


@contextlib.contextmanager
def without_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of norms as they are.

    The norms get copies, because autograd keeps the statistics, too, and expects as many tensors as the first time.
    """
    kept = [(m, dict(m.named_buffers(recurse=False))) for m in block.modules() if is_norm(m) and m.training]
    for norm, buffers in kept:
        norm._buffers.update({name: buffer.clone() for name, buffer in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in kept:
            norm._buffers.update(buffers)


def is_norm(module: nn.Module) -> TypeGuard[nn.modules.batchnorm._NormBase]:
    """Whether a module has running statistics of its inputs."""
    return isinstance(module, nn.modules.batchnorm._NormBase)


def changing_buffer(model: nn.Module, found: dict[str, nn.Module], shape: Sequence[int]) -> str | None:
    """Return the name of a buffer that a forward pass in training mode changes, besides running statistics; None without one."""
    layers = {
        f"{name}.{n}".rstrip("."): m
        for name, block in found.items()
        for n, m in block.named_modules()
        if not is_norm(m)
    }
    buffers = {f"{name}.{n}": b for name, m in layers.items() for n, b in m.named_buffers(recurse=False)}
    if not buffers:
        return None
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [(m, m.training) for m in model.modules()]
    kept = {name: b.clone() for name, b in buffers.items()}
    device = next(model.parameters()).device
    with restored_generators(device), torch.no_grad():
        model.train()(torch.zeros(2, *shape, device=device))
    changed = next((name for name, b in buffers.items() if not torch.equal(b, kept[name])), None)
    model.load_state_dict(before)
    for module, training in modes:
        module.training = training
    return changed
