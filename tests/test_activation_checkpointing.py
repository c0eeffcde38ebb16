"""Activation checkpointing: results are those without it, bit for bit; what cannot be computed twice is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import same
from torch import nn

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.activation_checkpointing import blocks, checkpoint_blocks
from trainer.engine.batch_size import saved_bytes
from trainer.engine.loop import fit
from trainer.errors import ConfigError

SMALL = ("data=fake", "data.size=8", "data.count=100", "data.num_classes=3", "batch_size=16", "epochs=1", "device=cpu")
ON = "engine.checkpoint_activations=true"


@pytest.mark.parametrize(
    "overrides",
    [
        (
            "architecture=resnet20",
            "regularizer=[dropout,stochastic_depth]",
            "regularizer.dropout.where=all",
            "averaging=ema",
        ),
        ("architecture=resnet20", "recipe=gradual", "epochs=3.4", "recipe.lr=0.01", "micro_batch=5", "regularizer=[]"),
        (
            "architecture=wide_resnet",
            "architecture.depth=10",
            "architecture.widen_factor=1",
            "precision=bf16",
            "regularizer=[mixup]",
        ),
    ],
)
def test_training_equals_training_without_it_bit_for_bit(overrides):
    def trained(*more: str):
        run = build(load_config([*SMALL, *overrides, *more]))
        fit(run)
        state = run.state()
        for row in state["history"]:
            row["seconds"] = row["images_per_second"] = 0.0
        return state

    assert same(trained(), trained(ON))


def test_less_is_kept_for_the_backward_pass():
    plain, saving = (build(load_config([*SMALL, "architecture=resnet20", *more])) for more in ((), (ON,)))
    assert saved_bytes(saving, 16) < 0.4 * saved_bytes(plain, 16)
    assert saving.notes[-1] != plain.notes[-1] or saving.notes != plain.notes
    assert "the activations within 9 blocks are computed again in the backward pass" in saving.notes


def test_a_copy_of_a_network_trains_its_own_parameters():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.TransformerEncoderLayer(4, 1, 8), nn.TransformerEncoderLayer(4, 1, 8)))
    assert checkpoint_blocks(network, (3, 4)) == 2
    other = copy.deepcopy(network)
    other(torch.ones(2, 3, 4)).sum().backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None for p in other.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet18", 8), ("densenet121", 58), ("convnext_tiny", 18), ("vit_b_16", 12), ("efficientnet_b0", 16)],
)
def test_the_blocks_are_those_of_the_paper(name, count):
    from torchvision import models

    with torch.device("meta"):
        assert len(blocks(getattr(models, name)())) == count


class Counting(nn.Module):
    """A block with a buffer that each forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.inner(x)


def test_a_network_without_blocks_or_with_another_state_than_statistics_is_refused():
    with pytest.raises(ConfigError, match="needs a network of blocks"):
        build(load_config([*SMALL, "architecture=cnn", ON]))
    network = nn.Sequential(nn.Sequential(Counting(), nn.ReLU()), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match=r"0\.0\.passes changes with each forward pass"):
        checkpoint_blocks(network, (4,))
    assert float(network.state_dict()["0.0.passes"]) == 0


@pytest.mark.parametrize("other", ["engine.compile=default", "engine.graph=on"])
def test_what_does_not_go_together_with_it_is_refused(other):
    with pytest.raises(ConfigError, match=r"engine\.checkpoint_activations.*needs engine\.compile=off"):
        load_config([*SMALL, "architecture=resnet20", ON, other, *(["engine=gpu"] if "graph" in other else [])])
