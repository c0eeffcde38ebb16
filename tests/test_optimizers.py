"""Optimizers: equal to their equations written in NumPy; parameter groups."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from trainer.errors import ConfigError
from trainer.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamUncorrected,
    AdamW,
    ExternalOptimizer,
    Momentum,
    Muon,
    Nesterov,
    RMSprop,
)  # fmt: skip
from trainer.optimizers.param_groups import parameter_groups
from trainer.optimizers.rules import orthogonalize

GRADIENTS = np.random.default_rng(0).normal(size=(12, 5))
START = np.linspace(-1, 1, 5)


def updated(option, gradients=GRADIENTS) -> np.ndarray:
    """Return the weights after a step with each of the gradients, in float64."""
    weight = nn.Parameter(torch.tensor(START).reshape(1, -1).clone())
    optimizer = option.build(parameter_groups([[("weight", weight)]], option))
    for gradient in gradients:
        weight.grad = torch.tensor(gradient).reshape(1, -1)
        optimizer.step()
    return weight.detach().numpy()[0]


def reference(rule, decay: float = 0.0) -> np.ndarray:
    """Return the weights after applying ``rule(w, g, memory, t)`` for each gradient."""
    w, memory = START.copy(), {}
    for t, g in enumerate(GRADIENTS, 1):
        w = rule(w, g + decay * w, memory, t)
    return w


def test_sgd_subtracts_the_gradient_times_the_learning_rate():
    assert updated(SGD(lr=0.1)) == pytest.approx(reference(lambda w, g, m, t: w - 0.1 * g), rel=1e-12)


def test_sgd_with_weight_decay_adds_the_weight_to_the_gradient():
    assert updated(SGD(lr=0.1, weight_decay=0.3)) == pytest.approx(
        reference(lambda w, g, m, t: w - 0.1 * g, 0.3), rel=1e-12
    )


def test_momentum_keeps_a_fraction_of_the_velocity():
    def rule(w, g, m, t):
        m["v"] = 0.8 * m.get("v", 0) + g
        return w - 0.1 * m["v"]

    option = Momentum(lr=0.1, momentum=0.8, weight_decay=0.0)
    assert updated(option) == pytest.approx(reference(rule), rel=1e-12)


def test_nesterov_evaluates_the_gradient_at_the_look_ahead_point():
    """The look-ahead point u = w − lr·momentum·v is what torch stores as the weights."""

    def rule(w, g, m, t):
        m["v"] = 0.8 * m.get("v", 0) + g
        return w - 0.1 * (g + 0.8 * m["v"])

    option = Nesterov(lr=0.1, momentum=0.8, weight_decay=0.0)
    assert updated(option) == pytest.approx(reference(rule), rel=1e-12)


def test_nesterov_equals_the_textbook_method_at_the_look_ahead_point():
    """On a quadratic, the weights equal x − lr·momentum·v of the textbook form, whose gradient is that of the look-ahead."""
    curvature, lr, momentum = np.array([1.0, 10.0]), 0.05, 0.9
    x, v = np.array([1.0, 1.0]), np.zeros(2)
    weight = nn.Parameter(torch.ones(1, 2, dtype=torch.float64))
    optimizer = Nesterov(lr=lr, momentum=momentum, weight_decay=0.0).build(
        [{"params": [weight], "lr": lr, "weight_decay": 0.0}]
    )
    for _ in range(30):
        v = momentum * v + curvature * (x - lr * momentum * v)
        x = x - lr * v
        weight.grad = torch.tensor(curvature) * weight.detach()
        optimizer.step()
        assert weight.detach().numpy()[0] == pytest.approx(x - lr * momentum * v, rel=1e-9)


def test_adam_equals_its_equation():
    def rule(w, g, m, t):
        m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
        m["G"] = 0.99 * m.get("G", 0) + 0.01 * g**2
        return w - 0.1 * (m["m"] / (1 - 0.9**t)) / (np.sqrt(m["G"] / (1 - 0.99**t)) + 1e-8)

    option = Adam(lr=0.1, betas=(0.9, 0.99))
    assert updated(option) == pytest.approx(reference(rule), rel=1e-9)
    assert updated(Adam(lr=0.1, betas=(0.9, 0.99), weight_decay=0.2)) == pytest.approx(reference(rule, 0.2), rel=1e-9)


def test_the_weight_decay_of_adamw_is_decoupled_from_the_moments():
    def rule(w, g, m, t):
        m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
        m["G"] = 0.999 * m.get("G", 0) + 0.001 * g**2
        w = w - 0.1 * 0.2 * w
        return w - 0.1 * (m["m"] / (1 - 0.9**t)) / (np.sqrt(m["G"] / (1 - 0.999**t)) + 1e-8)

    assert updated(AdamW(lr=0.1, weight_decay=0.2)) == pytest.approx(reference(rule), rel=1e-9)


def test_adadelta_scales_steps_by_the_size_of_earlier_steps():
    def rule(w, g, m, t):
        m["G"] = 0.9 * m.get("G", 0) + 0.1 * g**2
        step = g * np.sqrt(m.get("D", 0) + 1e-6) / np.sqrt(m["G"] + 1e-6)
        m["D"] = 0.9 * m.get("D", 0) + 0.1 * step**2
        return w - step

    assert updated(Adadelta()) == pytest.approx(reference(rule), rel=1e-9)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def weight_layers(model: nn.Module) -> list[list[tuple[str, nn.Parameter]]]:
    return [list(layer.named_parameters()) for layer in model.children() if list(layer.parameters())]


def test_biases_and_norms_do_not_decay_unless_asked():
    groups = parameter_groups(weight_layers(network()), SGD(weight_decay=0.1))
    assert {group["weight_decay"]: sorted(p.ndim for p in group["params"]) for group in groups} == {
        0.1: [2, 4],
        0.0: [1] * 4,
    }
    groups = parameter_groups(weight_layers(network()), SGD(weight_decay=0.1, decay_all=True))
    assert [group["weight_decay"] for group in groups] == [0.1]


def test_layer_decay_lowers_the_learning_rate_of_earlier_layers():
    model = network()
    option = SGD(lr=1.0, layer_decay=0.5)
    ratio = {id(p): group["ratio"] for group in parameter_groups(weight_layers(model), option) for p in group["params"]}
    assert [ratio[id(layer[0][1])] for layer in weight_layers(model)] == [0.25, 0.5, 1.0]


def test_bias_lr_mult_applies_to_biases_and_not_to_the_weights_of_norms():
    model = network()
    option = SGD(lr=1.0, bias_lr_mult=64.0, layer_decay=0.5)
    ratio = {id(p): group["ratio"] for group in parameter_groups(weight_layers(model), option) for p in group["params"]}
    default = SGD(lr=1.0, layer_decay=0.5)
    before = {id(p): g["ratio"] for g in parameter_groups(weight_layers(model), default) for p in g["params"]}
    for name, p in model.named_parameters():
        assert ratio[id(p)] == before[id(p)] * (64.0 if name.endswith(".bias") else 1.0), name


def test_frozen_parameters_are_left_out():
    model = network()
    model[0].requires_grad_(False)
    grouped = [p for group in parameter_groups(weight_layers(model), SGD()) for p in group["params"]]
    assert not any(p is q for p in grouped for q in model[0].parameters())


def test_a_class_of_torch_can_be_used_with_its_learning_rate():
    option = ExternalOptimizer.wrap(torch.optim.RAdam, {"lr": 0.01, "betas": (0.9, 0.99)})
    assert option.lr == 0.01
    assert option.momentum_key == "betas"
    assert isinstance(option.build([{"params": [nn.Parameter(torch.zeros(1))]}]), torch.optim.RAdam)
    assert ExternalOptimizer.wrap(torch.optim.RMSprop, {"lr": 1}).momentum_key == "momentum"
    assert ExternalOptimizer.wrap(torch.optim.Adadelta, {"lr": 1}).momentum_key is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"optimizer\.lr: must be given"),
        ({"lr": 0}, r"optimizer\.lr = 0: must be a number > 0"),
        ({"lr": "fast"}, r"optimizer\.lr = 'fast': must be a number > 0"),
        ({"lr": 1.0, "weight_decay": -1}, r"optimizer\.weight_decay = -1: must be a number >= 0"),
    ],
)
def test_the_learning_rate_of_a_class_of_torch_must_be_given_and_valid(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ExternalOptimizer.wrap(torch.optim.RAdam, arguments)


@pytest.mark.parametrize(
    ("kind", "invalid"),
    [
        (SGD, {"lr": 0}), (SGD, {"weight_decay": -1}), (SGD, {"clip_norm": -1}), (SGD, {"layer_decay": 0}),
        (SGD, {"bias_lr_mult": 0}),
        (Momentum, {"momentum": 1}), (Momentum, {"momentum": 0}), (Adam, {"betas": (0.9, 1.0)}), (Adam, {"eps": 0}),
        (Adadelta, {"rho": 1}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_rejected_with_the_name_of_its_parameter(kind, invalid):
    with pytest.raises(ValueError, match=next(iter(invalid))):
        kind(**invalid)


def test_adagrad_sums_squared_gradients_with_epsilon_inside_the_root():
    def rule(w, g, m, t):
        m["G"] = m.get("G", 0) + g**2
        return w - 0.1 * g / np.sqrt(m["G"] + 0.01)

    assert updated(Adagrad(lr=0.1, eps=0.01)) == pytest.approx(reference(rule), rel=1e-9)
    assert updated(Adagrad(lr=0.1, eps=0.01, weight_decay=0.3)) == pytest.approx(reference(rule, 0.3), rel=1e-9)


def test_rmsprop_averages_squared_gradients_with_epsilon_inside_the_root():
    def rule(w, g, m, t):
        m["G"] = 0.8 * m.get("G", 0) + 0.2 * g**2
        return w - 0.1 * g / np.sqrt(m["G"] + 0.01)

    assert updated(RMSprop(lr=0.1, gamma=0.8, eps=0.01)) == pytest.approx(reference(rule), rel=1e-9)


def test_adam_uncorrected_has_no_bias_correction():
    def rule(w, g, m, t):
        m["m"] = 0.9 * m.get("m", 0) + 0.1 * g
        m["G"] = 0.99 * m.get("G", 0) + 0.01 * g**2
        return w - 0.1 * m["m"] / np.sqrt(m["G"] + 0.01)

    assert updated(AdamUncorrected(lr=0.1, betas=(0.9, 0.99), eps=0.01)) == pytest.approx(reference(rule), rel=1e-9)


@pytest.mark.parametrize(
    ("option", "make_torch_optimizer"),
    [
        (Adagrad(lr=0.1, eps=1e-20), lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-10)),
        (RMSprop(lr=0.1, eps=1e-20), lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-10)),
        (Adagrad(lr=0.1, epsilon_inside_root=False), lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-8)),
        (RMSprop(lr=0.1, epsilon_inside_root=False), lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-8)),
    ],
)
def test_adagrad_and_rmsprop_equal_torchs_if_epsilon_is_negligible_or_outside_the_root(option, make_torch_optimizer):
    weight = nn.Parameter(torch.tensor(START).clone())
    optimizer = make_torch_optimizer([weight])
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    assert updated(option) == pytest.approx(weight.detach().numpy(), rel=1e-6)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_muon_equals_torchs_on_matrices(shape):
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    one = Muon(lr=0.1, momentum=0.9).build([{"params": [ours], "weight_decay": 0.2, "kind": "matrix"}])
    other = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.2)
    for _ in range(4):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=0.02)  # torch's iteration is in bf16


def test_the_singular_values_of_a_muon_step_are_close_to_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(16, 3, 3, 3).reshape(16, -1)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_updates_matrices_and_kernels_and_nesterov_the_other_parameters():
    option = Muon(rest=0.5)
    model = network()
    kinds = {
        id(p): (g["kind"], g["ratio"]) for g in parameter_groups(weight_layers(model), option) for p in g["params"]
    }
    assert kinds[id(model[0].weight)] == ("matrix", 1.0)
    assert kinds[id(model[0].bias)] == kinds[id(model[1].weight)] == ("rest", 0.5)
    assert kinds[id(model[3].weight)] == ("rest", 0.5), "the last layer"
    assert updated(Muon(lr=0.1, momentum=0.8)) == pytest.approx(
        updated(Nesterov(lr=0.1, momentum=0.8, weight_decay=0.0))
    )


EVERY = [
    SGD(lr=0.05), Momentum(lr=0.01), Nesterov(lr=0.01), Adagrad(lr=0.5), RMSprop(lr=0.02), Adadelta(lr=5.0), Adam(lr=0.05),
    AdamUncorrected(lr=0.05), AdamW(lr=0.05), Muon(lr=0.01),
]  # fmt: skip


@pytest.mark.parametrize("option", EVERY, ids=lambda o: type(o).__name__)
def test_every_optimizer_minimizes_an_ill_conditioned_quadratic(option):
    """On (x² + 20 y²)/2, starting at (1, 1), the value decreases to a hundredth."""
    point = nn.Parameter(torch.ones(1, 2, dtype=torch.float64))
    optimizer = option.build(parameter_groups([[("p", point)]], option))
    for _ in range(800):
        optimizer.zero_grad()
        value = (point**2 * torch.tensor([[1.0, 20.0]])).sum() / 2
        value.backward()
        optimizer.step()
    assert value.item() < 0.105


@pytest.mark.parametrize("option", EVERY, ids=lambda o: type(o).__name__)
def test_the_state_of_an_optimizer_is_restored_exactly(option):
    models = [network() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [option.build(parameter_groups(weight_layers(m), option)) for m in models]

    def step(model, optimizer, seed) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(4, 1, 4, 4)).square().sum().backward()
        optimizer.step()

    for seed in range(3):
        step(models[0], optimizers[0], seed)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for seed in range(3, 6):
        for model, optimizer in zip(models, optimizers, strict=True):
            step(model, optimizer, seed)
    for one, other in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(one, other)
