"""What the observers see in the network: distributions against numpy, looks against a computation by hand, and no trace left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STATEFUL, history_of, same_run
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from trainer.build import build
from trainer.config.compose import compose
from trainer.config.schema import resolve
from trainer.engine.loop import fit
from trainer.observers.histograms import Histograms, activations, dead_share, matrices
from trainer.observers.tensor_stats import BINS, SAMPLES, distributions, sample

SMALL = ("data=digits", "architecture.widths=[4,8]", "epochs=1", "device=cpu", "precision=float32")


def looks_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "layers.jsonl").read_text().splitlines()]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=300))
def test_a_small_tensor_is_counted_as_numpy_counts_it(values):
    x = np.array(values, np.float32)
    found = distributions([torch.from_numpy(x)])[0]
    assert (found.mean, found.std) == pytest.approx((x.mean(), x.std()), rel=1e-4, abs=1e-4)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.zero == pytest.approx((x == 0).mean())
    assert sum(found.bins) == len(x) == found.count
    assert found.rms == pytest.approx(np.sqrt((x.astype(float) ** 2).mean()), rel=1e-4, abs=1e-4)


def test_bins_and_quantiles_are_numpys():
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    found = distributions([x])[0]
    assert list(found.bins) == pytest.approx(
        np.histogram(x.numpy(), BINS)[0], abs=2
    )  # a value on an edge may fall either way
    assert found.edges() == pytest.approx(np.histogram(x.numpy(), BINS)[1][1:], abs=1e-5)
    shares = (0.025, 0.5, 0.975)
    assert found.quantiles(shares) == pytest.approx(np.quantile(x.numpy(), shares), abs=0.05)


def test_a_large_tensor_is_known_by_a_sample_of_all_its_channels():
    x = torch.zeros(8, 16, 40, 40).to(memory_format=torch.channels_last)
    x += torch.arange(16)[None, :, None, None]
    assert sample(x).shape == (SAMPLES,)
    assert np.bincount(sample(x).long().numpy(), minlength=16).min() > SAMPLES / 16 * 0.9
    assert sample(x[:, :, ::2]).shape == (SAMPLES,)  # not dense


def test_what_is_not_finite_or_outside_of_a_range_is_told_apart():
    x = torch.tensor([float("nan"), float("inf"), 0.0, 0.5, 1.0, 1.0])
    found = distributions([x, torch.full((3,), float("nan"))], [(-0.9, 0.9)])
    assert found[0].nonfinite == pytest.approx(2 / 6)
    assert found[0].saturated == pytest.approx(2 / 6)
    assert found[0].mean == pytest.approx(2.5 / 4)
    assert found[1].nonfinite == 1
    assert sum(found[1].bins) == 0
    assert distributions([]) == []


def test_a_look_tells_what_the_step_did():
    """Ratios, norms and dead units of the first step, computed by hand from whole tensors."""
    words = [*SMALL, "optimizer=sgd", "optimizer.lr=0.5", "schedule=constant"]
    run = build(resolve(compose(words)))
    before = {name: p.detach().clone() for name, p in matrices(run.model)}
    observer, kept = Histograms(every=2, budget=1.0), {}

    class After:
        def on_fit_start(self, run):
            pass

        def on_step_end(self, run):
            if run.clock.step == 1:
                kept["norm"] = torch.stack([p.grad.norm() for p in run.model.parameters()]).norm().item()
                kept["ratios"] = [((p - before[n]).norm() / before[n].norm()).item() for n, p in matrices(run.model)]
                kept["rms"] = [p.grad.square().mean().sqrt().item() for _, p in matrices(run.model)]

        def on_epoch_end(self, run, row):
            pass

        def on_fit_end(self, run, result):
            pass

    fit(run, [observer, After()])
    first = run.snapshots[0]
    assert first["grad_norm"] == pytest.approx(kept["norm"], rel=1e-5)
    assert [w["update_ratio"] for w in first["weights"]] == pytest.approx(
        kept["ratios"], rel=0.01
    )  # small layers are repeated, not evenly
    assert [w["grad_rms"] for w in first["weights"]] == pytest.approx(kept["rms"], rel=1e-4)
    assert [look["step"] for look in run.snapshots[:4]] == [1, 3, 5, 7]
    assert first["weights"][0]["tag"] == "00_Conv2d_0"


def test_the_gradient_norm_is_that_before_clipping():
    plain, clipped = (build(resolve(compose([*SMALL, *more]))) for more in ([], ["optimizer.clip_norm=0.001"]))
    for run in (plain, clipped):
        fit(run, [Histograms()])
    assert clipped.snapshots[0]["grad_norm"] == pytest.approx(plain.snapshots[0]["grad_norm"], rel=1e-4)


def test_dead_units_are_channels_that_are_nowhere_above_zero():
    x = torch.tensor(
        [[[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]]]
    )
    assert dead_share(x).item() == 0.5


def test_a_look_at_activations_leaves_no_trace_and_sees_every_call():
    run = build(resolve(compose([*SMALL, "regularizer=[dropout]"])))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act = run.model, nn.ReLU()

        def forward(self, x):
            return self.act(self.inner(self.act(x)))

    run.model = Twice().train()
    state, random = {k: v.clone() for k, v in run.model.state_dict().items()}, torch.get_rng_state()
    x = next(iter(run.train.batches(0)))[0]
    seen = activations(run, x)
    assert [name for name, kind, _ in seen if name.startswith("act")] == ["act", "act~1"]
    assert all(kind == "ReLU" for _, kind, _ in seen)
    assert all(torch.equal(v, run.model.state_dict()[k]) for k, v in state.items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(m.training for m in run.model.modules())
    assert not any(m._forward_hooks for m in run.model.modules())


def test_a_network_without_modules_for_its_non_linearities_is_seen_by_its_layers():
    run = build(resolve(compose([*SMALL, "activation=identity"])))
    x = next(iter(run.train.batches(0)))[0]
    assert [kind for _, kind, _ in activations(run, x)] == ["Conv2d", "Conv2d"]


def test_with_and_without_all_observers_the_run_is_the_same_to_the_bit(train):
    words = [*STATEFUL, "optimizer.clip_norm=1"]
    every = "observer=[histograms,diagnosis,console,tensorboard,checkpoint,jsonl,report]"
    assert train(*words, every, "observer.histograms.every=2", "observer.histograms.budget=1", "output=all")[0] == 0
    assert train(*words, "observer=[checkpoint,jsonl]", "output=few")[0] == 0
    assert same_run("all", "few")


def test_looks_of_a_resumed_run_are_there_once(train):
    words = [*STATEFUL, "output=run", "observer.histograms.every=5", "observer.histograms.budget=1"]
    assert train(*words, "epochs=2")[0] == 0
    assert train("resume=run", "epochs=4")[0] == 0
    steps = [look["step"] for look in looks_of(Path("run"))]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == history_of("run")[-1]["step"]


def test_a_budget_keeps_looks_apart(train):
    words = ["data=digits", "architecture.widths=[4]", "epochs=3", "observer.histograms.every=2"]
    assert train(*words, "observer.histograms.budget=0.0001", "output=scarce")[0] == 0
    assert train(*words, "observer.histograms.budget=1", "output=ample")[0] == 0
    assert 2 <= len(looks_of(Path("scarce"))) < 8 < len(looks_of(Path("ample")))


def test_tensorboard_holds_histograms_ratios_and_shares_of_every_layer(train):
    assert train("data=digits", "architecture.widths=[4,8]", "epochs=1", "output=run")[0] == 0
    events = EventAccumulator(str(Path("run") / "train"), {"histograms": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    for kind, layers in (
        ("weights", ["00_Conv2d_0", "01_Conv2d_4", "02_Linear_10"]),
        ("gradients", ["00_Conv2d_0", "01_Conv2d_4", "02_Linear_10"]),
    ):
        assert {f"{kind}/{layer}" for layer in layers} <= set(tags["histograms"])
    assert {"activations/00_ReLU_3", "activations/01_ReLU_7"} <= set(tags["histograms"])
    assert {"layers/gradient_norm", "update_to_weight/00_Conv2d_0", "dead/00_ReLU_3"} <= set(tags["scalars"])
    snapshots = looks_of(Path("run"))
    assert [e.step for e in events.Histograms("weights/00_Conv2d_0")] == [look["step"] for look in snapshots]
    value = events.Histograms("weights/00_Conv2d_0")[0].histogram_value
    assert value.num == 36
    assert (value.sum_squares / value.num) ** 0.5 == pytest.approx(snapshots[0]["weights"][0]["rms"], rel=1e-5)


def test_an_observer_that_cannot_begin_ends_the_run_with_its_own_error(tmp_path):
    """Those that had begun are ended; those that had not, have nothing to end."""
    from trainer.jobs.fit import train_and_evaluate
    from trainer.observers import Observer
    from trainer.observers.console import Console

    ended = []

    class First(Observer):
        def on_fit_end(self, run, result):
            ended.append(result["stop_reason"])

    class Broken(Observer):
        def on_fit_start(self, run):
            raise ValueError("no place left")

    run = build(resolve(compose(list(SMALL))))
    with pytest.raises(ValueError, match="no place left"):
        train_and_evaluate(run, [First(), Broken(), Console()])
    assert ended == ["ValueError: no place left"]


def test_a_profile_of_some_steps_is_a_trace_and_a_table(train):
    words = ("data=digits", "architecture.widths=[4]", "epochs=1", "observer=[profile]", "output=run")
    assert train(*words, "observer.profile.skip=2", "observer.profile.steps=3")[0] == 0
    trace = json.loads(Path("run/profile.json").read_text())["traceEvents"]
    names = [event.get("name") for event in trace]
    assert names.count("Optimizer.step#SGD.step") == 3
    assert "convolution" in Path("run/profile.txt").read_text()


@pytest.mark.parametrize("way", ["in_memory", "streaming"])
def test_the_pictures_of_a_plan_are_as_read_above_and_as_augmented_below(way):
    from trainer.observers.images import first_batch

    words = [
        "data=fake",
        "data.size=12",
        "data.count=60",
        "data.num_classes=3",
        "batch_size=8",
        "augmentation=[rotation]",
    ]
    run = build(resolve(compose([*words, f"data.loading={way}", "data.num_workers=0"])))
    before, after, labels = first_batch(run, 5)
    chosen = run.train.order(0)[:5]
    assert np.allclose(before, run.train.dataset.images[chosen] / 255, atol=1e-6)
    assert labels == run.train.dataset.labels[chosen].tolist()
    assert abs(after - before).mean() > 0.02
