"""Combinations of techniques: training to the end, and exact resume from a checkpoint in between."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from conftest import same, without_clock

from trainer.builder import build
from trainer.config.constraints import check_config
from trainer.config.load import load_config
from trainer.config.options import OptionFiles
from trainer.engine.loop import fit
from trainer.engine.observer import Observer
from trainer.errors import ConfigError
from trainer.interrupt import Interrupt

GROUPS = {group: sorted(files) for group, files in OptionFiles().groups.items()}
SMALL = (
    "data=fake", "data.size=16", "data.count=60", "data.num_classes=3", "batch_size=20", "epochs=2", "device=cpu",
    "architecture.widths=[4]", "data.test=0", "regularizer=[]",
)  # fmt: skip
# Architectures for which the data above is too small, or that are made small to save time.
ARCHITECTURES = {
    "airbench": ["architecture.widths=[4,8]"],
    "cnn": [], "mlp": [], "resnet20": ["architecture.depth=8"], "resnet56": ["architecture.depth=8"],
    "resnet110": ["architecture.depth=8"], "wide_resnet": ["architecture.depth=10", "architecture.widen_factor=1"],
    "densenet": ["architecture.depth=10", "architecture.growth_rate=4"], "cifar10_full": [], "resnet18_cifar": [],
    "torchvision": ["architecture.name=squeezenet1_1", "data.size=32", "architecture.keep_activation=false"],
    "timm": ["architecture.name=resnet10t", "data.size=32", "architecture.keep_activation=false"],
}  # fmt: skip
HEAVY = ("resnet18_cifar", "torchvision", "timm")


def overrides_for(architecture: str) -> list[str]:
    small = [o for o in SMALL if not o.startswith("architecture.") or architecture in ("cnn", "mlp")]
    return [*small, f"architecture={architecture}", *ARCHITECTURES[architecture]]


def resumes_exactly(*overrides: str) -> None:
    """Check that an interrupted run, saved and loaded into a new one, ends as the uninterrupted run does, bit for bit."""
    config = load_config(list(overrides))
    if problems := check_config(config):
        raise ConfigError(*problems)
    uninterrupted = build(config)
    fit(uninterrupted)
    assert math.isfinite(uninterrupted.history[-1]["train_loss"])
    interrupt = Interrupt()

    class AskAfterFirstStep(Observer):
        def on_step_end(self, view):
            if view.step == 1:
                interrupt.ask()

    first = build(config)
    fit(first, [AskAfterFirstStep()], interrupt)
    assert first.interrupted
    assert first.clock.step == 2
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second = build(config)
    torch.manual_seed(12345)  # a new process would have drawn other numbers by then
    second.load(torch.load(file, weights_only=True))
    fit(second)
    expected, resumed = uninterrupted.state(), second.state()
    expected["history"], resumed["history"] = without_clock(expected["history"]), without_clock(resumed["history"])
    assert same(expected, resumed)


def pairs(first: Sequence[object], second: Sequence[object]) -> list[Any]:
    """All pairs, of which a quarter, with every value of both at least once, belongs to the default run."""
    return [
        pytest.param(a, b, marks=[] if (i + j) % 4 == 0 else pytest.mark.slow)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    ]


def test_a_quarter_of_pairs_has_every_value():
    chosen = [p.values for p in pairs("abcdefg", range(5)) if not p.marks]
    assert {a for a, _ in chosen} == set("abcdefg")
    assert {b for _, b in chosen} == set(range(5))


@pytest.mark.parametrize(("optimizer", "schedule"), pairs(GROUPS["optimizer"], GROUPS["schedule"]))
def test_every_optimizer_works_with_every_schedule(optimizer, schedule):
    overrides = (*SMALL, f"optimizer={optimizer}", f"schedule=[{schedule}]")
    if schedule == "one_cycle" and load_config([f"optimizer={optimizer}"]).optimizer.momentum_key is None:
        with pytest.raises(ConfigError, match="one_cycle moves the momentum"):
            resumes_exactly(*overrides)
    else:
        resumes_exactly(*overrides)


@pytest.mark.parametrize("regularizer", GROUPS["regularizer"])
def test_every_regularizer_resumes_exactly(regularizer):
    resumes_exactly(*overrides_for("resnet20"), f"regularizer=[{regularizer}]", "averaging=ema")


@pytest.mark.parametrize("averaging", GROUPS["averaging"])
def test_all_regularizers_at_once_resume_exactly(averaging):
    everything = ",".join(GROUPS["regularizer"])
    resumes_exactly(
        *overrides_for("resnet20"), f"regularizer=[{everything}]", f"averaging={averaging}", "schedule=[warmup,plateau]"
    )


LIGHT = [name for name in ARCHITECTURES if name not in HEAVY]


@pytest.mark.parametrize(("architecture", "activation"), pairs(LIGHT, GROUPS["activation"]))
def test_every_activation_works_in_every_architecture(architecture, activation):
    resumes_exactly(*overrides_for(architecture), f"activation={activation}", "epochs=1.5")


@pytest.mark.parametrize(
    ("architecture", "initialization"), pairs(LIGHT, [i for i in GROUPS["initialization"] if i != "pretrained"])
)
def test_every_initialization_works_in_every_architecture(architecture, initialization):
    resumes_exactly(*overrides_for(architecture), f"initialization={initialization}", "epochs=1.5")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["activation", "initialization"])
@pytest.mark.parametrize("architecture", HEAVY)
def test_large_architectures_take_every_activation_and_initialization(architecture, group):
    for name in GROUPS[group]:
        if name != "pretrained":  # needs another run
            resumes_exactly(*overrides_for(architecture), f"{group}={name}", "epochs=1.5")


def test_every_architecture_is_tested():
    assert set(ARCHITECTURES) == set(GROUPS["architecture"])


@pytest.mark.slow
@pytest.mark.parametrize(("augmentation", "kind"), pairs(GROUPS["augmentation"], [(1, 15), (3, 16), (1, 16), (3, 15)]))
def test_every_augmentation_works_in_memory_and_streaming_on_grayscale_and_color(augmentation, kind):
    channels, size = kind
    overrides = [
        *SMALL,
        f"data.channels={channels}",
        f"data.size={size}",
        f"augmentation=[{augmentation}]",
        "epochs=1.5",
    ]
    overrides = [w for w in overrides if w not in ("data.size=16",) or size == 16]
    if augmentation == "none":
        overrides[-2] = "augmentation=none"
    for way in ("auto", "streaming"):
        resumes_exactly(*overrides, f"data.loading={way}")


def test_a_run_says_that_an_augmentation_of_colors_has_no_effect_on_grayscale_images():
    for channels, said in ((1, True), (3, False)):
        run = build(load_config([*SMALL, f"data.channels={channels}", "augmentation=[hue_saturation]"]))
        assert ("augmentation.hue_saturation has no effect: the images are grayscale" in run.notes) is said


def test_a_run_says_which_times_of_its_schedule_it_does_not_reach():
    overrides = ["data=fake", "schedule=[warmup,multistep]", "schedule.warmup.epochs=4", "epochs=3"]
    notes = build(load_config([*overrides, "schedule.multistep.milestones=[2,3,5,6]"])).notes
    assert "schedule.warmup.epochs = 4 is not reached: training ends after 3 epochs" in notes
    assert "schedule.multistep.milestones = 5, 6 is not reached: training ends after 3 epochs" in notes
    assert not any("is not reached" in note for note in build(load_config([*overrides, "epochs=13"])).notes)
