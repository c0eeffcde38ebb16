"""Layer statistics: distributions compared with numpy, snapshots with a direct computation; and they have no side effects."""

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

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.observer import Observer
from trainer.engine.view import RunView
from trainer.observers import Histograms
from trainer.observers.context import Context, build_observers
from trainer.observers.histograms import activations, dead_fraction, matrices, update_ratios, weight_samples
from trainer.observers.tensor_stats import BINS, SAMPLES, distributions, sample
from trainer.report.layers import distributions_figure

SMALL = ("data=digits", "architecture.widths=[4,8]", "epochs=1", "device=cpu", "precision=float32")


def snapshots_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "layers.jsonl").read_text().splitlines()]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=300))
def test_statistics_of_a_small_tensor_are_those_of_numpy(values):
    x = np.array(values, np.float32)
    found = distributions([torch.from_numpy(x)])[0]
    assert (found.mean, found.std) == pytest.approx((x.mean(), x.std()), rel=1e-4, abs=1e-4)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.zero == pytest.approx((x == 0).mean())
    assert sum(found.bins) == len(x) == found.count
    assert found.rms == pytest.approx(np.sqrt((x.astype(float) ** 2).mean()), rel=1e-4, abs=1e-4)


def test_bins_and_quantiles_are_those_of_numpy():
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    found = distributions([x])[0]
    assert list(found.bins) == pytest.approx(
        np.histogram(x.numpy(), BINS)[0], abs=2
    )  # a value on an edge may fall either way
    assert found.edges() == pytest.approx(np.histogram(x.numpy(), BINS)[1][1:], abs=1e-5)
    fractions = (0.025, 0.5, 0.975)
    assert found.quantiles(fractions) == pytest.approx(np.quantile(x.numpy(), fractions), abs=0.05)


def test_a_large_tensor_is_represented_by_a_sample_of_all_its_channels():
    x = torch.zeros(8, 16, 40, 40).to(memory_format=torch.channels_last)
    x += torch.arange(16)[None, :, None, None]
    assert sample(x).shape == (SAMPLES,)
    assert np.bincount(sample(x).long().numpy(), minlength=16).min() > SAMPLES / 16 * 0.9
    assert sample(x[:, :, ::2]).shape == (SAMPLES,)  # not dense


def test_nonfinite_and_saturated_values_are_counted_separately():
    x = torch.tensor([float("nan"), float("inf"), 0.0, 0.5, 1.0, 1.0])
    found = distributions([x, torch.full((3,), float("nan"))], [(-0.9, 0.9)])
    assert found[0].nonfinite == pytest.approx(2 / 6)
    assert found[0].saturated == pytest.approx(2 / 6)
    assert found[0].mean == pytest.approx(2.5 / 4)
    assert found[1].nonfinite == 1
    assert sum(found[1].bins) == 0
    assert distributions([]) == []


def test_a_snapshot_describes_the_step():
    """Ratios and norms of the first step, computed from whole tensors."""
    overrides = [*SMALL, "optimizer=sgd", "optimizer.lr=0.5", "schedule=constant"]
    run = build(load_config(overrides))
    before = {w.name: w.parameter.detach().clone() for w in matrices(run.model)}
    expected = {}

    class Expected(Observer):
        def on_step_end(self, view):
            if view.step == 1:
                expected["norm"] = torch.stack([p.grad.norm() for p in run.model.parameters()]).norm().item()
                expected["ratios"] = [
                    ((w.parameter - before[w.name]).norm() / before[w.name].norm()).item() for w in matrices(run.model)
                ]
                expected["rms"] = [w.parameter.grad.square().mean().sqrt().item() for w in matrices(run.model)]

    context = Context(run)
    fit(run, build_observers([Histograms(every=2), Expected()], context))
    first = context.layer_statistics.snapshots[0]
    assert first["grad_norm"] == pytest.approx(expected["norm"], rel=1e-5)
    assert [w["update_ratio"] for w in first["weights"]] == pytest.approx(
        expected["ratios"], rel=0.01
    )  # small layers are repeated, not evenly
    assert [w["grad_rms"] for w in first["weights"]] == pytest.approx(expected["rms"], rel=1e-4)
    assert [snapshot["step"] for snapshot in context.layer_statistics.snapshots[:4]] == [1, 2, 4, 6]
    assert first["weights"][0]["tag"] == "00_Conv2d_0"


