"""The published networks, stochastic depth, LSUV, timm and folding: sizes from the papers, expectations, equal outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from trainer.activations import Activation
from trainer.architectures import (
    CNN,
    MLP,
    CIFAR10Full,
    DenseNet,
    ResNet,
    ResNet18CIFAR,
    Timm,
    Torchvision,
    WideResNet,
)  # fmt: skip
from trainer.architectures.fusion import fuse
from trainer.architectures.layers import count_parameters
from trainer.errors import ConfigError
from trainer.initialization import Initialization, whiten
from trainer.regularizers import StochasticDepth

RELU = Activation("relu")


@pytest.mark.parametrize(
    ("option", "millions"),
    [
        (WideResNet(depth=28, widen_factor=10), 36.5), (WideResNet(depth=16, widen_factor=8), 11.0), (DenseNet(), 0.8),
        (DenseNet(depth=190, growth_rate=40), 25.6), (ResNet18CIFAR(), 11.2),
    ],
)  # fmt: skip
def test_a_network_has_the_published_number_of_parameters(option, millions):
    assert round(count_parameters(option.build((3, 32, 32), 10, RELU)) / 1e6, 1) == millions


def test_cifar10_full_has_the_layers_of_caffes_prototxt():
    """Three 5 x 5 convolutions of 32, 32, 64 with biases, and 10 classes of 64 x 4 x 4."""
    expected = (75 * 32 + 32) + (800 * 32 + 32) + (800 * 64 + 64) + (1024 * 10 + 10)
    assert count_parameters(CIFAR10Full().build((3, 32, 32), 10, RELU)) == expected


SMALL = [CIFAR10Full(), ResNet18CIFAR(), WideResNet(depth=10, widen_factor=1, dropout=0.3), DenseNet(depth=10)]


@pytest.mark.parametrize("option", SMALL)
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 24)])
def test_a_published_network_maps_pictures_to_logits(option, norm, position, shape):
    fields = {k: v for k, v in vars(option).items() if k not in ("norm", "norm_position")}
    model = type(option)(**fields, norm=norm, norm_position=position).build(shape, 7, RELU)
    out = model(torch.randn(3, *shape))
    assert out.shape == (3, 7)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def stirred(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The network with batch statistics that are not those of the beginning."""
    torch.manual_seed(0)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        for _ in range(3):
            model(torch.randn(8, *shape) * 2 + 1)
    return model.eval()


@pytest.mark.parametrize(
    ("option", "left"),
    [
        (MLP(widths=(8, 8)), 0), (CNN(widths=(4, 8)), 0), (ResNet(depth=8), 0), (ResNet18CIFAR(), 0),
        (Torchvision(name="resnet18"), 0), (Torchvision(name="mobilenet_v3_small"), 0),
    ],
)  # fmt: skip
def test_folding_leaves_no_batch_norm_and_the_same_outputs(option, left):
    shape = (3, 32, 32)
    model = stirred(option.build(shape, 5, RELU), shape)
    x = torch.randn(4, *shape)
    fused = fuse(model)
    assert sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in fused.modules()) == left
    assert any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules()), "the network itself stays"
    assert torch.allclose(fused(x), model(x), atol=1e-4)


@pytest.mark.parametrize(
    "option", [WideResNet(depth=10, widen_factor=1), DenseNet(depth=10), CNN(norm_position="after")]
)
def test_a_norm_that_cannot_be_folded_stays(option):
    shape = (3, 16, 16)
    model = stirred(option.build(shape, 5, RELU), shape)
    fused = fuse(model)
    assert any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    x = torch.randn(4, *shape)
    assert torch.allclose(fused(x), model(x), atol=1e-4)


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_stochastic_depth_keeps_the_expectation_of_a_branch(mode):
    from trainer.regularizers.hooks import DropBranch

    torch.manual_seed(0)
    branch = nn.Identity().train()
    branch.register_forward_hook(DropBranch(0.3, mode))
    x = torch.ones(5, 2, 3, 3)
    draws = torch.stack([branch(x) for _ in range(4000)])
    assert draws.mean().item() == pytest.approx(1.0, abs=0.03)
    per_picture = draws[:, :, 0, 0, 0]
    assert per_picture.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    alike = bool((per_picture == per_picture[:, :1]).all())
    assert alike == (mode == "batch")
    assert torch.equal(branch.eval()(x), x)


