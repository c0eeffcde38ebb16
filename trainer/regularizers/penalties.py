"""Regularizers that add a penalty to the loss. Only weights are penalized: neither biases nor the parameters of norms."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from trainer.errors import ConfigError, Problem
from trainer.regularizers import options
from trainer.regularizers.functional import weight_penalty
from trainer.weight_files import read_weight_file

REFERENCE = "reference_"  # prefix of the buffers with reference weights; the number of the parameter follows


def l1(option: options.L1, model: nn.Module, outputs: Tensor) -> Tensor:
    return option.strength * weight_penalty([p for p in model.parameters() if p.ndim > 1], 1)


def l2(option: options.L2, model: nn.Module, outputs: Tensor) -> Tensor:
    return option.strength * weight_penalty([p for p in model.parameters() if p.ndim > 1], 2)


def soft_sharing(option: options.SoftSharing, model: nn.Module, outputs: Tensor) -> Tensor | None:
    buffers = dict(model.named_buffers(recurse=False))
    pairs = [(p, buffers.get(f"{REFERENCE}{i}")) for i, p in enumerate(model.parameters())]
    distances = [(p - reference).square().sum() for p, reference in pairs if reference is not None]
    return option.strength * sum(distances[1:], distances[0]) if distances else None


def add_reference(option: options.SoftSharing, model: nn.Module) -> nn.Module:
    """Store the reference weights in buffers of the model that are not saved in checkpoints.

    Raises:
        ConfigError: The checkpoint cannot be read, or none of its weights has the name and shape of one of the model's.
    """
    weights: dict[str, Tensor] = dict(model.state_dict())
    if option.reference is not None:
        weights = _read_weights(option.reference)
        if not any(n in weights and weights[n].shape == p.shape for n, p in model.named_parameters()):
            text = "holds no weights of this architecture"
            raise ConfigError(Problem("regularizer.soft_sharing.reference", option.reference, text))
    for i, (name, parameter) in enumerate(model.named_parameters()):
        reference = weights.get(name)
        if parameter.ndim > 1 and reference is not None and reference.shape == parameter.shape:
            model.register_buffer(f"{REFERENCE}{i}", reference.detach().clone(), persistent=False)
    return model


def _read_weights(path: str) -> dict[str, Tensor]:
    """Return the weights in a state dict or in a checkpoint of a run (``last.pt`` or ``best.pt``)."""
    content = read_weight_file(Path(path).expanduser(), "regularizer.soft_sharing.reference")
    for key in ("state", "model"):
        content = content.get(key, content) if isinstance(content, dict) else {}
    weights = content if isinstance(content, dict) else {}
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}