def test_the_gradient_norm_is_that_before_clipping():
    norms = []
    for overrides in ([], ["optimizer.clip_norm=0.001"]):
        run = build(load_config([*SMALL, *overrides]))
        context = Context(run)
        fit(run, build_observers([Histograms()], context))
        norms.append(context.layer_statistics.snapshots[0]["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_dead_units_are_channels_that_are_nowhere_above_zero():
    x = torch.tensor(
        [[[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]]]
    )
    assert dead_fraction(x).item() == 0.5


def test_recording_activations_has_no_side_effects_and_sees_every_call():
    run = build(load_config([*SMALL, "regularizer=[dropout]"]))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act = run.model, nn.ReLU()

        def forward(self, x):
            return self.act(self.inner(self.act(x)))

    run.model = Twice().train()
    state, random = {k: v.clone() for k, v in run.model.state_dict().items()}, torch.get_rng_state()
    x = next(iter(run.train.batches(0)))[0]
    outputs = activations(RunView(run), x)
    assert [name for name, kind, _ in outputs if name.startswith("act")] == ["act", "act~1"]
    assert all(kind == "ReLU" for _, kind, _ in outputs)
    assert all(torch.equal(v, run.model.state_dict()[k]) for k, v in state.items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(m.training for m in run.model.modules())
    assert not any(m._forward_hooks for m in run.model.modules())


def test_without_modules_for_activation_functions_the_outputs_of_layers_are_recorded():
    run = build(load_config([*SMALL, "activation=identity"]))
    x = next(iter(run.train.batches(0)))[0]
    assert [kind for _, kind, _ in activations(RunView(run), x)] == ["Conv2d", "Conv2d"]


def test_without_observers_the_run_is_the_same_bit_for_bit(train):
    overrides = [*STATEFUL, "optimizer.clip_norm=1"]
    every = "observer=[histograms,diagnosis,console,tensorboard,checkpoint,history_file,report]"
    assert train(*overrides, every, "observer.histograms.every=2", "output=all")[0] == 0
    assert train(*overrides, "observer=[checkpoint,history_file]", "output=few")[0] == 0
    assert same_run("all", "few")


@pytest.mark.slow
def test_snapshots_of_a_resumed_run_are_not_duplicated(train):
    overrides = [*STATEFUL, "output=run", "observer.histograms.every=5"]
    assert train(*overrides, "epochs=2")[0] == 0
    assert train("resume=run", "epochs=4")[0] == 0
    steps = [snapshot["step"] for snapshot in snapshots_in(Path("run"))]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == history_of("run")[-1]["step"]


@pytest.mark.slow
def test_the_same_steps_are_looked_at_whatever_a_step_costs(train, monkeypatch):
    """So that the findings of a run do not depend on the load of the machine; also when it was resumed."""
    overrides = ["data=digits", "architecture.widths=[4]", "regularizer=[]", "observer.histograms.every=16"]
    assert train(*overrides, "epochs=3", "output=whole")[0] == 0
    assert train(*overrides, "epochs=3", "engine.threads=1", "data.loading=streaming", "output=slow")[0] == 0
    steps = [snapshot["step"] for snapshot in snapshots_in(Path("whole"))]
    assert steps[:6] == [1, 2, 4, 8, 16, 32]
    assert [snapshot["step"] for snapshot in snapshots_in(Path("slow"))] == steps


def test_layers_keep_their_numbers_when_others_are_frozen():
    run = build(load_config([*SMALL, "architecture.widths=[4,8,16]"]))
    every = [w.tag for w in matrices(run.model)]
    next(p for p in run.model.parameters() if p.ndim > 1).requires_grad_(False)
    assert [w.tag for w in matrices(run.model)] == every[1:]


def test_the_update_of_a_layer_is_compared_with_its_own_weights():
    """Although a layer before it is trained only since."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    before = weight_samples(model)
    model[0].requires_grad_(True)
    with torch.no_grad():
        model[1].weight *= 1.5
    assert update_ratios(matrices(model), before) == [None, pytest.approx(0.5)]
    assert update_ratios(matrices(model), None) == [None, None]


@pytest.mark.slow
def test_a_report_draws_each_layer_under_its_own_name_in_every_phase(train):
    overrides = [
        "data=fake",
        "data.size=8",
        "data.count=120",
        "architecture.widths=[4,8]",
        "recipe=gradual",
        "regularizer=[]",
    ]
    assert train(*overrides, "epochs=6", "observer.histograms.every=2", "output=run")[0] == 0
    snapshots = snapshots_in(Path("run"))
    first, last = ([w["tag"] for w in snapshots[i]["weights"]] for i in (0, -1))
    assert first == last[-1:] == ["02_Linear_10"]
    figure = distributions_figure(snapshots)
    (_, _), (before, after) = (figure.axes[:2], figure.axes[2:])
    for ax in (before, after):
        assert [label.get_text() for label in ax.get_xticklabels()] == last
    medians = {round(float(x)): float(y) for (x, y), _ in after.collections[2].get_segments()}
    shift = 0.4  # half of the line that is the median, drawn over two bars
    assert [medians[round(i - shift)] for i in range(3)] == pytest.approx(
        [w["grad_quantiles"][2] for w in snapshots[-1]["weights"]]
    )
    assert len(before.collections[2].get_segments()) == 1
    assert before.collections[2].get_segments()[0][0][0] == pytest.approx(2 - shift)


def test_tensorboard_holds_histograms_ratios_and_fractions_of_every_layer(train):
    assert train("data=digits", "architecture.widths=[4,8]", "epochs=1", "output=run")[0] == 0
    events = EventAccumulator("run", {"histograms": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    for kind, layers in (
        ("9_weights", ["00_Conv2d_0", "01_Conv2d_4", "02_Linear_10"]),
        ("8_gradients", ["00_Conv2d_0", "01_Conv2d_4", "02_Linear_10"]),
    ):
        assert {f"{kind}/{layer}" for layer in layers} <= set(tags["histograms"])
    assert {"7_activations/00_ReLU_3", "7_activations/01_ReLU_7"} <= set(tags["histograms"])
    assert {"4_steps/gradient_norm", "5_update_to_weight/00_Conv2d_0", "6_dead/00_ReLU_3"} <= set(tags["scalars"])
    snapshots = snapshots_in(Path("run"))
    assert [e.step for e in events.Histograms("9_weights/00_Conv2d_0")] == [snapshot["step"] for snapshot in snapshots]
    value = events.Histograms("9_weights/00_Conv2d_0")[0].histogram_value
    assert value.num == 36
    assert (value.sum_squares / value.num) ** 0.5 == pytest.approx(snapshots[0]["weights"][0]["rms"], rel=1e-5)


def test_an_observer_that_cannot_start_ends_the_run_with_its_error(tmp_path):
    """Observers that had started are ended; those that had not have nothing to end."""
    from trainer.jobs.fit import train_and_evaluate
    from trainer.observers import Console

    ended = []

    class First(Observer):
        def on_fit_end(self, view, result):
            ended.append(result["stop_reason"])

    class Broken(Observer):
        def on_fit_start(self, view):
            raise ValueError("no place left")

    run = build(load_config(list(SMALL)))
    with pytest.raises(ValueError, match="no place left"):
        train_and_evaluate(run, [First(), Broken(), Console()])
    assert ended == ["ValueError: no place left"]


def test_a_profile_of_some_steps_is_a_trace_and_a_table(train):
    overrides = ("data=digits", "architecture.widths=[4]", "epochs=1", "observer=[profile]", "output=run")
    assert train(*overrides, "observer.profile.skip=2", "observer.profile.steps=3")[0] == 0
    trace = json.loads(Path("run/profile.json").read_text())["traceEvents"]
    names = [event.get("name") for event in trace]
    assert names.count("Optimizer.step#SGD.step") == 3
    assert "convolution" in Path("run/profile.txt").read_text()


@pytest.mark.parametrize("way", ["in_memory", "streaming"])
def test_the_images_of_a_plan_are_as_read_above_and_as_augmented_below(way):
    from trainer.observers.images import first_batch

    overrides = [
        "data=fake",
        "data.size=12",
        "data.count=60",
        "data.num_classes=3",
        "batch_size=8",
        "augmentation=[rotation]",
    ]
    run = build(load_config([*overrides, f"data.loading={way}", "data.num_workers=0"]))
    before, after, labels, _ = first_batch(run, 5)
    chosen = run.train.order(0)[:5]
    assert np.allclose(before, run.train.dataset.images[chosen] / 255, atol=1e-6)
    assert labels == [run.info.classes[label] for label in run.train.dataset.labels[chosen]]
    assert abs(after - before).mean() > 0.02


def test_the_images_of_a_mixed_batch_have_the_targets_that_they_are_trained_on():
    from trainer.observers.images import first_batch

    run = build(load_config(["data=digits", "data.limit=100", "batch_size=32", "regularizer=[mixup]"]))
    with torch.random.fork_rng():
        _, y = run.regularizer.batch(*next(run.train.batches(0)))
    *_, targets = first_batch(run, 8)
    mixed = 0
    for text, target in zip(targets, y, strict=False):
        shares = {name: float(share) for share, name in (part.split(" % ") for part in text.split(" + ") if part)}
        expected = {str(k): 100 * float(v) for k, v in enumerate(target) if v >= 0.05}
        if len(expected) > 1:
            mixed += 1
            assert shares == pytest.approx(expected, abs=0.51)
    assert mixed
