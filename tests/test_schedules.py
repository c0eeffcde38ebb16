"""Schedules against torch's own, against numbers of the papers, and what all of them promise."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trainer.schedules
from trainer.errors import ConfigError
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

STEPS = 10  # of an epoch
EVERY = [
    Constant(), Step(), MultiStep(), Plateau(), Linear(total=12), InverseSqrt(), Exponential(), Cosine(total=12),
    CLR(), CLR(policy="triangular2"), CLR(policy="exp_range", gamma=0.9), WarmRestarts(), WarmRestarts(cycle_mult=2.0),
    OneCycle(total=12), Warmup(), Product((Warmup(), Cosine(total=12))),
]  # fmt: skip


def rates(make, steps: int) -> list[float]:
    """The rates that a scheduler of torch sets, step by step, for a peak rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return found


of = torch.optim.lr_scheduler
ORACLES = {
    "step": (Step(every=3, factor=0.5), lambda o: of.StepLR(o, 3 * STEPS, 0.5)),
    "multistep": (MultiStep(milestones=(2.0, 5.0), factor=0.1), lambda o: of.MultiStepLR(o, [2 * STEPS, 5 * STEPS], 0.1)),
    "exponential": (Exponential(k=0.3), lambda o: of.ExponentialLR(o, math.exp(-0.3 / STEPS))),
    "linear": (Linear(total=10, floor=0.1), lambda o: of.LinearLR(o, 1.0, 0.1, 10 * STEPS)),
    "cosine": (Cosine(total=10, floor=0.05), lambda o: of.CosineAnnealingLR(o, 10 * STEPS, eta_min=0.05)),
    "warm restarts": (WarmRestarts(cycle=2, cycle_mult=2), lambda o: of.CosineAnnealingWarmRestarts(o, 2 * STEPS, 2)),
    "triangular": (CLR(step_size=2, floor=0.1), lambda o: of.CyclicLR(o, 0.1, 1.0, 2 * STEPS, cycle_momentum=False)),
    "triangular2": (
        CLR(step_size=2, floor=0.1, policy="triangular2"),
        lambda o: of.CyclicLR(o, 0.1, 1.0, 2 * STEPS, mode="triangular2", cycle_momentum=False),
    ),
    "exp_range": (
        CLR(step_size=2, floor=0.1, policy="exp_range", gamma=0.9),
        lambda o: of.CyclicLR(o, 0.1, 1.0, 2 * STEPS, mode="exp_range", gamma=0.9 ** (1 / STEPS), cycle_momentum=False),
    ),
    "warmup": (Warmup(epochs=2, start=0.1), lambda o: of.LinearLR(o, 0.1, 1.0, 2 * STEPS)),
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_a_schedule_gives_the_rates_of_torchs_scheduler(name):
    schedule, make = ORACLES[name]
    expected = rates(make, 10 * STEPS)
    assert [schedule(i / STEPS) for i in range(10 * STEPS)] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_cycle_gives_the_rates_and_momenta_of_torchs():
    total = 10 * STEPS
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = of.OneCycleLR(
        optimizer, 1.0, total_steps=total + 1, pct_start=0.3, div_factor=25, final_div_factor=4000
    )
    # torch divides the first rate, not the peak, by final_div_factor, and its rise ends at step 0.3 total_steps - 1
    schedule = OneCycle(total=10, rise=(0.3 * (total + 1) - 1) / total, div=25, final_div=25 * 4000)
    found, momenta = [], []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert [schedule(i / STEPS) for i in range(total)] == pytest.approx(found, abs=1e-6)
    assert [schedule.momentum_at(i / STEPS) for i in range(total)] == pytest.approx(momenta, abs=1e-6)


def test_clr_has_the_published_values_for_cifar10():
    """Smith 2015, table 1: base 0.001, max 0.006, step size 2000 iterations, at 500 iterations an epoch."""
    schedule = CLR(step_size=4, floor=1 / 6)
    peak = 0.006
    assert [round(peak * schedule(t), 4) for t in (0, 2, 4, 6, 8)] == [0.001, 0.0035, 0.006, 0.0035, 0.001]


def test_plateau_falls_like_torchs_reduce_on_plateau():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(60, generator=generator).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = of.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, threshold=0.0, eps=0.0)
    # torch falls when more than `patience` epochs failed; ours after `patience` of them
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
def test_schedules_multiply_whatever_their_order(schedules, t):
    product = Product(tuple(schedules))
    assert product(t, History()) == pytest.approx(math.prod(s(t, History()) for s in schedules))
    assert product(t, History()) == pytest.approx(Product(tuple(reversed(schedules)))(t, History()))


