"""A run as it would be without its regularizers, its augmentation, or its frozen layers, for the time of a short training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from trainer.activations import Activation
from trainer.analysis.diagnosis.record import starts_trained
from trainer.architectures.layers import find_head, weight_layers
from trainer.engine.run import Run
from trainer.engine.state import StateDict
from trainer.initialization import Initialization
from trainer.optimizers.param_groups import parameter_groups
from trainer.regularizers.hooks import DropAfter, DropBefore

UNUSUAL = 2.2  # ratio of the root mean squares of two weights
SMALLEST = 1e-6  # root mean square of a weight, or ratio of two
OPPOSITE = 1.5  # ratio of two weights, from which they are unusual beside more unusual ones
LARGE_BIAS = 0.5  # root mean square
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


def auto_weights(run: Run, initial: StateDict) -> tuple[StateDict, float | None] | None:
    """Weights drawn by ``initialization=auto``, and how many times as large the most unusual initial weight or bias is, None if
    others are unusual in the other direction; None where the initial ones are like these.

    Alike are weights up to ``UNUSUAL`` times as large or small, and biases that are not large.
    """
    named = run.info.config.get("activation")
    values = cast(dict[str, Any], dict(named) if isinstance(named, dict) else {})
    if str(values.pop("_target_", "")).rpartition(".")[2] != Activation.__name__:
        values = {}  # of a class of the user
    run.model.load_state_dict(initial)
    with torch.random.fork_rng(), torch.no_grad():
        for module in run.model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        Initialization().apply(run.model, Activation(**values))
    weights = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
    head = f"{find_head(run.model)[0]}."  # its bias is that of guessing
    unusual, ratios = list[float](), list[float]()
    for name in (name for name, _ in run.model.named_parameters() if not name.startswith(head)):
        before, after = (float(w[name].float().square().mean().sqrt()) for w in (initial, weights))
        matrix = weights[name].ndim > 1
        ratio = max(before, SMALLEST) / max(after, SMALLEST)
        ratios += [ratio] if matrix else []
        if (matrix and not after / UNUSUAL <= before <= after * UNUSUAL) or (
            not matrix and before > max(LARGE_BIAS, 2 * after)
        ):
            unusual.append(ratio)
    if not unusual:
        return None
    most = max(unusual, key=lambda ratio: abs(math.log(ratio)))
    opposite = max([1.0, *ratios]) if most < 1 else 1 / min([1.0, *ratios])
    return weights, most if opposite < OPPOSITE else None


def frozen_at_random(run: Run) -> bool:
    """Whether layers keep random weights: some are frozen, and the config loads no trained ones."""
    return not starts_trained(run.info.config) and any(
        not parameter.requires_grad for parameter in run.model.parameters()
    )


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
