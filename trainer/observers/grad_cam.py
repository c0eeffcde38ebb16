"""Grad-CAM: where in an image the evidence for a class is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.architectures.layers import Parallel
from trainer.engine.evaluation import eval_mode
from trainer.tasks.part import Part


def grad_cam(model: nn.Module, part: Part, x: Tensor, *classes: Tensor) -> list[Tensor] | None:
    """Heatmaps (N, H, W) in [0, 1] of the evidence for a class of each image (Selvaraju et al. 2017, arXiv:1610.02391).

    With A the last feature maps with more than one pixel and z the logit of the class: relu(Σ_c mean(∂z/∂A_c) · A_c), divided by
    its maximum, and enlarged to the size of the image. A map of zeros means that no evidence speaks for the class. The model is
    left as it was; hooks alone read it, so that any architecture will do.

    Args:
        model: The network.
        part: The task with the classes.
        x: Images (N, C, H, W), normalized as in training.
        classes: The class of each image (N,), once for each heatmap; all of them take one forward pass.

    Returns:
        The heatmaps for each of ``classes``. None if no layer has outputs of the form (N, C, H, W) with more than one pixel, as
        of an MLP or a vision transformer.
    """
    network = model.network(part.name) if isinstance(model, Parallel) else model
    with eval_mode(network), torch.compiler.set_stance("force_eager"):
        layer = last_spatial_layer(network, x[:1])
        if layer is None:
            return None
        with torch.enable_grad(), replaced_output(layer) as maps:
            logits = part.own(network(x).float())
            scores = [logits.gather(1, own[:, None]).sum() for own in classes]
            gradients = [torch.autograd.grad(score, maps, retain_graph=True)[0] for score in scores]
    features = maps[0].detach().float()
    return [heatmap(features, gradient.float(), x.shape[2:]) for gradient in gradients]


def heatmap(features: Tensor, gradient: Tensor, size: Sequence[int]) -> Tensor:
    """The heatmap (N, H, W) of feature maps and the gradient with respect to them (N, C, h, w); see ``grad_cam``."""
    heat = F.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True))
    heat = heat / heat.amax((2, 3), keepdim=True).clamp_min(1e-12)
    return F.interpolate(heat, size, mode="bilinear", align_corners=False)[:, 0]


def last_spatial_layer(model: nn.Module, x: Tensor) -> nn.Module | None:
    """Return the module inside a model that is the last to return feature maps (N, C, H, W) with more than one pixel."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _: Sequence[Tensor], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.append(module)

    with hooked((module for module in model.modules() if module is not model), note), torch.no_grad():
        model(x)
    return found[-1] if found else None


@contextlib.contextmanager
def replaced_output(module: nn.Module) -> Iterator[list[Tensor]]:
    """Make the output of a module a leaf of the graph, also in a frozen network; the list will hold it, of the last call."""
    outputs: list[Tensor] = []

    def replace(module: nn.Module, _: Sequence[Tensor], output: Tensor) -> Tensor:
        outputs[:] = [output.detach().requires_grad_()]
        return outputs[0].clone()  # which the layers after it may change in place

    with hooked([module], replace):
        yield outputs


@contextlib.contextmanager
def hooked(modules: Iterator[nn.Module] | Sequence[nn.Module], hook: Callable[..., object]) -> Iterator[None]:
    """Call a forward hook of modules within a context."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
