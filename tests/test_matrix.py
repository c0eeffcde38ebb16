"""Everything goes with everything: random choices from every group are built and trained for two steps."""

from __future__ import annotations

import math
import random

import pytest
import torch

from trainer.build import build
from trainer.config.compose import compose
from trainer.config.constraints import check_config
from trainer.config.options import CONF, LISTS, options
from trainer.config.schema import SINGLE, resolve
from trainer.engine.loop import fit

GROUPS = options([CONF])
SMALL = (
    "data=fake",
    "data.size=16",
    "data.count=60",
    "data.num_classes=3",
    "batch_size=16",
    "epochs=0.2",
    "device=cpu",
)
# Large networks are made small; what would need files of its own is left out.
SMALLER = {
    "mlp": "architecture.widths=[8]",
    "cnn": "architecture.widths=[4,8]",
    "resnet20": "architecture.depth=8",
    "wide_resnet": "architecture.depth=10",
    "densenet": "architecture.depth=10",
    "cifar10_full": "architecture.norm=response",
}
RESIDUAL = ("resnet20", "wide_resnet")
LEFT_OUT = {"data", "job", "observer", "engine", "recipe"}


def drawn(seed: int) -> list[str]:
    """One option of every single group, up to three of every list."""
    rng = random.Random(seed)
    words = list(SMALL)
    for group in [*SINGLE, *LISTS]:
        names = sorted(GROUPS[group])
        if group in LEFT_OUT:
            continue
        if group == "architecture":
            names = list(SMALLER)
        names = [name for name in names if name != "pretrained"]  # of another run
        if group not in LISTS:
            name = rng.choice(names)
            words.append(f"{group}={name}")
            words += [SMALLER[name]] if name in SMALLER else []
        else:
            chosen = rng.sample(names, rng.randint(0, 3))
            if group == "augmentation":
                chosen = [n for n in chosen if n != "none"]
            if group == "regularizer" and not any(w == f"architecture={r}" for w in words for r in RESIDUAL):
                chosen = [n for n in chosen if n != "stochastic_depth"]
            words.append(f"{group}=[{','.join(chosen)}]")
    return words


def tried(seed: int) -> None:
    words = drawn(seed)
    config = resolve(compose([w for w in words if w]))
    problems = check_config(config)
    if problems:  # the one pair that cannot be: a momentum schedule and an optimizer without momentum
        assert all("OneCycle moves the momentum" in str(p) for p in problems), problems
        return
    run = build(config)
    before = [p.detach().clone() for p in run.model.parameters()]
    result = fit(run)
    assert run.clock.step >= 1
    assert math.isfinite(run.history[-1]["train_loss"]), words
    assert all(bool(torch.isfinite(p).all()) for p in run.model.parameters()), words
    if not any(w == "initialization=zeros" for w in words):
        assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)), words
    assert result["stop_reason"]


@pytest.mark.parametrize("seed", range(30))
def test_options_drawn_from_every_group_train_together(seed):
    tried(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 330))
def test_many_more_options_drawn_from_every_group_train_together(seed):
    tried(seed)


@pytest.mark.parametrize("architecture", sorted(GROUPS["architecture"]))
def test_every_architecture_trains_a_step(architecture):
    run = build(
        resolve(
            compose(
                [
                    *SMALL,
                    "data.size=32",
                    f"architecture={architecture}",
                    "epochs=0.1",
                    "data.validation=0",
                    "regularizer=[]",
                ]
            )
        )
    )
    fit(run)
    assert math.isfinite(run.history[-1]["train_loss"])
