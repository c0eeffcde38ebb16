"""The diagnosis of the initialization and of the layers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from diagnosing import FAILURE_MODES, PROBE, branch_to, layer, names, record_of, written

from trainer.analysis.diagnosis import Finding, Record, diagnose


def test_a_bad_initialization_is_named_before_what_follows_from_it():
    """The example of Pedersen's lecture: six layers of tanh, weights of standard deviation 0.01."""
    found = names(record_of(FAILURE_MODES["vanishing activations"]))
    assert found[0] == "vanishing activations"
    assert not {"learning rate too low", "not learning"} & set(found)
    healthy = [word for word in FAILURE_MODES["vanishing activations"] if not word.startswith("initialization")]
    record = record_of((*healthy, "initialization=auto"))
    assert "vanishing activations" not in names(record)
    assert record.learned


def test_layers_that_nothing_in_the_config_freezes_are_named():
    weights = [{"tag": "head", "rms": 1.0, "grad_rms": 1.0, "update_ratio": 1e-3}]
    found = diagnose(*vars(written([2.3, 2.2, 2.1], {}, frozen=2, weights=weights)).values())
    assert found[0].name == "frozen layers"
    assert "2 of 3 layers" in found[0].evidence
    recipe = {"config": {"recipe": {"_target_": "trainer.engine.recipes.Transfer"}}}
    assert "frozen layers" not in names(written([2.3, 2.2, 2.1], recipe, frozen=2))


def test_the_frozen_stem_of_airbench_is_named_only_where_its_filters_are_random():
    weights = [{"tag": "head", "rms": 1.0, "grad_rms": 1.0, "update_ratio": 1e-3}]

    def found(rule: str) -> list[Finding]:
        config = {"architecture": {"train_stem": False}, "initialization": {"rule": rule}}
        record = written([2.3, 2.2, 2.1], {"config": config}, frozen=1, weights=weights)
        return diagnose(record.rows, record.snapshots, record.dataset_info)

    assert found("auto")[0].attempt == ("architecture.train_stem=true",)
    assert "frozen layers" not in {finding.name for finding in found("whitening")}


@pytest.mark.parametrize(
    ("recipe", "attempt"),
    [({"freeze": ["1"]}, "recipe.freeze=[]"), ({"_target_": "trainer.engine.recipes.Transfer"}, "recipe=scratch")],
)
def test_layers_that_the_config_freezes_are_named_where_a_short_training_of_all_layers_learns_more(recipe, attempt):
    used = {"loss": 1.1, "accuracy": 0.6, "validation_loss": 1.1, "validation_accuracy": 0.6}

    def found(unfrozen: float):
        probe = {
            **PROBE,
            "used": used,
            "unfrozen_start": [{"factor": 1.0, "lr": 0.1, "loss": unfrozen, "accuracy": 0.9}],
        }
        record = written([2.3, 1.5, 1.1], {"config": {"recipe": recipe}, "probe": probe}, frozen=2)
        return diagnose(record.rows, record.snapshots, record.dataset_info)[0]

    assert found(0.4).name == "frozen layers"
    assert found(0.4).attempt == (attempt,)
    assert found(1.2).name != "frozen layers"


def test_dead_units_at_the_start_are_the_cause_and_not_a_low_learning_rate():
    dead = {"tag": "0", "std": 0.0, "dead": 1.0, "saturated": None}
    weights = [{"tag": "0", "rms": 1.0, "grad_rms": 0.0, "update_ratio": 9e-5}]
    record = written([2.303, 2.303, 2.303], {"batch_size": 64, "probe": PROBE}, activations=[dead], weights=weights)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "dead units"
    assert "from the beginning" in finding.meaning
    assert finding.attempt[0] == "initialization=auto"
    one = Record(record.rows, record.snapshots, {**record.dataset_info, "batch_size": 1})
    assert "dead units" not in names(one), "half of the units are not above zero for a single image"


@pytest.mark.parametrize(("auto", "named"), [(0.91, True), (0.83, False)])
def test_initial_weights_are_a_cause_of_overfitting_where_others_recognize_more_images(auto, named):
    used = {"loss": 0.157, "accuracy": 0.96, "validation_loss": 0.607, "validation_accuracy": 0.836}
    start = [
        {"factor": 1.0, "lr": 0.02, "loss": x, "accuracy": a, "validation_accuracy": a}
        for x, a in ((0.42, 0.81), (0.04, auto))
    ]
    config = {"initialization": {"rule": "normal"}, "augmentation": None}
    record = written([1.5, 0.8, 0.6], {"probe": {**PROBE, "used": used, "auto_start": start}, "config": config})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert (finding.name, finding.attempt[0]) == (
        ("poor initialization", "initialization=auto") if named else ("overfitting", "augmentation=[rotation]")
    )


