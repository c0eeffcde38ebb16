"""The short trainings after a run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diagnosing import MLP, PROBE, branch_to

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit


def test_a_probe_trains_without_augmentation_only_where_there_is_some():
    from trainer.engine.probes import initial_weights, probe

    for words, expected in (((), False), (("augmentation=[rotation]", "augmentation.rotation.degrees=180"), True)):
        run = build(load_config(["data=digits", "data.limit=200", *MLP, "epochs=1", "device=cpu", *words]))
        initial, train = initial_weights(run), run.train
        fit(run)
        measured = probe(run, initial, 20)
        assert ("unaugmented_start" in measured) == expected
        assert run.train is train


def test_a_probe_of_a_run_with_tiny_batches_trains_with_larger_ones():
    from trainer.engine.probes import initial_weights, probe

    for size, expected in ((2, True), (16, False)):
        run = build(
            load_config(["data=digits", "data.limit=200", *MLP, "epochs=1", f"batch_size={size}", "device=cpu"])
        )
        initial, train = initial_weights(run), run.train
        fit(run)
        assert ("larger_batches" in probe(run, initial, 20)) == expected
        assert run.train is train


def test_a_probe_leaves_the_run_as_it_was():
    run = build(load_config(["data=digits", *MLP, "epochs=3", "regularizer=[dropout]", "device=cpu", "averaging=ema"]))
    from trainer.engine.probes import probe
    from trainer.engine.state import snapshot

    initial = snapshot(run.model)
    fit(run)
    before, random = run.state(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in before["model"].items()}
    measured = probe(run, initial, 20)
    assert all((run.model.state_dict()[name] == value).all() for name, value in weights.items())
    assert (random == torch.get_rng_state()).all()
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.0005
    assert [b["factor"] for b in measured["from_start"]] == [0.1, 1.0, 10.0], "those beyond are tried if that helps"
    assert sum(measured["ranks"]) == 144
    assert measured["from_start"][1]["loss"] < 0.8 * measured["from_start"][0]["loss"]


@pytest.mark.parametrize(
    ("needed", "fraction", "kinds"),
    [
        ("none", 1.0, set()),
        ("used", 1.0, {"from_used"}),
        ("all", 0.25, {"from_used"}),
        ("all", 10.0, {"from_used", "longer_used", "from_start", "unregularized_start", "one_batch", "unregularized"}),
    ],
)
def test_only_the_short_trainings_are_made_that_are_needed_and_that_the_run_is_long_enough_for(
    needed, fraction, kinds, monkeypatch
):
    import trainer.engine.branches as branches
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=160", *MLP, "batch_size=16", "epochs=10", "device=cpu"]))
    initial, taken = probes.initial_weights(run), [0]
    fit(run)

    def step(*arguments: Any, real=branches.train_step) -> None:
        taken[0] += 1
        real(*arguments)

    monkeypatch.setattr(probes, "AFFORDABLE", 0.0)
    monkeypatch.setattr(branches, "train_step", step)
    measured = probes.probe(run, initial, 12, lambda scores: needed, fraction)
    assert {kind for kind, value in measured.items() if isinstance(value, list) and kind != "ranks" and value} == kinds
    assert taken[0] <= fraction * 100
    assert ("enough" in measured) == (needed == "all" and fraction < 1)
    if "enough" in measured:  # the fraction that it names makes all of them
        assert "enough" not in probes.probe(run, initial, 12, lambda scores: needed, measured["enough"])
    monkeypatch.setattr(probes, "AFFORDABLE", 1e12)
    assert "enough" not in probes.probe(run, initial, 12, lambda scores: needed, fraction), "a small network is cheap"


@pytest.mark.parametrize("frozen", [("recipe=transfer",), ("recipe.freeze=[1]",)])
def test_a_probe_trains_layers_that_are_frozen_at_random_and_freezes_them_again(frozen):
    from trainer.engine.probes import initial_weights, probe

    words = ["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", *frozen]
    run = build(load_config(words))
    initial, before, optimizer = initial_weights(run), [p.requires_grad for p in run.model.parameters()], run.optimizer
    fit(run)
    weights = copy.deepcopy(run.model.state_dict())
    assert not all(before)
    assert probe(run, initial, 20)["unfrozen_start"][0]["loss"] < 2.3
    assert [p.requires_grad for p in run.model.parameters()] == before
    assert run.optimizer is optimizer
    assert all(value.equal(weights[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize(("words", "longer"), [((), False), (("regularizer=[mixup]",), True)])
def test_a_probe_trains_longer_without_regularization_only_where_there_is_some(words, longer):
    from trainer.engine.probes import initial_weights, probe

    run = build(
        load_config(["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", "regularizer=[]", *words])
    )
    initial = initial_weights(run)
    fit(run)
    measured = probe(run, initial, 20)
    assert ("longer_start" in measured) == ("unregularized_longer_start" in measured) == longer


@pytest.mark.parametrize(
    ("words", "unusual"),
    [
        ((), False),
        (("initialization=orthogonal",), False),
        (("activation=tanh",), False),
        (("activation=tanh", "initialization=normal", "initialization.std=0.5"), True),
        (("initialization=normal", "initialization.std=0.01"), True),
    ],
)
def test_other_initial_weights_are_tried_where_those_of_the_run_are_unusual(words, unusual):
    from trainer.engine.probes import initial_weights
    from trainer.engine.variants import auto_weights

    run = build(load_config(["data=digits", *MLP, "device=cpu", *words]))
    initial = initial_weights(run)
    assert initial is not None
    assert (auto_weights(run, initial) is not None) == unusual
    bias = next(name for name in initial if name.endswith("bias"))
    assert auto_weights(run, {**initial, bias: torch.full_like(initial[bias], -4.0)}) is not None, "as dead units"


@pytest.mark.parametrize("slower", [True, False])
def test_a_probe_trains_longer_at_a_lower_learning_rate_only_where_that_learns_faster_at_first(slower, monkeypatch):
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=200", *MLP, "epochs=2", "device=cpu", "regularizer=[]"]))
    initial = probes.initial_weights(run)
    fit(run)
    monkeypatch.setattr(probes, "slower_at_first", lambda result: slower)
    measured = probes.probe(run, initial, 5)
    assert ("lower_start" in measured) == ("longer_start" in measured) == slower
    assert ("longer_used" in measured) == (min(b["loss"] for b in measured["from_used"]) < measured["used"]["loss"])


def test_a_lower_learning_rate_is_faster_at_first_where_its_short_training_learns_more():
    from trainer.engine.probes import slower_at_first

    for used, own, expected in ((1.5, 2.4, True), (1.5, 2.1, False), (2.3, 2.4, False)):
        start = [branch_to(2.2, 0.2, 0.1), branch_to(own, 0.1)]
        assert slower_at_first({**PROBE, "used": {**PROBE["used"], "loss": used}, "from_start": start}) == expected


def test_a_short_training_on_one_batch_is_made_in_a_run_of_any_length(monkeypatch):
    """It may be shorter than three of the others, where these are long."""
    import trainer.engine.probes as probes

    run = build(load_config(["data=digits", "data.limit=160", *MLP, "epochs=1", "device=cpu", "regularizer=[]"]))
    initial = probes.initial_weights(run)
    fit(run)
    monkeypatch.setattr(probes, "branch", lambda run, weights, factor, steps, batch=None: branch_to(2.3, 0.1, factor))
    assert "one_batch" in probes.probe(run, initial, 61)
