"""Stochastic depth: the expectation of a branch, and the branches of each architecture."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from trainer.activations import Activation
from trainer.architectures import CNN, ResNet, ResNet18CIFAR, Timm, Torchvision, WideResNet
from trainer.errors import ConfigError
from trainer.regularizers import StochasticDepth
from trainer.regularizers.hooks import DropBranch

RELU = Activation("relu")


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_stochastic_depth_keeps_the_expectation_of_a_branch(mode):
    torch.manual_seed(0)
    branch = nn.Identity().train()
    branch.register_forward_hook(DropBranch(0.3, mode))
    x = torch.ones(5, 2, 3, 3)
    draws = torch.stack([branch(x) for _ in range(4000)])
    assert draws.mean().item() == pytest.approx(1.0, abs=0.03)
    per_image = draws[:, :, 0, 0, 0]
    assert per_image.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    same_for_all = bool((per_image == per_image[:, :1]).all())
    assert same_for_all == (mode == "batch")
    assert torch.equal(branch.eval()(x), x)


@pytest.mark.parametrize(
    ("option", "blocks"),
    [
        (ResNet(depth=20), 9), (ResNet18CIFAR(), 8), (WideResNet(depth=16), 6), (Torchvision(name="resnet18"), 8),
        (Torchvision(name="resnet50"), 16), (Torchvision(name="convnext_tiny"), 18), (Timm(name="resnet18"), 8),
    ],
)  # fmt: skip
def test_deeper_branches_are_dropped_more_often(option, blocks):
    pytest.importorskip("timm")
    model = StochasticDepth(p=0.6).model(option.build((3, 32, 32), 10, RELU))
    probabilities = []
    for module in model.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            probabilities.append(module.p)
        probabilities += [h.p for h in module._forward_hooks.values() if isinstance(h, DropBranch)]
    assert probabilities == pytest.approx([0.6 * i / blocks for i in range(1, blocks + 1)])


def test_stochastic_depth_rejects_a_network_without_branches():
    with pytest.raises(ConfigError, match="needs a network of residual blocks"):
        StochasticDepth().model(CNN().build((3, 16, 16), 10, RELU))