@given(st.floats(1, 9), st.floats(1, 3), st.integers(0, 5))
def test_warm_restarts_begin_again_at_one_where_their_cycles_end(cycle, mult, index):
    schedule = WarmRestarts(cycle=cycle, cycle_mult=mult)
    ends = schedule.cycle_ends(200.0)
    if index < len(ends):
        assert schedule(ends[index] + 1e-6) == pytest.approx(1.0, abs=1e-3)
        assert schedule(ends[index] - 1e-3) == pytest.approx(0.0, abs=1e-3)


def test_cycles_end_within_the_time_that_is_given():
    assert CLR(step_size=2).cycle_ends(9) == [4, 8]
    assert WarmRestarts(cycle=1, cycle_mult=2).cycle_ends(8) == [1, 3, 7]
    assert Product((CLR(step_size=1), WarmRestarts(cycle=3))).cycle_ends(6) == [2, 3, 4, 6]
    assert Cosine(total=8).cycle_ends(8) == []


def test_a_schedule_whose_length_is_open_takes_that_of_the_phase():
    assert Cosine().over(8)(4) == pytest.approx(0.5)
    assert Cosine(total=4).over(8)(4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"Cosine\.total is open"):
        Cosine()(1.0)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Step, {"every": 0}), (Step, {"factor": 0}), (Step, {"factor": 1.1}), (MultiStep, {"milestones": (2.0, 1.0)}),
        (Plateau, {"patience": 0}), (Plateau, {"floor": 1.0}), (Linear, {"floor": -0.1}), (Linear, {"total": 0}),
        (InverseSqrt, {"scale": 0}), (Exponential, {"k": -1}), (CLR, {"step_size": 0}), (CLR, {"policy": "saw"}),
        (CLR, {"gamma": 0}), (WarmRestarts, {"cycle_mult": 0.5}), (OneCycle, {"rise": 1}), (OneCycle, {"div": 0.5}),
        (OneCycle, {"momentum_low": 0.99}), (Warmup, {"epochs": 0}), (Warmup, {"start": 1}), (Cosine, {"floor": 1}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(kind, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)


def test_a_curve_can_be_drawn_before_training():
    times, values = curve(Cosine(total=10), 10, points=11)
    assert times == [float(i) for i in range(11)]
    assert values == pytest.approx([(1 + math.cos(math.pi * i / 10)) / 2 for i in range(11)])


def test_every_schedule_is_in_the_list_above():
    kinds = {kind for kind in vars(trainer.schedules).values() if isinstance(kind, type) and issubclass(kind, Schedule)}
    assert {type(s) for s in EVERY} == kinds - {Schedule, Timed}


SMOOTH = [
    Linear(total=12), InverseSqrt(), Exponential(), Cosine(total=12), CLR(), CLR(policy="triangular2"),
    CLR(policy="exp_range", gamma=0.9), OneCycle(total=12), Warmup(), Product((Warmup(), Cosine(total=12))),
]  # fmt: skip


@given(st.sampled_from(SMOOTH), st.floats(0, 14))
def test_what_is_no_staircase_and_no_restart_has_no_jumps(schedule, t):
    """Also where cycles, rise and fall, or warm-up and the rest join."""
    assert schedule(t + 1e-6) == pytest.approx(schedule(t), abs=1e-5)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (Linear(total=12, floor=0.1), 0.1), (Cosine(total=12, floor=0.2), 0.2), (OneCycle(total=12, final_div=1e4), 1e-4),
        (CLR(step_size=3, floor=0.3), 0.3), (Warmup(epochs=2), 1.0), (Exponential(k=0.1), math.exp(-1.2)),
        (InverseSqrt(), 1 / math.sqrt(12)), (Step(every=4, factor=0.5), 0.125), (WarmRestarts(cycle=4), 1.0),
    ],
)  # fmt: skip
def test_a_schedule_ends_where_it_says(schedule, end):
    assert schedule(12.0) == pytest.approx(end)
