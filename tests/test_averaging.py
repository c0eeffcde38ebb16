"""Averages of the weights, against values computed by hand."""

from __future__ import annotations

import pytest
from torch import nn

from trainer.averaging import EMA, SWA


def averages(averaging, steps_of_epoch: int = 4, steps: int = 16) -> list[tuple[float, float]]:
    """Return the weight i of a model after each step i, and its average."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    averaged, values = averaging.build(model), []
    for i in range(1, steps + 1):
        nn.init.constant_(model.weight, float(i))
        averaging.update(averaged, model, i / steps_of_epoch, end_of_epoch=i % steps_of_epoch == 0)
        values.append((float(i), averaged.module.weight.item()))
    return values


def test_ema_equals_its_recursion():
    mean = None
    for value, averaged in averages(EMA(decay=0.8)):
        mean = value if mean is None else 0.8 * mean + 0.2 * value
        assert averaged == pytest.approx(mean, rel=1e-5)


def test_ema_equals_the_model_before_its_start():
    assert all(a == v for v, a in averages(EMA(decay=0.8, start=2.0))[:7])
    assert averages(EMA(decay=0.8, start=2.0))[9][1] != 10.0


def test_swa_is_the_mean_of_the_weights_at_the_ends_of_epochs_after_its_start():
    means = dict(averages(SWA(start=1.0)))
    assert means[4] == 4
    assert means[8] == pytest.approx((4 + 8) / 2)
    assert means[16] == pytest.approx((4 + 8 + 12 + 16) / 4)
