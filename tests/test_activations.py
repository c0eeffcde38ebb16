"""Activations: their values, against their equations."""

from __future__ import annotations

import pytest
import torch

from trainer.activations import Activation


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu", "identity"])
def test_an_activation_equals_its_equation(name):
    x = torch.linspace(-3, 3, 13)
    expected = {
        "relu": x.clamp(min=0), "leaky_relu": torch.where(x > 0, x, 0.1 * x), "elu": torch.where(x > 0, x, x.exp() - 1),
        "tanh": (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), "sigmoid": 1 / (1 + (-x).exp()),
        "gelu": x * (1 + torch.erf(x / 2**0.5)) / 2, "silu": x / (1 + (-x).exp()), "identity": x,
    }[name]  # fmt: skip
    assert torch.allclose(Activation(name, 0.1 if name == "leaky_relu" else 0.0).build()(x), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "slope"), [("leaky_relu", 0.0), ("leaky_relu", 1.0), ("relu", 0.1)])
def test_only_leaky_relu_has_a_slope(name, slope):
    with pytest.raises(ValueError, match="slope"):
        Activation(name, slope)
