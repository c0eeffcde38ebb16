"""Architectures: published sizes, shapes, pretrained weights, and the folding of batch normalization."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainer.activations import Activation
from trainer.architectures import (
    CNN,
    MLP,
    Airbench,
    CIFAR10Full,
    DenseNet,
    ExternalArchitecture,
    ResNet,
    ResNet18CIFAR,
    Timm,
    Torchvision,
    WideResNet,
)
from trainer.architectures.fusion import fuse
from trainer.architectures.layers import GlobalAveragePool, count_parameters, find_head, norm_2d, weight_layers
from trainer.config.load import load_config
from trainer.errors import ConfigError
from trainer.existing import registered, sources_of, unknown_model

RELU = Activation("relu")


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnets_have_the_published_number_of_parameters(depth, millions):
    """He et al. 2015, table 6."""
    count = count_parameters(ResNet(depth=depth).build((3, 32, 32), 10, RELU))
    assert round(count / 1e6, 1 if depth == 110 else 2) == millions


def test_resnet20_has_twenty_layers_with_weights():
    model = ResNet(depth=20).build((3, 32, 32), 10, RELU)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20


def test_the_shortcut_has_no_parameters_and_pads_the_channels_on_both_sides():
    model = ResNet(depth=8).build((3, 8, 8), 10, RELU)
    shortcut = next(m for m in model.modules() if type(m).__name__ == "PaddedShortcut")
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
def test_a_network_maps_images_to_logits(option, norm, position, shape):
    model = dataclasses.replace(option, norm=norm, norm_position=position).build(shape, 7, RELU)
    out = model(torch.randn(4, *shape))
    assert out.shape == (4, 7)
    out.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("pool", "side"), [(2, 8), (2, 7), (3, 10)])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu"])
def test_pooling_before_relu_equals_pooling_after_it_bit_for_bit(name, pool, side, dtype):
    """The CNN pools first only where neither values nor gradients change."""
    activation = Activation(name, slope=0.01 if name == "leaky_relu" else 0.0)
    torch.manual_seed(0)
    model = CNN(widths=(4, 6), pool=pool).build((2, side, side), 3, activation).train()
    order = [type(m) for m in model]
    assert order.index(nn.MaxPool2d) - order.index(type(activation.build())) == (-1 if name == "relu" else 1)
    layers = list(model)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d) and isinstance(layers[i + 1], nn.ReLU):
            layers[i], layers[i + 1] = layers[i + 1], layer
    after_relu = nn.Sequential(*layers)
    x = torch.randn(8, 2, side, side).round(decimals=1)  # so that some values are equal
    results = []
    for network in (model, after_relu):
        network.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            out = network(x)
        out.float().square().sum().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_group_norm_has_groups_of_about_eight_channels():
    assert norm_2d("group", 64).num_groups == 8
    assert norm_2d("layer", 64).num_groups == 1
    assert norm_2d("group", 10).num_groups == 1


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_a_network_of_torchvision_is_adapted_to_the_classes_and_channels_of_the_data(name):
    model = Torchvision(name=name).build((1, 64, 64), 5, RELU)
    assert model.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 5)


def test_a_local_file_of_weights_is_loaded_and_its_stem_summed_over_the_channels(tmp_path):
    torch.manual_seed(0)
    published = torchvision.models.resnet18()
    torch.save(published.state_dict(), tmp_path / "w.pt")
    option = Torchvision(name="resnet18", weights=str(tmp_path / "w.pt"))
    model = option.build((1, 64, 64), 5, RELU)
    assert torch.equal(model.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    grey = torch.rand(1, 1, 64, 64)
    outputs = model.conv1(grey), published.conv1(grey.expand(1, 3, 64, 64))
    assert torch.allclose(*outputs, atol=1e-5)
    assert option.preprocessing().normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_unknown_names_and_unusable_weights_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        Torchvision(name="resnet81").build((3, 64, 64), 5, RELU)
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        Torchvision(weights="IMAGENET").build((3, 64, 64), 5, RELU)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="does not fit resnet18"):
        Torchvision(weights=str(tmp_path / "other.pt")).build((3, 64, 64), 5, RELU)
    with pytest.raises(ConfigError, match="does not accept images of 8 x 8"):
        Torchvision(name="alexnet").build((3, 8, 8), 5, RELU)


def test_the_activation_of_the_config_can_replace_the_published_one():
    model = Torchvision(keep_activation=False).build((3, 32, 32), 5, Activation("leaky_relu", 0.1))
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert any(isinstance(m, nn.LeakyReLU) for m in model.modules())


def test_weight_layers_contain_every_parameter_once_from_first_to_last_layer():
    model = torchvision.models.resnet18()
    parameters = [p for layer in weight_layers(model) for _, p in layer]
    assert len(parameters) == len({id(p) for p in parameters}) == len(list(model.parameters()))
    assert weight_layers(model)[0][0][0] == "conv1.weight"
    assert weight_layers(model)[-1][0][0] == "fc.weight"


def test_airbench_has_the_published_size_and_scales_its_logits():
    """Jordan 2024, section 3: 1.97 million parameters, 24 whitened filters of 2 x 2 pixels."""
    model = Airbench().build((3, 32, 32), 10, Activation("gelu"))
    assert round(count_parameters(model) / 1e6, 2) == 1.97
    assert model[0].weight.shape == (24, 3, 2, 2)
    widths = [m.out_channels for m in model if isinstance(m, nn.Conv2d)]
    assert widths == [24, 64, 64, 256, 256, 256, 256]
    x, head = torch.randn(2, 3, 32, 32), find_head(model)[1]
    outputs = []
    head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    assert torch.allclose(model.eval()(x) * 9, outputs[0], atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_global_average_equals_torchs_and_its_gradient_keeps_the_memory_format(layout):
    x = torch.randn(2, 6, 5, 3).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 6, 1, 1)
    ours = GlobalAveragePool()(x)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    theirs = torch.nn.functional.adaptive_avg_pool2d(x, 1)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)
    assert gradient.is_contiguous(memory_format=layout)


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
def test_a_published_network_maps_images_to_logits(option, norm, position, shape):
    model = dataclasses.replace(option, norm=norm, norm_position=position).build(shape, 7, RELU)
    out = model(torch.randn(3, *shape))
    assert out.shape == (3, 7)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def with_batch_statistics(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return the network in evaluation mode with random affine parameters and batch statistics of some data."""
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
def test_fusing_removes_every_batch_norm_and_does_not_change_the_outputs(option, left):
    shape = (3, 32, 32)
    model = with_batch_statistics(option.build(shape, 5, RELU), shape)
    x = torch.randn(4, *shape)
    fused = fuse(model)
    assert sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in fused.modules()) == left
    assert any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules()), (
        "the network itself was changed"
    )
    assert torch.allclose(fused(x), model(x), atol=1e-4)


