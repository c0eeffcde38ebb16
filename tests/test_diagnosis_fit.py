"""The diagnosis of the fit and of the length of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diagnosing import PROBE, branch_to, names, written

from trainer.analysis.diagnosis import Record, diagnose


@pytest.mark.parametrize(
    ("steps", "batch_size", "first"), [(9, 64, "batch_size=32"), (9, 32, "epochs=30"), (60, 64, "epochs=30")]
)
def test_a_short_run_that_has_not_learned_is_called_short(steps, batch_size, first):
    """A learning rate or the labels are not to blame for a loss after so few steps."""
    record = written([2.31, 2.3, 2.3], {"batch_size": batch_size})
    rows = [{**row, "validation_accuracy": 0.1, "step": steps * row["step"] // 300} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert finding.attempt[0] == first
    assert "Its consequences: not learning" in finding.meaning


def test_augmentation_that_hides_the_class_is_removed_before_anything_else_is_tried():
    free = {"factor": 1.0, "lr": 0.05, "loss": 0.9, "accuracy": 0.7, "validation_loss": 0.9}
    info = {"config": {"augmentation": {"rotation": {}}}, "probe": {**PROBE, "unaugmented_start": [free]}}
    record = written([2.0, 1.6, 1.5], info)
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert finding.name == "too strongly augmented"
    assert "with rotation, the run has 1.6" in finding.evidence
    assert finding.attempt == ("augmentation=[]",)
    info["probe"]["unaugmented_start"] = [{**free, "validation_loss": 1.55}]
    assert "too strongly augmented" not in names(written([2.0, 1.6, 1.5], info))


def test_a_run_of_few_steps_whose_loss_is_not_low_is_called_short():
    used = {"loss": 0.3, "accuracy": 0.91, "validation_loss": 0.31, "validation_accuracy": 0.91}
    record = written([1.0, 0.4], {"probe": {**PROBE, "used": used}})
    for steps, expected in ((42, ["still improving"]), (300, [])):
        rows = [{**row, "step": steps * row["step"] // 300} for row in record.rows]
        assert names(Record(rows, record.snapshots, record.dataset_info)) == expected


def test_a_run_that_early_stopping_ended_too_early_is_not_told_to_train_longer():
    used = {"loss": 0.3, "accuracy": 0.91, "validation_loss": 0.31, "validation_accuracy": 0.91}
    config = {"epochs": 15, "regularizer": {"early_stopping": {"patience": 1}, "dropout": {"p": 0.2}}}
    record = written([1.0, 0.4], {"probe": {**PROBE, "used": used}, "config": config, "status": "finished"})
    rows = [{**row, "step": 42 * row["step"] // 300} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert "early stopping ended it after 2 of 15 epochs" in finding.evidence
    assert finding.attempt == ("regularizer.early_stopping.patience=5", "regularizer=[dropout]")
    assert "still improving" not in finding.meaning, "a finding is no consequence of itself"
    over = diagnose(rows, record.snapshots, {**record.dataset_info, "config": {**config, "epochs": 2}})[0]
    assert "early stopping" not in over.evidence


def test_early_stopping_that_ends_a_run_while_the_validation_loss_falls_fast_is_named():
    """The accuracy on 40 images had only not become better for an epoch."""
    config = {"epochs": 30, "regularizer": {"early_stopping": {"patience": 1}}}
    record = written([1.1, 0.68, 0.45], {"config": config, "status": "finished"})
    rows = [{**row, "validation_loss": x} for row, x in zip(record.rows, (0.8, 0.52, 0.28), strict=True)]
    (finding,) = diagnose(rows, record.snapshots, record.dataset_info)
    assert finding.name == "still improving"
    assert "in the last epoch the validation loss fell from 0.520 to 0.280; early stopping ended it" in finding.evidence
    assert finding.attempt[0] == "regularizer.early_stopping.patience=5"
    flat = [{**row, "validation_loss": x} for row, x in zip(record.rows, (0.8, 0.29, 0.28), strict=True)]
    assert "still improving" not in [f.name for f in diagnose(flat, record.snapshots, record.dataset_info)]


def test_a_run_of_a_part_of_an_epoch_was_not_ended_by_early_stopping():
    """Of 21 steps of an epoch, a quarter are 5: the run ends at .238 of the .25 epochs that were planned."""
    config = {"epochs": 0.25, "regularizer": {"early_stopping": {"patience": 5}}}
    record = written([2.2], {"config": config, "status": "finished", "batch_size": 64})
    rows = [{**record.rows[0], "epoch": 5 / 21, "step": 5, "validation_accuracy": 0.3}]
    (finding,) = diagnose(rows, record.snapshots, record.dataset_info)
    assert finding.evidence == "the run had 5 steps in all"
    assert finding.attempt == ("epochs=2.4",)


def test_a_loss_that_strong_weight_decay_keeps_high_is_no_good_fit():
    config = {"optimizer": {"_target_": "trainer.optimizers.SGD", "weight_decay": 0.1}}
    for decay, expected in ((0.1, "too strongly regularized"), (0.001, "good fit")):
        config["optimizer"]["weight_decay"] = decay
        used = {"loss": 0.59, "accuracy": 0.94, "validation_loss": 0.56, "validation_accuracy": 0.94}
        record = written([0.62, 0.6, 0.59], {"lr": 0.2, "config": config, "probe": {**PROBE, "used": used}})
        rows = [{**row, "lr": 0.2, "validation_loss": 0.56, "validation_accuracy": 0.94} for row in record.rows]
        assert diagnose(rows, record.snapshots, record.dataset_info)[0].name == expected


def test_underfitting_of_an_augmented_run_names_the_augmentation():
    used = {"loss": 1.9, "accuracy": 0.3, "validation_loss": 1.9, "validation_accuracy": 0.3}
    for augmentation, named in (({"random_crop": {}}, True), ({}, False)):
        record = written([2.2, 2.0, 1.9], {"probe": {**PROBE, "used": used}, "config": {"augmentation": augmentation}})
        finding = next(
            f for f in diagnose(record.rows, record.snapshots, record.dataset_info) if f.name == "underfitting"
        )
        assert ("augmented too strongly" in finding.meaning) == named
        assert ("augmentation=[]" in finding.attempt) == named


def test_underfitting_names_only_the_causes_that_short_trainings_do_not_exclude():
    used = {"loss": 1.7, "accuracy": 0.4, "validation_loss": 1.7, "validation_accuracy": 0.4}
    alike = {
        kind: [{"factor": 1.0, "lr": 0.05, "loss": loss, "accuracy": 0.4, "validation_loss": 1.7}]
        for kind, loss in {
            "from_used": 1.69,
            "unregularized": 1.69,
            "from_start": 2.2,
            "unregularized_start": 2.2,
        }.items()
    }
    freer = [{**alike["unregularized"][0], "loss": 1.6}]
    longer = [{**alike["from_used"][0], "loss": 1.646}]
    for branches, expected in (
        ({}, "the network is too small."),
        ({"unregularized": freer}, "the network is too small or too strongly regularized."),
        ({"from_used": longer, "unregularized": longer}, "the network is too small or trained too briefly."),
    ):
        config = {"architecture": {"widths": [2, 2]}, "regularizer": {"dropout": {}}, "epochs": 3}
        record = written([2.2, 2.0, 1.7], {"probe": {**PROBE, "used": used, **alike, **branches}, "config": config})
        (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
        assert expected in finding.meaning
        assert finding.attempt[0] == "architecture.widths=[32,32]"


def test_a_short_run_that_has_memorized_its_images_overfits_and_is_not_told_to_train_longer():
    used = {"loss": 0.4, "accuracy": 0.99, "validation_loss": 1.4, "validation_accuracy": 0.6}
    record = written([2.2, 1.0, 0.4], {"probe": {**PROBE, "used": used}})
    rows = [{**row, "step": row["step"] // 5, "validation_accuracy": 0.6} for row in record.rows]
    assert [f.name for f in diagnose(rows, record.snapshots, record.dataset_info)] == ["overfitting"]


def test_a_short_training_that_is_worse_than_guessing_does_not_blame_regularization():
    def found(free: float) -> list[str]:
        branches = {"unregularized": [{"factor": 1.0, "lr": 5.0, "loss": free, "accuracy": 0.1}],
                    "from_used": [{"factor": 1.0, "lr": 5.0, "loss": 1e12, "accuracy": 0.1}]}  # fmt: skip
        used = {"loss": 1e14, "accuracy": 0.1, "validation_loss": 1e14, "validation_accuracy": 0.1}
        return names(written([2.3, 40.0, 90.0], {"probe": {**PROBE, **branches, "used": used}}))

    assert "too strongly regularized" not in found(3.5)
    assert "too strongly regularized" in found(0.5)


def test_early_stopping_that_counts_no_small_gains_is_named_before_what_the_network_has_not_learned():
    used = {"loss": 0.9, "accuracy": 0.7, "validation_loss": 0.9, "validation_accuracy": 0.7}
    stopping = {"patience": 1, "min_delta": 0.35, "metric": "validation_accuracy"}
    config = {"epochs": 20, "regularizer": {"early_stopping": stopping}}
    record = written([1.6, 1.2, 1.1], {"probe": {**PROBE, "used": used}, "config": config, "status": "finished"})
    rows = [{**row, "validation_accuracy": a} for row, a in zip(record.rows, (0.3, 0.6, 0.7), strict=True)]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "still improving"
    assert finding.attempt[0] == "regularizer.early_stopping.min_delta=0"


def test_more_images_are_the_first_advice_against_overfitting_where_the_config_leaves_some_out():
    used = {"loss": 0.1, "accuracy": 0.97, "validation_loss": 0.7, "validation_accuracy": 0.8}

    def advice(limit: int | None) -> str:
        config = {"data": {"limit": limit}, "augmentation": {}, "regularizer": {}}
        record = written([1.6, 0.9, 0.7], {"probe": {**PROBE, "used": used}, "config": config, "train": 500})
        return diagnose(record.rows, record.snapshots, record.dataset_info)[0].attempt[0]

    assert advice(500) == "data.limit=2000"
    assert advice(None) == advice(800) == "augmentation=[rotation]", "no image is left out"


@pytest.mark.parametrize(("held_out", "named"), [(0.725, True), (0.85, False)])
def test_a_wide_gap_of_the_accuracies_is_overfitting_where_the_losses_are_not_yet_far_apart(held_out, named):
    """200 images: the accuracy on the validation images is best, by chance, long before the losses have parted."""
    used = {"loss": 0.447, "accuracy": 0.92, "validation_loss": 0.867, "validation_accuracy": held_out}
    found = names(written([2.1, 1.0, 0.45], {"probe": {**PROBE, "used": used}}))
    assert (found[:1] == ["overfitting"]) == named


def test_a_run_that_its_budget_ended_is_told_so_and_not_to_take_more_epochs():
    config = {"epochs": 40, "engine": {"budget": "6s"}, "regularizer": {"early_stopping": {"patience": 2}}}
    info = {"status": "finished", "stop_reason": "the budget of 6s is used up", "config": config}
    record = written([2.0, 1.5, 1.1, 0.8], info)
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert finding.name == "still improving"
    assert finding.evidence.endswith("engine.budget=6s ended it after 4 of 40 epochs")
    assert finding.attempt == ("engine.budget=null",)


def test_a_network_that_could_hold_its_images_is_trained_too_briefly_rather_than_too_small():
    used = {"loss": 0.9, "accuracy": 0.7, "validation_loss": 0.95, "validation_accuracy": 0.7}
    own = [{"factor": 1.0, "lr": 0.05, "loss": 0.9, "accuracy": 0.7, "validation_loss": 0.95}]
    for parameters, first in ((94_000, "epochs="), (200, "architecture=")):
        info = {"probe": {**PROBE, "used": used, "from_used": own}, "parameters": parameters, "train": 720}
        record = written([2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.12, 1.02, 0.96, 0.92, 0.905, 0.9], info)
        finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
        assert finding.name == "underfitting"
        assert finding.attempt[0].startswith(first)
    finding = diagnose(*vars(written([0.9], {**info, "parameters": 269_000})).values())[0]
    assert finding.attempt[0].startswith("epochs="), "one epoch"


@pytest.mark.parametrize(("dropped", "first"), [(True, "data.channels=3"), (False, "architecture=resnet20")])
def test_gray_images_are_a_cause_of_underfitting_only_where_the_files_have_colors(dropped, first):
    used = {"loss": 1.3, "accuracy": 0.4, "validation_loss": 1.4, "validation_accuracy": 0.35}
    record = written([1.9, 1.4, 1.35], {"probe": {**PROBE, "used": used}, "dropped_colors": dropped})
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert (finding.name, finding.attempt[0]) == ("underfitting", first)


def test_a_fine_tuning_that_underfits_is_trained_further_and_not_made_wider():
    config = {
        "architecture": {"widths": [32, 64]}, "initialization": {"path": "x"}, "recipe": {"lr": "auto", "lr_ratio": 10},
    }  # fmt: skip
    record = written([1.7, 1.6, 1.5], {"config": config, "probe": PROBE})
    rows = [{**row, "lr": 0.0008, "phase": "all"} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "underfitting"
    assert "trained too briefly, or at too low a learning rate" in finding.meaning
    assert finding.attempt[:3] == ("epochs=9", "recipe.lr=0.008", "recipe=scratch")


def test_a_short_training_without_augmentation_that_learns_as_much_in_far_fewer_steps_tells():
    augmentation = {"augmentation": {"rotation": {"degrees": 180}}}
    free = [
        {"factor": 1.0, "lr": 0.05, "loss": 1.4, "accuracy": 0.5, "validation_loss": 1.55, "validation_accuracy": 0.5}
    ]
    record = written([1.7, 1.6, 1.5], {"config": augmentation, "probe": {**PROBE, "unaugmented_start": free}})
    assert "too strongly augmented" not in names(record), "150 of 300 steps"
    rows = [{**row, "step": 3 * row["step"]} for row in record.rows]
    finding = diagnose(rows, record.snapshots, record.dataset_info)[0]
    assert finding.name == "too strongly augmented"
    assert "a training of far fewer steps than the run's leads to" in finding.evidence


def test_a_longer_short_training_without_regularization_counts_where_the_shorter_one_has_not_learned_yet():
    """Short trainings of the regularized run are worse than guessing, those without end at 1.95 and at 1.1."""

    def branches(loss):
        return [{"factor": 1.0, "lr": 0.05, "loss": loss, "accuracy": 0.3, "validation_loss": loss}]

    probe = {
        **PROBE, "used": {**PROBE["used"], "loss": 5.8, "validation_loss": 6.0}, "from_start": branches(5.6),
        "unregularized_start": branches(2.2), "longer_start": branches(6.5), "unregularized_longer_start": branches(1.1),
    }  # fmt: skip
    finding = diagnose(*vars(written([1.8, 1.4, 1.2], {"probe": probe, "batch_size": 32})).values())[0]
    assert finding.name == "too strongly regularized"
    assert "reach a training loss of 1.1" in finding.evidence


def test_batch_norm_over_two_images_is_the_first_cause_of_underfitting():
    probe = {**PROBE, "loss_of_batch_statistics": 1.45}
    finding = diagnose(*vars(written([1.8, 1.6, 1.5], {"probe": probe, "batch_size": 2})).values())[0]
    assert finding.name == "underfitting"
    assert "the network is normalized over batches of 2 or" in finding.meaning
    assert finding.attempt[:2] == ("batch_size=16", "architecture.norm=group")


def test_a_longer_training_from_the_weights_that_are_used_tells_a_short_run_from_a_small_network():
    """A few steps lower the loss by five percent, and many in a network that has not been trained for long enough."""
    for loss, expected in ((0.6, "still improving"), (1.4, "underfitting")):
        probe = {**PROBE, "from_used": [branch_to(1.45, 0.5)], "longer_used": [branch_to(loss, 0.8)]}
        record = written([1.9, 1.7, 1.5], {"probe": probe, "batch_size": 32})
        rows = [{**row, "lr": 0.05 * (row["epoch"] < 3)} for row in record.rows]
        assert names(replace(record, rows=rows))[0] == expected


def test_a_few_steps_without_augmentation_tell_that_it_hides_the_class_of_a_network_that_is_not_bad():
    used = {"loss": 0.39, "accuracy": 0.88, "validation_loss": 0.38, "validation_accuracy": 0.896}
    config = {"augmentation": {"translation": {}, "random_erasing": {}}}
    for augmented, free, expected in ((1.3, 0.23, True), (1.3, 0.35, False), (0.5, 0.23, False)):
        branches = {"from_used": [branch_to(0.375, 0.88, 0.1)], "unaugmented": [branch_to(free, 0.93)]}
        record = written([2.0, 1.6, augmented], {"probe": {**PROBE, "used": used, **branches}, "config": config})
        found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
        assert ("too strongly augmented" in found) == expected
        if expected:
            text = "lower the validation loss from 0.38 to 0.23, with translation, random_erasing to 0.375"
            assert found["too strongly augmented"].evidence == f"20 more steps without augmentation {text}"


@pytest.mark.parametrize(
    ("decay", "norm", "named"), [(0.08, "none", True), (0.08, "batch", False), (0.3, "batch", True)]
)
def test_normalized_networks_survive_a_stronger_weight_decay(decay, norm, named):
    used = {"loss": 0.4, "accuracy": 0.9, "validation_loss": 0.47, "validation_accuracy": 0.89}
    config = {
        "optimizer": {"_target_": "trainer.optimizers.SGD", "weight_decay": decay},
        "architecture": {"norm": norm},
    }
    record = written([0.9, 0.6, 0.5], {"probe": {**PROBE, "used": used}, "config": config, "batch_size": 32})
    assert ("too strongly regularized" in names(record)) == named


@pytest.mark.parametrize(
    ("validation_loss", "accuracy", "mild"), [(0.25, 0.93, True), (0.12, 0.93, False), (0.25, 0.97, False)]
)
def test_a_good_fit_says_what_is_left(validation_loss, accuracy, mild):
    record = written([1.5, 0.5, 0.1], {"batch_size": 32, "config": {"augmentation": {"flip": {}}}})
    rows = [{**row, "validation_accuracy": accuracy, "lr": 0.0} for row in record.rows]
    rows[-1]["validation_loss"] = validation_loss
    (finding,) = diagnose(rows, record.snapshots, record.dataset_info)
    assert (finding.name, finding.kind) == ("good fit", "good")
    assert ("What is left is mild overfitting" in finding.meaning) == mild
    assert finding.attempt[:1] == (("augmentation=[flip,rotation]",) if mild else ())
