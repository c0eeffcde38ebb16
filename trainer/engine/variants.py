"""A run as it would be without its regularizers, its augmentation, or its frozen layers, for the time of a short training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from trainer.architectures.layers import weight_layers
from trainer.engine.run import Run
from trainer.optimizers.param_groups import parameter_groups
from trainer.regularizers.hooks import DropAfter, DropBefore
from trainer.tree import value_at

STRONG_DECAY = 0.01  # of the weights, from which they are regularized


def regularized(run: Run) -> bool:
    """Whether there is a regularizer that changes training, dropout in the network, or strong weight decay."""
    enabled = run.info.config.get("regularizer")
    names = {str(name) for name in enabled} if isinstance(enabled, dict) else set[str]()
    strong = any(group.get("weight_decay", 0.0) >= STRONG_DECAY for group in run.optimizer.param_groups)
    return strong or bool(names - {"early_stopping"}) or bool(dropout_layers(run.model))


@contextlib.contextmanager
def unregularized(run: Run) -> Iterator[None]:
    """Without regularizers, weight decay, and dropout inside the network."""
    groups, chain = run.optimizer.param_groups, run.regularizer
    decays = [group.get("weight_decay") for group in groups]
    dropouts = [(dropout, dropout.p) for dropout in dropout_layers(run.model)]
    try:
        run.regularizer = type(chain)({})
        for group in groups:
            group["weight_decay"] = 0.0
        for module, _ in dropouts:
            module.p = 0.0
        yield
    finally:
        run.regularizer = chain
        for group, decay in zip(groups, decays, strict=True):
            group["weight_decay"] = decay
        for module, p in dropouts:
            module.p = p


@contextlib.contextmanager
def unaugmented(run: Run, batch_size: int) -> Iterator[None]:
    """Without augmentation of the training images, in batches of another size."""
    train, run.train = run.train, run.train.without_augmentation(batch_size)
    try:
        yield
    finally:
        run.train = train


def dropout_layers(model: nn.Module) -> list[nn.modules.dropout._DropoutNd | DropAfter | DropBefore]:
    """The dropout layers of a network, and those that a regularizer has inserted as hooks."""
    modules = list(model.modules())
    hooks = [hook for m in modules for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    layers = [m for m in modules if isinstance(m, nn.modules.dropout._DropoutNd)]
    return [*layers, *(hook for hook in hooks if isinstance(hook, DropAfter | DropBefore))]


def frozen_at_random(run: Run) -> bool:
    """Whether layers keep random weights: some are frozen, and the config loads no trained ones."""
    loaded = [("architecture", "weights"), ("initialization", "path")]
    if any(value_at(run.info.config, *path) for path in loaded):
        return False
    return any(not parameter.requires_grad for parameter in run.model.parameters())


@contextlib.contextmanager
def unfrozen(run: Run) -> Iterator[None]:
    """With all layers trained."""
    frozen = [parameter for parameter in run.model.parameters() if not parameter.requires_grad]
    optimizer, norms = run.optimizer, run.frozen_norms
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        run.frozen_norms = []
        run.optimizer = run.optimizer_option.build(parameter_groups(weight_layers(run.model), run.optimizer_option))
        yield
    finally:
        run.optimizer, run.frozen_norms = optimizer, norms
        for parameter in frozen:
            parameter.requires_grad_(False)
            parameter.grad = None
