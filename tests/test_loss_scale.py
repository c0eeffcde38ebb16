"""fp16 with loss scaling: the same as torch's scaler in a hand-written loop, exact resume, steps that overflow are left out."""

from __future__ import annotations

import pytest
import torch
from conftest import QUIET, load, same, same_run
from torch.nn import functional as F

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.step import train_step
from trainer.errors import ConfigError

SMALL = (
    "data=fake", "data.size=8", "data.count=100", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16",
    "precision=fp16",
)  # fmt: skip
CONSTANT = ("schedule=constant", "optimizer.lr=0.05", "regularizer=[]", "epochs=2", "device=cpu")


def run_of(*overrides: str):
    return build(load_config([*SMALL, *overrides]))


def test_training_equals_a_hand_written_loop_with_torchs_scaler_bit_for_bit():
    ours, theirs = run_of(*CONSTANT, "optimizer.clip_norm=0.5"), run_of(*CONSTANT)
    fit(ours)
    model, optimizer, scaler = theirs.model.train(), theirs.optimizer, torch.amp.GradScaler("cpu")
    for group in optimizer.param_groups:
        group["lr"] = 0.05 * group["ratio"]
    for epoch in range(2):
        for x, y in theirs.train.batches(epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                outputs = model(x)
            assert outputs.dtype is torch.float16
            scaler.scale(F.cross_entropy(outputs.float(), y)).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
    assert same(dict(ours.model.state_dict()), dict(model.state_dict()))
    assert ours.loss_scale is not None
    assert ours.loss_scale.state_dict() == scaler.state_dict()
    assert all(p.dtype is torch.float32 for p in ours.model.parameters())


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_step_that_overflows_is_left_out_and_halves_the_factor(on_nan):
    run = run_of(*CONSTANT, f"engine.on_nan={on_nan}")
    x, y = next(iter(run.train.batches(0)))
    assert run.loss_scale is not None
    run.loss_scale.load_state_dict({**run.loss_scale.state_dict(), "scale": 2.0**120})
    before = [p.detach().clone() for p in run.model.parameters()]
    train_step(run, x, y)
    assert same([p.detach() for p in run.model.parameters()], before)
    assert run.loss_scale.state_dict()["scale"] == 2.0**119
    run.loss_scale.load_state_dict({**run.loss_scale.state_dict(), "scale": 2.0**10})
    train_step(run, x, y)
    assert not any(torch.equal(p, b) for p, b in zip(run.model.parameters(), before, strict=True))
    if run.guard is not None:
        assert int(run.guard.skipped) == 1


def test_observers_and_clipping_see_gradients_of_the_loss_itself():
    scaled, plain = run_of(*CONSTANT, "micro_batch=8"), run_of(*CONSTANT, "micro_batch=8", "precision=float32")
    for run in (scaled, plain):
        train_step(run, *next(iter(run.train.batches(0))))
    for one, other in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=0.05, atol=0.05 * float(other.grad.abs().max()))


def test_resume_is_exact_and_the_checkpoint_has_the_factor(train):
    more = ["averaging=ema", "regularizer=[dropout,mixup]", "recipe=finetune", "recipe.head_epochs=1", "recipe.lr=0.01"]
    words = [*SMALL, *more, "schedule=constant", "device=cpu", QUIET]
    assert train(*words, "epochs=2", "output=cut")[0] == 0
    assert train(*words, "epochs=3", "output=whole")[0] == 0
    assert train("resume=cut", "epochs=3")[0] == 0
    assert same_run("cut", "whole")
    state = load("cut")["state"]["loss_scale"]
    assert state == load("whole")["state"]["loss_scale"]
    assert state["scale"] > 0
    assert state["_growth_tracker"] > 0


def test_a_step_with_loss_scaling_is_not_captured():
    with pytest.raises(ConfigError, match="cannot leave out steps, as loss scaling does"):
        load_config([*SMALL, "engine=gpu", "engine.graph=on"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_fp16_learns_on_a_gpu_and_is_close_to_float32():
    words = ["data=digits", "epochs=4", "regularizer=[]", "device=cuda", "observer=[]"]
    half, full = (build(load_config([*words, f"precision={name}"])) for name in ("fp16", "float32"))
    for run in (half, full):
        fit(run)
    assert half.capture is None
    assert half.history[-1]["validation_accuracy"] > 0.9
    assert abs(half.history[-1]["train_loss"] - full.history[-1]["train_loss"]) < 0.1