@pytest.mark.parametrize(
    ("option", "blocks"),
    [
        (ResNet(depth=20), 9), (ResNet18CIFAR(), 8), (WideResNet(depth=16), 6), (Torchvision(name="resnet18"), 8),
        (Torchvision(name="resnet50"), 16), (Torchvision(name="convnext_tiny"), 18), (Timm(name="resnet18"), 8),
    ],
)  # fmt: skip
def test_branches_are_left_out_the_more_often_the_deeper(option, blocks):
    pytest.importorskip("timm")
    from trainer.regularizers.hooks import DropBranch

    model = StochasticDepth(p=0.6).model(option.build((3, 32, 32), 10, RELU))
    chances = []
    for module in model.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            chances.append(module.p)
        chances += [h.p for h in module._forward_hooks.values() if isinstance(h, DropBranch)]
    assert chances == pytest.approx([0.6 * i / blocks for i in range(1, blocks + 1)])


def test_stochastic_depth_refuses_a_network_without_branches():
    with pytest.raises(ConfigError, match="needs a network of residual blocks"):
        StochasticDepth().model(CNN().build((3, 16, 16), 10, RELU))


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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_of_timm_gets_the_classes_and_channels_of_the_data(channels):
    pytest.importorskip("timm")
    model = Timm(name="resnet18").build((channels, 32, 32), 5, RELU)
    assert model.eval()(torch.zeros(2, channels, 32, 32)).shape == (2, 5)
    small = Timm(name="vit_tiny_patch16_224").build((3, 32, 32), 5, RELU)
    assert small.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_timms_weights_come_from_a_local_file_with_their_normalisation(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    published = timm.create_model("resnet18")
    torch.save(published.state_dict(), tmp_path / "w.pt")
    option = Timm(name="resnet18", weights=str(tmp_path / "w.pt"))
    model = option.build((3, 32, 32), 5, RELU)
    assert torch.equal(model.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert option.normalization() == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(ConfigError, match="did you mean"):
        Timm(name="resnet1").build((3, 32, 32), 5, RELU)
    with pytest.raises(ConfigError, match="is no file"):
        Timm(weights="nope.pt").build((3, 32, 32), 5, RELU)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="does not fit resnet18"):
        Timm(weights=str(tmp_path / "other.pt")).build((3, 32, 32), 5, RELU)


@pytest.mark.parametrize("kernel", [2, 3])
def test_whitening_makes_the_first_layers_outputs_uncorrelated_with_variance_one(kernel):
    """Against numpy's covariance of the outputs over every place of every picture."""
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


@pytest.mark.parametrize("rule", ["auto", "whitening", "lsuv", "orthogonal"])
def test_with_identity_all_convolutions_but_the_first_begin_by_passing_their_inputs_on(rule):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d
    model = torch.nn.Sequential(
        conv(2, 6, 3, padding=1), conv(6, 4, 1), conv(4, 9, 3, padding=1), conv(9, 9, 3, padding=1, groups=3),
        torch.nn.Flatten(), torch.nn.Linear(9 * 64, 3),
    )  # fmt: skip
    Initialization(rule, identity=True).apply(model, RELU, batch=torch.randn(32, 2, 8, 8))
    x = torch.randn(5, 4, 8, 8)
    passed, scale = model[2](x)[:, :4], 1.0
    if rule == "lsuv":  # which scales the whole layer
        scale = float(passed.detach().norm() / x.norm())
    assert torch.allclose(passed, scale * x, atol=1e-5)
    assert model[2].weight[4:].std() > 0.01
    for layer in (model[0], model[1], model[3]):  # the first, one of fewer outputs, one in groups
        assert (layer.weight == 0).float().mean() < 0.1


def test_whitening_of_fewer_filters_takes_the_directions_that_vary_most():
    torch.manual_seed(0)
    pictures = torch.randn(500, 1, 2, 2) * torch.tensor([1.0, 9.0, 3.0, 0.1]).view(1, 1, 2, 2)
    layer = torch.nn.Linear(4, 4)
    whiten(layer, pictures)
    assert layer.weight[:2].abs().argmax(1).tolist() == [1, 2]
