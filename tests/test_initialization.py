"""Initialization: variances of weights and outputs, against the papers and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainer.activations import Activation
from trainer.architectures import CNN, MLP
from trainer.architectures.layers import find_head
from trainer.initialization import Initialization
from trainer.initialization.whitening import whiten

RELU = Activation("relu")


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("rule", ["auto", "orthogonal"])
def test_the_variance_neither_vanishes_nor_explodes_in_thirty_layers(name, rule):
    torch.manual_seed(0)
    activation = Activation(name, 0.1 if name == "leaky_relu" else 0.0)
    model = MLP(widths=(400,) * 30, norm="none").build((1, 20, 20), 10, activation)
    Initialization(rule).apply(model, activation)
    out = model[:-1](torch.randn(64, 1, 20, 20))
    assert 0.05 < out.std().item() < 5


def test_kaiming_and_xavier_weights_have_the_published_standard_deviations():
    torch.manual_seed(0)
    model = CNN(widths=(64, 128)).build((3, 8, 8), 10, RELU)
    Initialization("kaiming_normal").apply(model, RELU)
    second = [m for m in model.modules() if isinstance(m, nn.Conv2d)][1]
    assert second.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    Initialization("kaiming_uniform").apply(model, RELU)
    assert second.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert second.weight.abs().max().item() <= math.sqrt(3 * 2 / (64 * 9))
    identity = Activation("identity")
    Initialization("xavier_normal").apply(model, identity)
    assert second.weight.std().item() == pytest.approx(math.sqrt(2 / ((64 + 128) * 9)), rel=0.02)
    Initialization("normal", std=0.02).apply(model, RELU)
    assert second.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_the_initial_loss_is_the_entropy_of_the_classes():
    """The bias of the head is the log prior; with zero weights the outputs are exactly the prior."""
    prior = [0.5, 0.3, 0.2]
    model = MLP(widths=(8,), norm="none").build((1, 4, 4), 3, RELU)
    Initialization("zeros").apply(model, RELU, output_bias=[math.log(p) for p in prior])
    out = torch.softmax(model(torch.randn(5, 1, 4, 4)), 1)
    assert out[0].tolist() == pytest.approx(prior, abs=1e-6)


def test_rule_torch_does_not_change_the_weights():
    model = MLP().build((1, 4, 4), 3, RELU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Initialization("torch").apply(model, RELU)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_head_only_does_not_change_the_other_layers():
    model = MLP(norm="none").build((1, 4, 4), 3, RELU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Initialization().apply(model, RELU, head_only=True)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {f"{find_head(model)[0]}.weight", f"{find_head(model)[0]}.bias"}


@pytest.mark.parametrize("name", ["relu", "tanh", "silu"])
def test_lsuv_gives_every_layer_unit_variance(name):
    torch.manual_seed(0)
    activation = Activation(name)
    model = CNN(widths=(8, 16, 16), norm="none").build((3, 16, 16), 10, activation)
    batch = torch.randn(64, 3, 16, 16) * 3 + 1
    Initialization("lsuv").apply(model, activation, batch=batch)
    x = batch
    for module in model.eval():
        x = module(x)
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert x.std().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("kernel", [2, 3])
def test_whitening_makes_the_first_layers_outputs_uncorrelated_with_variance_one(kernel):
    """The covariance of the outputs, over all positions of all images, is computed by numpy."""
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(64, 2, 20, 20), 3, 1) * torch.tensor([1.0, 5.0]).view(
        1, 2, 1, 1
    )
    size = 2 * kernel**2
    layer = torch.nn.Conv2d(2, 2 * size + 3, kernel, bias=False)
    rest = layer.weight[2 * size :].clone()
    model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(4, 2))
    whiten(layer, smooth, eps=0.0)
    outputs = model[0](smooth).detach().permute(1, 0, 2, 3).flatten(1).numpy().astype(np.float64)
    assert np.allclose(outputs[:size] @ outputs[:size].T / outputs.shape[1], np.eye(size), atol=2e-3)
    assert np.allclose(outputs[size : 2 * size], -outputs[:size], atol=1e-5)
    assert torch.equal(layer.weight[2 * size :], rest)


def test_whitening_with_few_filters_uses_the_directions_of_largest_variance():
    torch.manual_seed(0)
    images = torch.randn(500, 1, 2, 2) * torch.tensor([1.0, 9.0, 3.0, 0.1]).view(1, 1, 2, 2)
    layer = torch.nn.Linear(4, 4)
    whiten(layer, images)
    assert layer.weight[:2].abs().argmax(1).tolist() == [1, 2]


@pytest.mark.parametrize("rule", ["auto", "whitening", "lsuv", "orthogonal"])
def test_with_identity_all_convolutions_but_the_first_copy_their_inputs(rule):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d
    model = torch.nn.Sequential(
        conv(2, 6, 3, padding=1), conv(6, 4, 1), conv(4, 9, 3, padding=1), conv(9, 9, 3, padding=1, groups=3),
        torch.nn.Flatten(), torch.nn.Linear(9 * 64, 3),
    )  # fmt: skip
    Initialization(rule, identity=True).apply(model, RELU, batch=torch.randn(32, 2, 8, 8))
    x = torch.randn(5, 4, 8, 8)
    copied, scale = model[2](x)[:, :4], 1.0
    if rule == "lsuv":  # scales the whole layer
        scale = float(copied.detach().norm() / x.norm())
    assert torch.allclose(copied, scale * x, atol=1e-5)
    assert model[2].weight[4:].std() > 0.01
    for layer in (model[0], model[1], model[3]):  # the first, one with fewer outputs, a grouped one
        assert (layer.weight == 0).float().mean() < 0.1
