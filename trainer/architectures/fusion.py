"""Folding of batch normalization into the preceding layer: the same function in evaluation mode, with fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trainer.architectures.layers import GlobalAveragePool, replace_module
from trainer.errors import ConfigError, Problem, first_line

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Errors in a forward pass that torch.fx cannot record, because it depends on the values of its input (TraceError), or needs a
# number (TypeError, RuntimeError) or a true tensor (AssertionError) where the recording has a placeholder.
UNTRACEABLE = (TraceError, TypeError, RuntimeError, AssertionError)


class Tracer(fx.Tracer):
    """Records the calls of layers, and the name of the innermost layer that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.untraceable = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # GlobalAveragePool depends on the memory format of its input, which a recording does not have.
        return isinstance(m, GlobalAveragePool) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        try:
            return super().call_module(m, forward, args, kwargs)
        except UNTRACEABLE:
            self.untraceable = self.untraceable or f"{self.path_of_module(m)} ({type(m).__name__})"
            raise


def fuse(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode in which batch norms are folded into the convolution or linear layer before them.

    w' = w·γ/√(σ² + ε), b' = (b − μ)·γ/√(σ² + ε) + β. A batch norm stays where its input does not come from such a layer alone,
    or where the output of that layer has other uses.

    Raises:
        ConfigError: The network has batch norms but cannot be traced.

    >>> from torch import nn
    >>> fused = fuse(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()))
    >>> [type(m).__name__ for m in fused]
    ['Linear', 'Identity', 'ReLU']
    """
    model = copy.deepcopy(model).eval()
    modules = dict(model.named_modules())
    if not any(isinstance(m, NORMS) for m in modules.values()):
        return model
    graph = _trace(model)
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(modules[node.target], NORMS):
            continue
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        called_once = calls.count(node.target) == 1 and calls.count(before.target) == 1
        layer, norm = modules[str(before.target)], modules[node.target]
        if not called_once or not isinstance(layer, nn.Conv2d | nn.Linear) or not norm.track_running_stats:
            continue
        fuse_pair = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        replace_module(model, str(before.target), fuse_pair(layer, norm))  # pyright: ignore[reportArgumentType]
        replace_module(model, str(node.target), nn.Identity())
    return model


def _trace(model: nn.Module) -> fx.Graph:
    tracer = Tracer()
    try:
        return tracer.trace(model)
    except UNTRACEABLE as error:
        layer = f"layer {tracer.untraceable}" if tracer.untraceable else "the forward method"
        reason = first_line(error)
        text = f"is not possible: torch.fx cannot trace {layer} of {type(model).__name__}: {reason}"
        raise ConfigError(Problem("job.fuse", True, text, "job.fuse=false")) from error