def test_large_activations_after_a_large_first_step_are_not_blamed_on_the_initialization():
    """The loss of the first batch, before that step, was that of guessing."""
    layers = [{"tag": str(i), "std": 10.0**i, "saturated": None, "dead": 0.0} for i in range(5)]
    for loss, expected in ((2.8, False), (2000.0, True)):
        found = names(written([2.4, 2.35, 2.3], {"probe": PROBE}, activations=layers, batch_loss=loss))
        assert ("exploding activations" in found) == expected


def test_units_whose_values_are_not_finite_are_not_called_dead():
    """Neither of them is above zero."""
    layers = [
        {"tag": str(i), "std": None, "zero": 0.0, "saturated": None, "dead": 1.0, "nonfinite": 1.0} for i in range(3)
    ]
    record = written([math.nan], {"status": "diverged", "batch_size": 32}, activations=layers)
    assert names(record)[0] == "NaN or Inf loss"


@pytest.mark.parametrize(("frozen", "named"), [(3, True), (1, False)])
def test_most_layers_frozen_at_random_are_named_also_where_there_was_no_time_to_train_them(frozen, named):
    weights = [{"tag": str(i), "rms": 1.0, "grad_rms": 1.0, "update_ratio": 1e-3} for i in range(4 - frozen)]
    info = {"config": {"recipe": {"freeze": ["1"]}}, "probe": {**PROBE, "left_out": 1}}
    assert ("frozen layers" in names(written([2.0, 1.7, 1.6], info, frozen=frozen, weights=weights))) == named


def test_a_gradient_that_is_not_finite_at_a_usual_loss_is_no_matter_of_the_learning_rate():
    """The weights of NaN have a root mean square of 0: that of the values that are finite, of which there are none."""
    broken = [layer("00_Conv2d_0", 1.0, rms=0.0, grad_rms=0.0, update_ratio=None), layer("01_Linear_2")]
    for norm in (None, math.nan):
        record = written([math.nan], {"status": "diverged"}, weights=broken, grad_norm=norm, batch_loss=2.4)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "NaN or Inf loss"
        assert finding.evidence.endswith("that of 00_Conv2d_0 is not, that of 01_Linear_2 is")
        assert "A lower learning rate does not help" in finding.meaning
        assert not [attempt for attempt in finding.attempt if "lr" in attempt]
        assert "identical units" not in names(record)
    exploded = written([math.nan], {"status": "diverged"}, weights=broken, grad_norm=None, batch_loss=1e20)
    assert diagnose(exploded.rows, exploded.snapshots, exploded.dataset_info)[0].name == "high initial loss"


def test_what_is_not_finite_before_any_weight_was_changed_is_no_matter_of_the_learning_rate():
    fine = [layer("00_Linear_0"), layer("01_Linear_2")]
    for loss, text in (
        (math.nan, "the loss of the first step is not finite; the first layer with a NaN or Inf is 00_Linear_0"),
        (2.4, "the loss of the first step is 2.4, but its gradient is not finite: not that of the weights"),
    ):
        record = written(
            [math.nan], {"status": "diverged"}, weights=fine, batch_loss=loss, first_nonfinite="00_Linear_0"
        )
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.evidence.startswith(text)
        assert "A lower learning rate does not help" in finding.meaning
    half = written([math.nan], {"status": "diverged", "config": {"precision": "float16"}}, weights=fine)
    assert "usual cause is a learning rate" in diagnose(*vars(replace(half, rows=half.rows)).values())[0].meaning


@pytest.mark.parametrize("losses", [[2.303, 2.303, 2.303], [2.0, 1.8, 1.7]])
def test_a_layer_of_two_or_three_units_is_too_narrow_whatever_became_of_them(losses):
    used = {"loss": losses[-1], "accuracy": 0.2, "validation_loss": losses[-1], "validation_accuracy": 0.2}
    start = [{"factor": f, "lr": 0.05 * f, "loss": 2.2, "accuracy": 0.2} for f in (0.1, 1.0, 10.0)]
    info = {"batch_size": 32, "probe": {**PROBE, "used": used, "from_start": start}}
    dead = [{"tag": "0", "std": 0.5, "dead": 0.67, "saturated": None}]
    for widths, expected in (([3], "underfitting"), ([64], "learning rate too high")):
        config = {"architecture": {"widths": widths}}
        record = written(losses, {**info, "config": config}, activations=dead, weights=[layer("0", update_ratio=0.08)])
        rows = [{**row, "validation_accuracy": 0.1} for row in record.rows]
        record = Record(rows, [*record.snapshots, {**record.snapshots[0], "step": 300}], record.dataset_info)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        if expected == "underfitting":
            assert finding.name == "underfitting"
            assert "a layer has 3 units, by architecture.widths" in finding.evidence
            assert finding.attempt[0] == "architecture.widths=[32,64]"
        else:
            assert finding.name != "underfitting"


