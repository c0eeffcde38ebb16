"""Architectures, activations, initialization and averaging: published sizes, variances, and averages computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn

from trainer.activations import Activation
from trainer.architectures import CNN, MLP, Airbench, ResNet, Torchvision
from trainer.architectures.layers import GlobalAveragePool, count_parameters, find_head, norm_2d, weight_layers
from trainer.averaging import EMA, SWA
from trainer.engine.evaluation import logits, views
from trainer.engine.run import Precision
from trainer.errors import ConfigError
from trainer.initialization import Initialization

RELU = Activation("relu")


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_have_the_published_number_of_parameters(depth, millions):
    """He et al. 2015, table 6."""
    count = count_parameters(ResNet(depth=depth).build((3, 32, 32), 10, RELU))
    assert round(count / 1e6, 1 if depth == 110 else 2) == millions


def test_resnet20_has_twenty_layers_with_weights():
    model = ResNet(depth=20).build((3, 32, 32), 10, RELU)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20


def test_the_shortcut_has_no_parameters_and_keeps_the_picture_in_the_middle_channels():
    model = ResNet(depth=8).build((3, 8, 8), 10, RELU)
    shortcut = next(m for m in model.modules() if type(m).__name__ == "Shortcut")
    x = torch.randn(1, 16, 8, 8)
    out = shortcut(x)
    assert out.shape == (1, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() + out[:, 24:].abs().sum() == 0


@pytest.mark.parametrize(
    "option", [Airbench(widths=(4, 8)), MLP(), MLP(widths=()), CNN(), CNN(widths=(4,), pool=1), ResNet(depth=8)]
)
@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)])
def test_a_network_maps_pictures_to_logits(option, norm, position, shape):
    fields = {k: v for k, v in vars(option).items() if k not in ("norm", "norm_position")}
    model = type(option)(**fields, norm=norm, norm_position=position).build(shape, 7, RELU)
    out = model(torch.randn(4, *shape))
    assert out.shape == (4, 7)
    out.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("pool", "side"), [(2, 8), (2, 7), (3, 10)])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu"])
def test_pooling_before_relu_is_pooling_behind_it_bit_for_bit(name, pool, side, dtype):
    """It spares most of the rectifying; activations that it would change, if only in a gradient's place, stay in front."""
    activation = Activation(name, slope=0.01 if name == "leaky_relu" else 0.0)
    torch.manual_seed(0)
    model = CNN(widths=(4, 6), pool=pool).build((2, side, side), 3, activation).train()
    order = [type(m) for m in model]
    assert order.index(nn.MaxPool2d) - order.index(type(activation.build())) == (-1 if name == "relu" else 1)
    layers = list(model)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d) and isinstance(layers[i + 1], nn.ReLU):
            layers[i], layers[i + 1] = layers[i + 1], layer
    customary = nn.Sequential(*layers)
    x = torch.randn(8, 2, side, side).round(decimals=1)  # with equals among them
    found = []
    for network in (model, customary):
        network.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            out = network(x)
        out.float().square().sum().backward()
        found.append([out, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_group_norm_has_groups_of_about_eight_channels():
    assert norm_2d("group", 64).num_groups == 8
    assert norm_2d("layer", 64).num_groups == 1
    assert norm_2d("group", 10).num_groups == 1


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_a_network_of_torchvision_gets_the_classes_and_channels_of_the_data(name):
    model = Torchvision(name=name).build((1, 64, 64), 5, RELU)
    assert model.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 5)


def test_a_local_file_of_weights_is_loaded_and_its_stem_summed_over_the_colours(tmp_path):
    torch.manual_seed(0)
    published = torchvision.models.resnet18()
    torch.save(published.state_dict(), tmp_path / "w.pt")
    option = Torchvision(name="resnet18", weights=str(tmp_path / "w.pt"))
    model = option.build((1, 64, 64), 5, RELU)
    assert torch.equal(model.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    grey = torch.rand(1, 1, 64, 64)
    both = model.conv1(grey), published.conv1(grey.expand(1, 3, 64, 64))
    assert torch.allclose(*both, atol=1e-5)
    assert option.normalization() == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_wrong_names_and_files_of_weights_are_told(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        Torchvision(name="resnet81").build((3, 64, 64), 5, RELU)
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        Torchvision(weights="IMAGENET").build((3, 64, 64), 5, RELU)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="does not fit resnet18"):
        Torchvision(weights=str(tmp_path / "other.pt")).build((3, 64, 64), 5, RELU)
    with pytest.raises(ConfigError, match="cannot take pictures of 8 x 8"):
        Torchvision(name="alexnet").build((3, 8, 8), 5, RELU)


def test_the_activation_can_replace_the_published_one():
    model = Torchvision(keep_activation=False).build((3, 32, 32), 5, Activation("leaky_relu", 0.1))
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert any(isinstance(m, nn.LeakyReLU) for m in model.modules())


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("rule", ["auto", "orthogonal"])
def test_the_variance_neither_vanishes_nor_explodes_through_thirty_layers(name, rule):
    torch.manual_seed(0)
    activation = Activation(name, 0.1 if name == "leaky_relu" else 0.0)
    model = MLP(widths=(400,) * 30, norm="none").build((1, 20, 20), 10, activation)
    Initialization(rule).apply(model, activation)
    out = model[:-1](torch.randn(64, 1, 20, 20))
    assert 0.05 < out.std().item() < 5


def test_kaiming_and_xavier_have_the_deviations_of_their_papers():
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


def test_the_first_loss_is_the_entropy_of_the_classes():
    """The last layer's bias starts at the log prior; with zero weights the outputs are the prior itself."""
    prior = [0.5, 0.3, 0.2]
    model = MLP(widths=(8,), norm="none").build((1, 4, 4), 3, RELU)
    Initialization("zeros").apply(model, RELU, prior=prior)
    out = torch.softmax(model(torch.randn(5, 1, 4, 4)), 1)
    assert out[0].tolist() == pytest.approx(prior, abs=1e-6)


def test_rule_torch_leaves_the_weights_as_they_are():
    model = MLP().build((1, 4, 4), 3, RELU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Initialization("torch").apply(model, RELU)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_head_only_leaves_the_layers_below():
    model = MLP(norm="none").build((1, 4, 4), 3, RELU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Initialization().apply(model, RELU, head_only=True)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert changed == {f"{find_head(model)[0]}.weight", f"{find_head(model)[0]}.bias"}


def test_layers_hold_every_parameter_once_from_stem_to_head():
    model = torchvision.models.resnet18()
    found = [p for layer in weight_layers(model) for _, p in layer]
    assert len(found) == len({id(p) for p in found}) == len(list(model.parameters()))
    assert weight_layers(model)[0][0][0] == "conv1.weight"
    assert weight_layers(model)[-1][0][0] == "fc.weight"


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "identity"])
def test_an_activation_is_its_function(name):
    x = torch.linspace(-3, 3, 13)
    expected = {
        "relu": x.clamp(min=0), "leaky_relu": torch.where(x > 0, x, 0.1 * x), "elu": torch.where(x > 0, x, x.exp() - 1),
        "tanh": (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), "sigmoid": 1 / (1 + (-x).exp()),
        "gelu": x * (1 + torch.erf(x / 2**0.5)) / 2, "silu": x / (1 + (-x).exp()), "identity": x,
    }[name]  # fmt: skip
    assert torch.allclose(Activation(name, 0.1 if name == "leaky_relu" else 0.0).build()(x), expected, atol=1e-6)


def walked(averaging, steps_of_epoch: int = 4, steps: int = 16) -> list[tuple[float, float]]:
    """A model of one weight that is i after step i, and its average after each step."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    averaged, found = averaging.build(model), []
    for i in range(1, steps + 1):
        nn.init.constant_(model.weight, float(i))
        averaging.update(averaged, model, i / steps_of_epoch, end_of_epoch=i % steps_of_epoch == 0)
        found.append((float(i), averaged.module.weight.item()))
    return found


def test_ema_follows_its_recursion():
    mean = None
    for value, averaged in walked(EMA(decay=0.8)):
        mean = value if mean is None else 0.8 * mean + 0.2 * value
        assert averaged == pytest.approx(mean, rel=1e-5)


def test_ema_is_the_model_before_its_start():
    assert all(a == v for v, a in walked(EMA(decay=0.8, start=2.0))[:7])
    assert walked(EMA(decay=0.8, start=2.0))[9][1] != 10.0


def test_swa_is_the_mean_of_the_ends_of_epochs_from_its_start_on():
    found = dict(walked(SWA(start=1.0)))
    assert found[4] == 4
    assert found[8] == pytest.approx((4 + 8) / 2)
    assert found[16] == pytest.approx((4 + 8 + 12 + 16) / 4)


def test_the_network_of_the_speed_record_has_the_published_size_and_logits_over_nine():
    """Jordan 2024, section 3: 1.97 million parameters, 24 whitened filters of 2 x 2 pixels."""
    model = Airbench().build((3, 32, 32), 10, Activation("gelu"))
    assert round(count_parameters(model) / 1e6, 2) == 1.97
    assert model[0].weight.shape == (24, 3, 2, 2)
    widths = [m.out_channels for m in model if isinstance(m, nn.Conv2d)]
    assert widths == [24, 64, 64, 256, 256, 256, 256]
    x, head = torch.randn(2, 3, 32, 32), find_head(model)[1]
    found = []
    head.register_forward_hook(lambda m, i, o: found.append(o))
    assert torch.allclose(model.eval()(x) * 9, found[0], atol=1e-6)


@pytest.mark.parametrize("tta", ["none", "mirror", "mirror_shift"])
def test_views_of_a_picture_are_weighed_to_one_and_their_logits_averaged(tta):
    """Against airbench's formula: half on the mirrored mean of the picture, half on that of its two diagonal shifts."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 4))
    x = torch.randn(5, 3, 6, 6)
    mirrored = lambda p: (model(p) + model(p.flip(-1))) / 2  # noqa: E731
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    shifts = (mirrored(padded[:, :, 0:6, 0:6]) + mirrored(padded[:, :, 2:8, 2:8])) / 2
    expected = {"none": model(x), "mirror": mirrored(x), "mirror_shift": (mirrored(x) + shifts) / 2}[tta]
    assert sum(weight for weight, _ in views(x, tta)) == 1
    assert torch.allclose(logits(model, x, Precision(torch.device("cpu")), tta), expected, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_global_average_and_its_gradient_keep_the_layout_and_equal_torchs(layout):
    x = torch.randn(2, 6, 5, 3).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 6, 1, 1)
    ours = GlobalAveragePool()(x)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    theirs = torch.nn.functional.adaptive_avg_pool2d(x, 1)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)
    assert gradient.is_contiguous(memory_format=layout)
