"""Options of all groups can be combined: random combinations are built and trained for a few steps."""

from __future__ import annotations

import math
import random

import pytest
import torch

from trainer.builder import build
from trainer.config.load import load_config
from trainer.config.options import LISTS, SINGLE, OptionFiles
from trainer.engine.loop import fit
from trainer.errors import ConfigError

GROUPS = OptionFiles().groups
SMALL = (
    "data=fake",
    "data.size=16",
    "data.count=60",
    "data.num_classes=3",
    "batch_size=16",
    "epochs=0.2",
    "device=cpu",
)
# Overrides that make large networks small.
SMALLER = {
    "mlp": "architecture.widths=[8]",
    "cnn": "architecture.widths=[4,8]",
    "resnet20": "architecture.depth=8",
    "wide_resnet": "architecture.depth=10",
    "densenet": "architecture.depth=10",
    "cifar10_full": "architecture.norm=response",
}
RESIDUAL = ("resnet20", "wide_resnet")
EXCLUDED = {"data", "job", "observer", "engine", "recipe", "task"}  # for tasks, see TASKS
DIGITS = ("data=mnist5k_multitask", "data.limit=60")
TASKS: tuple[tuple[str, ...], ...] = (
    *((f"task.loss={loss}",) for loss in ("cross_entropy", "bce", "focal", "poly1")),
    ("task.class_weights=balanced",),
    ("data.sampling=balanced",),
    (*DIGITS, "task=multilabel", "task.target=properties"),
    (*DIGITS, "task=multilabel", "task.target=properties", "task.loss=asymmetric"),
    (*DIGITS, "task=regression", "task.target=slant", "task.geometry=invariant"),
    *((*DIGITS, "task=multitask", "task.tasks={digit:{},properties:{}}", f"task.weighting={weighting}")
      for weighting in ("fixed", "uncertainty", "dwa")),
    (*DIGITS, "task=multitask", "task.tasks={digit:{},slant:{geometry:invariant}}", "task.sharing=soft"),
)  # fmt: skip


def random_overrides(seed: int) -> list[str]:
    """Choose one option of every single-choice group and up to three of every list group."""
    rng = random.Random(seed)
    overrides = list(SMALL)
    for group in [*SINGLE, *LISTS]:
        names = sorted(GROUPS[group])
        if group in EXCLUDED:
            continue
        if group == "architecture":
            names = list(SMALLER)
        names = [name for name in names if name != "pretrained"]  # needs a checkpoint
        if group not in LISTS:
            name = rng.choice(names)
            overrides.append(f"{group}={name}")
            overrides += [SMALLER[name]] if name in SMALLER else []
        else:
            chosen = rng.sample(names, rng.randint(0, 3))
            if group == "augmentation":
                chosen = [n for n in chosen if n != "none"]
            if group == "regularizer" and not any(o == f"architecture={r}" for o in overrides for r in RESIDUAL):
                chosen = [n for n in chosen if n != "stochastic_depth"]
            overrides.append(f"{group}=[{','.join(chosen)}]")
    return with_task(rng.choice(TASKS), overrides)


def with_task(task: tuple[str, ...], overrides: list[str]) -> list[str]:
    """The overrides with those of a task; the data of a task replaces generated images."""
    if "data=mnist5k_multitask" not in task:
        return [*overrides, *task]
    kept = [word for word in overrides if not word.startswith("data")]
    augmentation = next(word for word in kept if word.startswith("augmentation="))
    enabled = load_config([*SMALL, augmentation]).augmentation  # of a preset, its parts
    return [*kept, *task, *(f"augmentation.{name}.force=true" for name in enabled if name in ("flip", "vertical_flip"))]


def assert_trains(seed: int) -> None:
    overrides = random_overrides(seed)
    try:
        config = load_config(overrides)
    except (
        ConfigError
    ) as error:  # the only invalid combination: a schedule of the momentum and an optimizer without one
        if all("one_cycle moves the momentum" in str(p) for p in error.problems):
            return
        raise
    try:
        run = build(config)
    except ConfigError as error:
        if "task=regression" in overrides and "the task has neither classes nor labels" in str(error):
            return  # numbers cannot be smoothed
        raise
    before = [p.detach().clone() for p in run.model.parameters()]
    result = fit(run)
    assert run.clock.step >= 1
    assert math.isfinite(run.history[-1]["train_loss"]), overrides
    assert all(bool(torch.isfinite(p).all()) for p in run.model.parameters()), overrides
    if not any(o == "initialization=zeros" for o in overrides):
        assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)), overrides
    assert result["stop_reason"]


@pytest.mark.parametrize("seed", range(30))
def test_random_options_of_all_groups_train_together(seed):
    assert_trains(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 180))
def test_many_more_random_options_of_all_groups_train_together(seed):
    assert_trains(seed)


@pytest.mark.parametrize("architecture", sorted(GROUPS["architecture"]))
def test_every_architecture_trains_a_step(architecture):
    overrides = ["data.size=32", f"architecture={architecture}", "epochs=0.1", "data.validation=0", "regularizer=[]"]
    run = build(load_config([*SMALL, *overrides]))
    fit(run)
    assert math.isfinite(run.history[-1]["train_loss"])
