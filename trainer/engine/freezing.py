"""Which parameters of a network are not trained: ``recipe.freeze`` and the phases of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from trainer.architectures.layers import trainable_names
from trainer.data.inventory import shortened
from trainer.engine.phases import Phase
from trainer.errors import ConfigError, Problem, nearest

NAMED = 40  # layers that a message names


def freeze(model: nn.Module, patterns: Sequence[str], phases: Sequence[Phase]) -> frozenset[str]:
    """Freeze what matches patterns; return the names of the batch norms among it.

    Args:
        model: The network.
        patterns: With ``*``, ``?`` and ``[...]``; each stands for the parameters whose name, or a part of it that ends before a
            dot, matches.
        phases: Of the run.

    Raises:
        ConfigError: A pattern matches nothing, they leave nothing to train, or only what no phase trains.
    """
    names = [name for name, _ in model.named_parameters()]
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    problems = [
        Problem(
            "recipe.freeze",
            pattern,
            f"matches no layer; there are {shortened(layers, NAMED)}",
            nearest(pattern, layers),
        )
        for pattern in patterns
        if not any(matches(name, pattern) for name in names)
    ]
    if problems:
        raise ConfigError(*problems)
    frozen = {name for name in names if any(matches(name, pattern) for pattern in patterns)}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for phase in phases if patterns else ():
        if not trainable_names(model, phase.trainable) & trainable - frozen:
            text = f"leaves nothing to train in the phase {phase.name}"
            raise ConfigError(Problem("recipe.freeze", list(patterns), text, f"trained are {shortened(layers, NAMED)}"))
    if patterns and not any(trainable_names(model, phase.trainable) & trainable & frozen for phase in phases):
        raise ConfigError(
            Problem("recipe.freeze", list(patterns), "has no effect: the recipe does not train these layers")
        )
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    norms = dict(batch_norms(model))
    return frozenset(name for name in norms if any(matches(name, pattern) for pattern in patterns))


def matches(name: str, pattern: str) -> bool:
    """Return whether the name of a parameter or layer, or a part of it that ends before a dot, matches a pattern.

    >>> [matches("layer1.0.conv1.weight", p) for p in ("layer[12]", "layer[12].*", "*.conv1", "conv1", "layer")]
    [True, True, True, False, False]
    """
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the batch norms of a network with their names."""
    return ((n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def frozen_norms(model: nn.Module, phase: Phase, names: Collection[str], frozen: Collection[str]) -> list[nn.Module]:
    """Return the batch norms that keep their running statistics, because they are frozen.

    Those that an architecture does not train by itself are not among them: their statistics are.

    Args:
        model: The network.
        phase: The phase of the run.
        names: Of the parameters that are trained in it.
        frozen: Names of batch norms that are never trained, see ``freeze``.
    """
    partial = phase.trainable != "all"
    return [m for n, m in batch_norms(model) if n in frozen or (partial and f"{n}.weight" not in names)]
