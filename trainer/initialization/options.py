"""Initialization of the weights: the option; the last layer's bias starts at the classes' log prior."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.errors import check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainer.activations import Activation


HEAD_STD = (
    0.01  # of a new head on pretrained layers, whose outputs may be of any size: the first loss is that of guessing
)


@dataclass(frozen=True)
class Initialization:
    """Weights by ``rule``; biases 0, norms 1 and 0, the last layer's bias log prior, so that the first loss is the
    entropy of the classes. ``auto`` is Kaiming with the slope's gain for ReLU-like activations (He 2015) and Xavier for
    the others (Glorot 2010); ``normal`` has the deviation ``std``; ``torch`` leaves torch's own; ``lsuv`` scales orthogonal
    matrices, layer by layer, until each layer's output on a batch has the variance 1 (Mishkin & Matas 2015); ``whitening`` is
    auto, but the first layer begins with the principal directions of a batch's patches, with both signs, each scaled so that
    its output has the variance 1 (Page 2019; Jordan 2024, arXiv:2404.00498). With ``identity`` each convolution but the first
    that has at least as many outputs as inputs begins by passing its inputs on in its first outputs (Zagoruyko & Komodakis
    2017, arXiv:1706.00388); the other outputs have the rule's weights.
    """

    rule: Literal[
        "auto", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "orthogonal", "normal", "zeros",
        "torch", "lsuv", "whitening",
    ] = "auto"  # fmt: skip
    std: float = 0.01
    identity: bool = False

    @property
    def needs_batch(self) -> bool:
        """Whether ``apply`` wants a batch of pictures."""
        return self.rule in ("lsuv", "whitening")

    def __post_init__(self) -> None:
        check(self, std=(self.std > 0, "must be > 0 (only rule=normal uses it)"))

    def apply(
        self,
        model: nn.Module,
        activation: Activation,
        prior: Sequence[float] | None = None,
        batch: Tensor | None = None,
        head_only: bool = False,
    ) -> None:
        from torch import nn

        from trainer.architectures.layers import find_head

        head = find_head(model)[1]
        if self.rule != "torch":
            for module in [head] if head_only else model.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    # The last layer is followed by no non-linearity.
                    if head_only and self.rule in ("auto", "whitening"):
                        nn.init.normal_(module.weight, 0.0, HEAD_STD)
                    else:
                        self._weights(module.weight, activation, last=module is head)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        if self.identity and not head_only:
            pass_on([m for m in model.modules() if isinstance(m, nn.Conv2d)][1:])
        if self.rule == "lsuv" and batch is not None and not head_only:
            unit_variance(model, batch)
        if self.rule == "whitening" and batch is not None and not head_only:
            first = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
            if first is not head:
                whiten(first, batch)
        if prior is not None and getattr(head, "bias", None) is not None:
            import torch

            with torch.no_grad():
                head.bias.copy_(torch.tensor([math.log(max(p, 1e-6)) for p in prior]))  # pyright: ignore

    def _weights(self, weight: Tensor, activation: Activation, last: bool) -> None:
        from torch import nn

        gain = 1.0 if last else activation.gain
        rule = self.rule
        if rule in ("auto", "whitening"):
            rule = "kaiming_normal" if activation.relu_like else "xavier_uniform"
        if rule.startswith("kaiming"):
            fan = weight[0].numel()
            std = gain / math.sqrt(fan)
            if rule == "kaiming_normal":
                nn.init.normal_(weight, 0.0, std)
            else:
                nn.init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std)
        elif rule == "normal":
            nn.init.normal_(weight, 0.0, self.std)
        elif rule == "zeros":
            nn.init.zeros_(weight)
        else:
            kinds = {
                "xavier_normal": nn.init.xavier_normal_,
                "xavier_uniform": nn.init.xavier_uniform_,
                "orthogonal": nn.init.orthogonal_,
                "lsuv": nn.init.orthogonal_,
            }
            kinds[rule](weight, gain)


@dataclass(frozen=True)
class Pretrained:
    """The weights of another run of the same architecture, from its folder or checkpoint file ``path``; the ``head`` new, for
    other classes, or the same. ``data.normalize=pretrained`` then normalises as that run did.
    """

    path: str
    prefer: Literal["best", "last"] = "best"
    head: Literal["new", "same"] = "new"
    needs_batch: ClassVar[bool] = False


def pass_on(layers: Sequence[nn.Conv2d]) -> None:
    """Let the first outputs of each convolution that has at least as many of them as inputs be these inputs.

    >>> import torch
    >>> layer = torch.nn.Conv2d(2, 3, 3, padding=1)
    >>> pass_on([layer])
    >>> x = torch.rand(1, 2, 4, 4)
    >>> bool(torch.allclose(torch.nn.functional.conv2d(x, layer.weight, padding=1)[:, :2], x))
    True
    """
    from torch import nn

    for layer in layers:
        inputs = layer.weight.shape[1]  # of each group
        if layer.groups == 1 and len(layer.weight) >= inputs:
            nn.init.dirac_(layer.weight.data[:inputs])


def whiten(layer: nn.Conv2d | nn.Linear, batch: Tensor, eps: float = 5e-4) -> None:
    """Set a layer's first filters to the principal directions of the patches (C, k, k) of ``batch`` (N, C, H, W), each over the
    root of its variance + ``eps``, and the next to their negatives; filters beyond twice the patch's size stay as they are.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        x = batch.detach().float().contiguous()
        if isinstance(layer, nn.Conv2d):
            kernel = tuple(map(int, layer.kernel_size))
            x = x[:, : layer.weight.shape[1]]  # of a grouped convolution, what one filter sees
            patches = nn.functional.unfold(x, kernel).transpose(1, 2).flatten(0, 1)
        else:
            patches = x.flatten(1)
        patches = patches[:: max(1, len(patches) // 100_000)].double()
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        count = min(patches.shape[1], len(layer.weight) // 2)
        scale = (variances.clamp_min(0) + eps).rsqrt()
        rows = (directions * scale).T.flip(0)[:count].view(count, *layer.weight.shape[1:])
        layer.weight[: 2 * count] = torch.cat((rows, -rows)).to(layer.weight)


class _Enough(Exception):
    """The layer has been reached; the rest of the network need not be computed."""


def unit_variance(model: nn.Module, batch: Tensor, tolerance: float = 0.02, tries: int = 10) -> None:
    """Divide each layer's weight by the deviation of its output on ``batch`` until that is 1, from stem to head.

    A layer that is not used, or whose output does not vary, is left as it is. Norms and dropout are in evaluation mode.
    """
    import torch
    from torch import nn

    found: list[float] = []

    def look(module: nn.Module, inputs: object, output: Tensor) -> None:
        found.append(float(output.float().std()))
        raise _Enough

    was = model.training
    model.eval()
    with torch.no_grad():
        for layer in [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
            hook = layer.register_forward_hook(look)
            for _ in range(tries):
                found.clear()
                with contextlib.suppress(_Enough):
                    model(batch)
                if not found or not math.isfinite(found[0]) or found[0] < 1e-8 or abs(found[0] - 1) < tolerance:
                    break
                layer.weight.div_(found[0])
            hook.remove()
    model.train(was)