@pytest.mark.parametrize(("ratio", "size"), [(3.3, "too large"), (0.05, "too small")])
def test_unusual_initial_weights_are_too_large_or_too_small(ratio, size):
    start = [
        {"factor": 1.0, "lr": 0.05, "loss": x, "accuracy": a, "validation_accuracy": a}
        for x, a in ((1.9, 0.3), (0.5, 0.9))
    ]
    record = written([1.7, 1.6, 1.5], {"probe": {**PROBE, "auto_start": start, "unusual": ratio}})
    finding = next(
        f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if f.name == "poor initialization"
    )
    assert f"are {size} for this network" in finding.meaning
    assert f"those of a layer are {ratio:g} times as large" in finding.evidence


def test_the_gradient_of_a_network_of_three_layers_can_explode():
    layers = [layer("0", grad_rms=11.6), layer("1", grad_rms=4.7), layer("2", grad_rms=0.034)]
    record = written([2.3, 2.2, 2.1], {}, weights=layers)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "exploding gradients"
    assert finding.attempt[:2] == ("initialization=auto", "architecture.norm=batch")
    assert finding.attempt[-1] == "optimizer.clip_norm=1", (
        "which hides large gradients, and makes those of all layers small"
    )
    vanishing = [layer("0", grad_rms=1e-6), layer("1", grad_rms=1e-3), layer("2", grad_rms=0.034)]
    assert "vanishing gradients" not in names(written([2.3, 2.2, 2.1], {}, weights=vanishing)), "three layers are few"


def test_units_that_the_steps_have_saturated_are_no_matter_of_the_initialization():
    for before, first in ((0.02, "optimizer.lr=0.005"), (None, "initialization=auto")):
        activations = [{"tag": "0_Sigmoid", "std": 0.2, "dead": None, "saturated": before}]
        record = written([2.0, 1.7, 1.6], {}, activations=activations)
        last = {**record.snapshots[0], "step": 300, "activations": [{**activations[0], "saturated": 0.97}]}
        finding = diagnose(record.rows, [*record.snapshots, last], record.dataset_info)[0]
        assert finding.name == "saturated units"
        assert finding.attempt[0] == first
        assert ("2 % at step 1" in finding.evidence) == (before is not None)


def test_units_that_others_revive_are_not_dead_from_the_start_unless_they_are_most():
    """Above zero in the end: half of a layer has been, nearly all of one has let hardly anything pass until then."""
    for dead, expected in ((0.55, False), (0.9, True)):
        activations = [{"tag": "0", "std": 0.5, "dead": dead, "saturated": None}]
        record = written([2.2, 1.9, 1.7], {"batch_size": 32}, activations=activations)
        last = {**record.snapshots[0], "step": 300, "activations": [{**activations[0], "dead": 0.1}]}
        found = [f.name for f in diagnose(record.rows, [*record.snapshots, last], record.dataset_info)]
        assert ("dead units" in found) == expected


def test_a_good_fit_that_began_with_a_flat_loss_gets_a_hint_where_other_initial_weights_learn_at_once():
    used = {"loss": 0.18, "accuracy": 0.95, "validation_loss": 0.23, "validation_accuracy": 0.944}
    probe = {**PROBE, "used": used, "auto_start": [branch_to(1.7, 0.37), branch_to(0.04, 0.99)], "unusual": 0.12}
    for start, expected in ((2.3, "poor initialization"), (1.8, "good fit")):
        record = written([start, 1.2, 0.2], {"probe": probe, "batch_size": 32})
        rows = [{**row, "validation_accuracy": 0.944, "lr": 0.05 * (row["epoch"] < 3)} for row in record.rows]
        finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == expected
        assert finding.kind == ("good" if expected == "good fit" else "hint")


def test_large_weights_of_the_last_layer_alone_are_no_exploding_activations():
    """The gradient of the last layer is the product of the errors and the activations before it."""

    def layers(size):
        return [{"tag": str(i), "rms": 1.0, "grad_rms": g, "update_ratio": 9.0} for i, g in enumerate((5, 4, 3, size))]

    for size, expected in ((400.0, "exploding activations"), (0.3, "high initial loss")):
        record = written([9.0, 8.0, 7.0], {"batch_size": 32}, weights=layers(size), batch_loss=500.0, input_std=1.0)
        assert names(record)[0] == expected
