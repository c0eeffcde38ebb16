"""Schedules: equal to torch's, equal to published values, and the properties that all of them share."""

from __future__ import annotations

import math
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import trainer.schedules
from trainer.history import History
from trainer.schedules import (
    CLR,
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Product,
    Schedule,
    Step,
    Timed,
    WarmRestarts,
    Warmup,
    curve,
)  # fmt: skip

STEPS = 10  # per epoch
EVERY = [
    Constant(), Step(), MultiStep(), Plateau(), Linear(total=12), InverseSqrt(), Exponential(), Cosine(total=12),
    CLR(), CLR(policy="triangular2"), CLR(policy="exp_range", gamma=0.9), WarmRestarts(), WarmRestarts(cycle_mult=2.0),
    OneCycle(total=12), Warmup(), Product((Warmup(), Cosine(total=12))),
]  # fmt: skip


def learning_rates(make, steps: int) -> list[float]:
    """Return the learning rates that torch's scheduler sets at each step, for a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return values


ORACLES = {
    "step": (Step(every=3, factor=0.5), lambda o: lr_scheduler.StepLR(o, 3 * STEPS, 0.5)),
    "multistep": (
        MultiStep(milestones=(2.0, 5.0), factor=0.1), lambda o: lr_scheduler.MultiStepLR(o, [2 * STEPS, 5 * STEPS], 0.1)
    ),
    "exponential": (Exponential(k=0.3), lambda o: lr_scheduler.ExponentialLR(o, math.exp(-0.3 / STEPS))),
    "linear": (Linear(total=10, floor=0.1), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, 10 * STEPS)),
    "cosine": (Cosine(total=10, floor=0.05), lambda o: lr_scheduler.CosineAnnealingLR(o, 10 * STEPS, eta_min=0.05)),
    "warm restarts": (WarmRestarts(cycle=2, cycle_mult=2), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2 * STEPS, 2)),
    "triangular": (CLR(step_size=2, floor=0.1), lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 2 * STEPS, cycle_momentum=False)),
    "triangular2": (
        CLR(step_size=2, floor=0.1, policy="triangular2"),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 2 * STEPS, mode="triangular2", cycle_momentum=False),
    ),
    "exp_range": (
        CLR(step_size=2, floor=0.1, policy="exp_range", gamma=0.9),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 2 * STEPS, mode="exp_range", gamma=0.9 ** (1 / STEPS), cycle_momentum=False),
    ),
    "warmup": (Warmup(epochs=2, start=0.1), lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 2 * STEPS)),
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_a_schedule_gives_the_learning_rates_of_torchs_scheduler(name):
    schedule, make = ORACLES[name]
    expected = learning_rates(make, 10 * STEPS)
    assert [schedule(i / STEPS) for i in range(10 * STEPS)] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_cycle_gives_the_learning_rates_and_momenta_of_torchs():
    total = 10 * STEPS
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total + 1, pct_start=0.3, div_factor=25, final_div_factor=4000
    )
    # torch divides the initial learning rate, not the peak, by final_div_factor, and its rise ends at step 0.3 total_steps - 1
    schedule = OneCycle(total=10, rise=(0.3 * (total + 1) - 1) / total, div=25, final_div=25 * 4000)
    multipliers, momenta = [], []
    for _ in range(total):
        multipliers.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert [schedule(i / STEPS) for i in range(total)] == pytest.approx(multipliers, abs=1e-6)
    assert [schedule.momentum_at(i / STEPS) for i in range(total)] == pytest.approx(momenta, abs=1e-6)


def test_clr_has_the_published_values_for_cifar10():
    """Smith 2015, table 1: base 0.001, max 0.006, step size 2000 iterations, with 500 iterations per epoch."""
    schedule = CLR(step_size=4, floor=1 / 6)
    peak = 0.006
    assert [round(peak * schedule(t), 4) for t in (0, 2, 4, 6, 8)] == [0.001, 0.0035, 0.006, 0.0035, 0.001]


def test_plateau_drops_when_torchs_reduce_on_plateau_does():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(60, generator=generator).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, threshold=0.0, eps=0.0)
    # torch drops after more than `patience` epochs without improvement; ours after `patience` epochs
    schedule = Plateau(patience=4, factor=0.5)
    rows = []
    for loss in losses:
        scheduler.step(loss)
        rows.append({"validation_loss": loss})
        assert schedule(1.0, History(rows)) == optimizer.param_groups[0]["lr"]


@given(st.sampled_from(EVERY), st.floats(0, 40))
def test_a_multiplier_stays_between_zero_and_one(schedule, t):
    assert -1e-12 <= schedule(t, History()) <= 1 + 1e-9


@given(st.sampled_from(EVERY), st.floats(0, 40))
def test_the_same_time_gives_the_same_multiplier(schedule, t):
    assert schedule(t, History()) == schedule(t, History())


@given(st.lists(st.sampled_from(EVERY), max_size=3), st.floats(0, 12))
def test_schedules_multiply_in_any_order(schedules, t):
    product = Product(tuple(schedules))
    assert product(t, History()) == pytest.approx(math.prod(s(t, History()) for s in schedules))
    assert product(t, History()) == pytest.approx(Product(tuple(reversed(schedules)))(t, History()))


@given(st.floats(1, 9), st.floats(1, 3), st.integers(0, 5))
def test_warm_restarts_restart_at_one_when_a_cycle_ends(cycle, mult, index):
    schedule = WarmRestarts(cycle=cycle, cycle_mult=mult)
    ends = schedule.cycle_ends(200.0)
    if index < len(ends):
        assert schedule(ends[index] + 1e-6) == pytest.approx(1.0, abs=1e-3)
        assert schedule(ends[index] - 1e-3) == pytest.approx(0.0, abs=1e-3)


def test_cycle_ends_lie_within_the_given_time():
    assert CLR(step_size=2).cycle_ends(9) == [4, 8]
    assert WarmRestarts(cycle=1, cycle_mult=2).cycle_ends(8) == [1, 3, 7]
    assert Product((CLR(step_size=1), WarmRestarts(cycle=3))).cycle_ends(6) == [2, 3, 4, 6]
    assert Cosine(total=8).cycle_ends(8) == []


def test_a_schedule_without_a_length_takes_that_of_the_phase():
    assert Cosine().over(8)(4) == pytest.approx(0.5)
    assert Cosine(total=4).over(8)(4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"Cosine\.total is null"):
        Cosine()(1.0)


@pytest.mark.parametrize(
    ("kind", "invalid"),
    [
        (Step, {"every": 0}), (Step, {"factor": 0}), (Step, {"factor": 1.1}), (MultiStep, {"milestones": (2.0, 1.0)}),
        (Plateau, {"patience": 0}), (Plateau, {"floor": 1.0}), (Linear, {"floor": -0.1}), (Linear, {"total": 0}),
        (InverseSqrt, {"scale": 0}), (Exponential, {"k": -1}), (CLR, {"step_size": 0}), (CLR, {"policy": "saw"}),
        (CLR, {"gamma": 0}), (WarmRestarts, {"cycle_mult": 0.5}), (OneCycle, {"rise": 1}), (OneCycle, {"div": 0.5}),
        (OneCycle, {"momentum_low": 0.99}), (Warmup, {"epochs": 0}), (Warmup, {"start": 1}), (Cosine, {"floor": 1}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_rejected_with_the_name_of_its_parameter(kind, invalid):
    with pytest.raises(ValueError, match=next(iter(invalid))):
        kind(**invalid)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_a_schedule_survives_pickling_and_fills_in_its_length_only_once(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule.over(3.0).over(12.0) == schedule.over(3.0)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_a_schedule_declares_whether_it_moves_the_momentum(schedule):
    declared = any(factor.moves_momentum for factor in schedule.factors())
    assert declared == (schedule.momentum_at(0.0) is not None)


def test_the_factors_of_nested_products_are_listed_in_order():
    product = Product((Warmup(), Product((Cosine(total=12), OneCycle(total=12)))))
    assert product.factors() == (Warmup(), Cosine(total=12), OneCycle(total=12))


def test_a_schedule_can_be_plotted_before_training():
    times, values = curve(Cosine(total=10), 10, points=11)
    assert times == [float(i) for i in range(11)]
    assert values == pytest.approx([(1 + math.cos(math.pi * i / 10)) / 2 for i in range(11)])


def test_the_list_above_contains_every_schedule():
    kinds = {kind for kind in vars(trainer.schedules).values() if isinstance(kind, type) and issubclass(kind, Schedule)}
    assert {type(s) for s in EVERY} == kinds - {Schedule, Timed}


SMOOTH = [
    Linear(total=12), InverseSqrt(), Exponential(), Cosine(total=12), CLR(), CLR(policy="triangular2"),
    CLR(policy="exp_range", gamma=0.9), OneCycle(total=12), Warmup(), Product((Warmup(), Cosine(total=12))),
]  # fmt: skip


@given(st.sampled_from(SMOOTH), st.floats(0, 14))
def test_schedules_other_than_drops_and_restarts_are_continuous(schedule, t):
    """Including between cycles, between rise and fall, and at the end of warmup."""
    assert schedule(t + 1e-6) == pytest.approx(schedule(t), abs=1e-5)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (Linear(total=12, floor=0.1), 0.1), (Cosine(total=12, floor=0.2), 0.2), (OneCycle(total=12, final_div=1e4), 1e-4),
        (CLR(step_size=3, floor=0.3), 0.3), (Warmup(epochs=2), 1.0), (Exponential(k=0.1), math.exp(-1.2)),
        (InverseSqrt(), 1 / math.sqrt(12)), (Step(every=4, factor=0.5), 0.125), (WarmRestarts(cycle=4), 1.0),
    ],
)  # fmt: skip
def test_a_schedule_has_the_expected_final_value(schedule, end):
    assert schedule(12.0) == pytest.approx(end)
