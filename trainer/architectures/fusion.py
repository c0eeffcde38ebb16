"""Folding of batch normalisation into the layer before it: the same function at evaluation, with fewer operations."""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trainer.architectures.layers import GlobalAveragePool, replace

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Tracer(fx.Tracer):
    """Records calls of layers; what asks its input for its memory layout is a layer too, because a recording has none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, GlobalAveragePool) or super().is_leaf_module(m, module_qualified_name)


def fuse(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch norms are folded into the convolution or linear layer that alone feeds them.

    w' = w·γ/√(σ² + ε), b' = (b − μ)·γ/√(σ² + ε) + β. A network that cannot be traced comes back as it is.

    >>> from torch import nn
    >>> fused = fuse(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()))
    >>> [type(m).__name__ for m in fused]
    ['Linear', 'Identity', 'ReLU']
    """
    model = copy.deepcopy(model).eval()
    try:
        graph = Tracer().trace(model)
    except Exception:  # control flow that depends on the data, or anything else that torch.fx does not follow
        return model
    modules = dict(model.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(modules[node.target], NORMS):
            continue
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        once = calls.count(node.target) == 1 and calls.count(before.target) == 1
        layer = modules[str(before.target)]
        if not once or not isinstance(layer, nn.Conv2d | nn.Linear) or not modules[node.target].track_running_stats:
            continue
        kind = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        replace(model, str(before.target), kind(layer, modules[node.target]))  # pyright: ignore[reportArgumentType]
        replace(model, str(node.target), nn.Identity())
    return model