@pytest.mark.parametrize(
    "option", [WideResNet(depth=10, widen_factor=1), DenseNet(depth=10), CNN(norm_position="after")]
)
def test_a_batch_norm_that_follows_no_convolution_stays(option):
    shape = (3, 16, 16)
    model = with_batch_statistics(option.build(shape, 5, RELU), shape)
    fused = fuse(model)
    assert any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    x = torch.randn(4, *shape)
    assert torch.allclose(fused(x), model(x), atol=1e-4)


class DependsOnValues(nn.Module):
    """Control flow that torch.fx cannot record."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class NeedsNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return sum((x[:, i] for i in range(x.shape[1])), torch.zeros(()))


class NeedsTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(x, Tensor)
        return x


@pytest.mark.parametrize("layer", [DependsOnValues(), NeedsNumber(), NeedsTensor()])
def test_a_network_that_cannot_be_traced_is_not_fused_silently(layer):
    block = nn.Sequential(nn.Linear(4, 4), layer)
    model = nn.Sequential(block, nn.BatchNorm1d(4))
    name = type(layer).__name__
    with pytest.raises(ConfigError, match=rf"job\.fuse = True.* layer 0\.1 \({name}\) of Sequential") as error:
        fuse(model)
    assert error.value.problems[0].hint == "job.fuse=false"
    fuse(block)  # has no batch norm, hence nothing to trace


def test_a_network_whose_own_forward_cannot_be_traced_is_named():
    class Choosing(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) if input.sum() > 0 else input

    with pytest.raises(ConfigError, match="the forward method of Choosing"):
        fuse(Choosing(nn.Linear(4, 4), nn.BatchNorm1d(4)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_of_timm_is_adapted_to_the_classes_and_channels_of_the_data(channels):
    pytest.importorskip("timm")
    model = Timm(name="resnet18").build((channels, 32, 32), 5, RELU)
    assert model.eval()(torch.zeros(2, channels, 32, 32)).shape == (2, 5)
    small = Timm(name="vit_tiny_patch16_224").build((3, 32, 32), 5, RELU)
    assert small.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_weights_of_timm_are_loaded_from_a_local_file_with_their_normalization(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    published = timm.create_model("resnet18")
    torch.save(published.state_dict(), tmp_path / "w.pt")
    option = Timm(name="resnet18", weights=str(tmp_path / "w.pt"))
    model = option.build((3, 32, 32), 5, RELU)
    assert torch.equal(model.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert option.preprocessing().normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(ConfigError, match="did you mean"):
        Timm(name="resnet1").build((3, 32, 32), 5, RELU)
    with pytest.raises(ConfigError, match="is not a file"):
        Timm(weights="nope.pt").build((3, 32, 32), 5, RELU)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="does not fit resnet18"):
        Timm(weights=str(tmp_path / "other.pt")).build((3, 32, 32), 5, RELU)


@pytest.mark.parametrize("kind", [Torchvision, Timm])
@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"\x80\x02]q\x00.", b"PK\x03\x04 damaged", "cut", "other type"]
)
def test_a_damaged_weight_file_is_an_error_at_its_key(kind, content, tmp_path):
    if kind is Timm:
        pytest.importorskip("timm")
    file = tmp_path / "weights.pt"
    torch.save([1, 2] if content == "other type" else torchvision.models.resnet18().state_dict(), file)
    if content == "cut":
        file.write_bytes(file.read_bytes()[:10000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"architecture\.weights = .*(does not fit resnet18|cannot be read|is cut short)"
    ):
        kind(name="resnet18", weights=str(file)).build((3, 64, 64), 5, RELU)


def test_a_damaged_safetensors_file_is_an_error_at_its_key(tmp_path):
    pytest.importorskip("timm")
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match=r"architecture\.weights = .*cannot be read"):
        Timm(name="resnet18", weights=str(file)).build((3, 64, 64), 5, RELU)


def test_a_model_of_timm_may_be_named_with_the_tag_of_its_weights():
    pytest.importorskip("timm")
    assert Timm(name="resnet10t.c3_in1k").build((3, 32, 32), 5, RELU)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_third_party_network_gets_the_arguments_it_accepts():
    def linear(in_channels, num_classes, bias):
        return nn.Conv2d(in_channels, num_classes, 1, bias=bias)

    option = ExternalArchitecture(target=linear, arguments={"bias": False})
    model = option.build((3, 8, 8), 10, RELU)
    assert (model.in_channels, model.out_channels, model.bias) == (3, 10, None)
    assert ExternalArchitecture(target=nn.Flatten, arguments={}).build((3, 8, 8), 10, RELU).start_dim == 1
    assert not option.pretrained
    assert option.preprocessing() is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: CNN(widths=()), lambda: CNN(kernel=2), lambda: CNN(pool=0), lambda: MLP(widths=(4, 0)),
        lambda: ResNet(depth=21), lambda: WideResNet(depth=15), lambda: DenseNet(depth=4), lambda: Airbench(widths=()),
        lambda: WideResNet(dropout=1.0), lambda: MLP(norm="response"),
    ],
)  # fmt: skip
def test_a_parameter_outside_its_range_is_an_error(make):
    with pytest.raises(ValueError, match=r"widths|kernel|pool|depth|dropout|norm"):
        make()


def test_the_names_of_models_are_read_from_the_sources_of_the_libraries():
    torchvision_names = registered("\n".join(sources_of("torchvision")))
    assert torchvision_names == set(torchvision.models.list_models(module=torchvision.models))
    timm = pytest.importorskip("timm")
    assert set(timm.list_models()) == registered("\n".join(sources_of("timm")))


@pytest.mark.parametrize(
    ("library", "name", "hint"), [("torchvision", "resnet19", "resnet18"), ("timm", "convnext_tinny", "convnext_tiny")]
)
def test_the_name_of_a_model_that_there_is_not_is_answered_with_similar_ones(library, name, hint):
    with pytest.raises(
        ConfigError, match=f"architecture.name = '{name}': is not the name of a model\n  did you mean '{hint}"
    ):
        load_config([f"architecture={library}", f"architecture.name={name}"], here=True)


def test_former_names_tagged_names_and_those_of_a_hub_are_left_to_the_library(monkeypatch):
    source = "@register_model\ndef new_name(pretrained=False):\n    ...\nDEPRECATED = {'old_name': 'new_name'}\n"
    monkeypatch.setattr("trainer.existing.sources_of", lambda library: [source])
    for name in ("new_name", "new_name.in1k", "old_name", "hf_hub:somebody/model"):
        assert list(unknown_model("timm", name, "architecture.name")) == []
    assert len(list(unknown_model("timm", "other", "architecture.name"))) == 1
    monkeypatch.setattr("trainer.existing.sources_of", lambda library: [])
    assert list(unknown_model("timm", "other", "architecture.name")) == []
