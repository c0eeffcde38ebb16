"""Diagnosis: each failure mode is induced with the real engine and found; healthy runs give no warning."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from diagnosing import CAUSES_OF, FAILURE_MODES, HEALTHY, MLP, PROBE, WRITTEN, arrays, names, record_of, written

from trainer.analysis.diagnosis import CHECKS, diagnose, urgent
from trainer.analysis.diagnosis.advice import finding_in_markdown
from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.loop import fit
from trainer.engine.view import RunView


@pytest.mark.parametrize("failure", FAILURE_MODES)
def test_an_induced_failure_mode_is_found_with_evidence_and_overrides_to_try(failure):
    for name in ("shuffled", "noisy", "mixed", "leaking", "unequal", "contradictory", "copied", "blank"):
        if f"data.path={name}.npz" in FAILURE_MODES[failure]:
            arrays(name)
    record = record_of(FAILURE_MODES[failure])
    findings = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    if failure not in findings:  # a consequence of another one
        cause = next(f for f in findings.values() if failure in f.meaning.partition("Its consequences: ")[2])
        assert cause.name in CAUSES_OF[failure]
        findings[failure] = cause
    finding = findings[failure]
    assert any(c.isdigit() for c in finding.evidence)
    assert finding.meaning.endswith(".")
    assert finding.attempt
    of_data = ("train/test leakage", "contradictory labels", "near duplicates", "class imbalance", "repeated image")
    assert "good fit" not in findings or failure in of_data


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_the_finding_good_fit_and_no_other(name):
    record = record_of(("epochs=10", "data.validation=300", *HEALTHY[name]))
    assert names(record) == ["good fit"]


def test_every_check_except_good_fit_is_tested_on_an_induced_failure_mode():
    made = {*FAILURE_MODES, *WRITTEN, "good fit"}
    # Vanishing and exploding gradients are one check, and so are activations; two checks each find dead units and batch norm of
    # tiny batches, three that a run is still improving.
    assert len(CHECKS) == len(made) + 1


def test_no_override_is_suggested_that_is_in_use_or_drops_an_augmentation():
    record = record_of((*MLP, "epochs=6", "optimizer.lr=1e-9", "initialization=auto"))
    (finding,) = [
        f
        for f in diagnose(record.rows, record.snapshots, record.dataset_info)
        if "not learning" in f.name or "low" in f.name
    ]
    assert not {"initialization=auto", "activation=relu"} & set(finding.attempt)
    config = {
        "augmentation": {"crop": {}, "flip": {}},
        "architecture": {"_target_": "trainer.architectures.ResNet", "depth": 20},
    }
    info = {**record.dataset_info, "config": config, "probe": None}
    curves = [{**row, "train_loss": 1.0 / (i + 1), "validation_loss": 1.0 + i, "train_accuracy": 0.9, "validation_accuracy": 0.6}
              for i, row in enumerate([record.rows[0]] * 4)]  # fmt: skip
    (overfit,) = [f for f in diagnose(curves, [], info) if f.name == "overfitting"]
    assert overfit.attempt[0] == "augmentation=[crop,flip,rotation]"
    assert "optimizer.weight_decay=0.005" not in overfit.attempt, "the config has no such key"


def test_an_urgent_finding_is_reported_during_the_run(train, tmp_path):
    overrides = (
        "data=digits",
        *MLP,
        "optimizer=sgd",
        "optimizer.lr=1e12",
        "epochs=3",
        "output=run",
        "observer.diagnosis.every=5",
    )
    code, _, err = train(*overrides)
    assert code == 1, "it diverged"
    line = next(line for line in err.splitlines() if line.startswith("NaN or Inf loss"))
    assert "step 5 " in line
    assert "in its weights" in line
    assert "optimizer.lr=" in line


def test_an_urgent_finding_advises_what_explains_it(train):
    """Not a lower learning rate where the first batch already had a loss of thousands."""
    code, out, err = train(
        "data=digits", "architecture=cnn", "architecture.norm=none", "initialization=normal", "initialization.std=1",
        "optimizer.lr=10", "epochs=2", "observer=[histograms,diagnosis,console]", "output=run", "device=cpu",
        "precision=float32",
    )  # fmt: skip
    assert code == 1, "it diverged"
    line = next(line for line in (out + err).splitlines() if line.startswith("NaN or Inf loss"))
    assert "exploding activations: at step 1 the loss is" in line
    assert ". Try initialization=auto or " in line
    assert "exploding activations" in {finding["name"] for finding in json.loads(Path("run/findings.json").read_text())}


def test_the_first_layer_with_a_nonfinite_value_is_named(tmp_path):
    run = build(load_config(["data=digits", *MLP, "precision=float32", "epochs=1"]))
    fit(run)
    from trainer.observers.nonfinite import first_nonfinite

    assert first_nonfinite(RunView(run)) is None
    run.model[4].weight.data[0, 0] = math.inf
    assert first_nonfinite(RunView(run)) == "4 (Linear, in its weights)"


def test_an_empty_record_gives_no_findings():
    assert diagnose([], [], {}) == []
    assert urgent([{"epoch": 1.0, "train_loss": 0.5}], [], {}) == []


def test_findings_are_in_the_result_the_run_directory_and_the_terminal(train, tmp_path):
    code, out, _ = train("data=digits", *MLP, "epochs=2", "batch_size=128", "output=run")
    assert code == 0
    findings = json.loads(Path("run/findings.json").read_text())
    assert [f["name"] for f in findings] == ["still improving"]
    assert json.loads(Path("run/result.json").read_text())["findings"] == findings
    assert f"still improving: {findings[0]['evidence']}" in out
    assert "Try epochs=20" in out
    facts = json.loads(Path("run/dataset_info.json").read_text())
    assert facts["prior_entropy"] == pytest.approx(math.log(10), abs=1e-2)
    assert facts["duplicates"] == {"train/validation": 0, "train/test": 0, "validation/test": 0}


def test_the_diagnosis_does_not_import_scipy_statistics_unless_chance_is_in_question():
    """They take half a second to import, which most runs can do without."""
    rows = "[{'epoch': float(e), 'train_loss': 1 / e, 'validation_loss': 1 / e, 'validation_accuracy': 0.9} for e in (1, 2, 3)]"
    code = (
        "import sys; from trainer.analysis.diagnosis import diagnose; "
        f"diagnose({rows}, [], {{'prior_entropy': 2.3, 'class_counts': [5, 5], 'validation': 10}}); "
        "print([m for m in ('torch', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_symptom_has_the_cause_that_the_short_trainings_show():
    """A training loss of 1.5 after 300 steps."""

    def diagnosed(**branches):
        listed = {
            kind: [
                {"factor": f, "lr": 0.05 * f, "loss": x, "accuracy": 0.5, "validation_loss": x}
                for f, x in losses.items()
            ]
            for kind, losses in branches.items()
        }
        return names(written([2.0, 1.6, 1.5], {"probe": {**PROBE, **listed}}))[0]

    assert diagnosed(from_start={0.1: 2.2, 1.0: 2.0, 10.0: 0.9}) == "learning rate too low"
    assert diagnosed(from_start={0.1: 0.9, 1.0: 2.0, 10.0: 2.3}) == "learning rate too high"
    assert diagnosed(from_start={0.1: 2.2, 1.0: 2.0, 10.0: 2.3}) == "underfitting"
    assert diagnosed(from_start={1.0: 2.0}, unregularized_start={1.0: 0.9}) == "too strongly regularized"
    assert diagnosed(from_used={0.1: 1.3, 1.0: 1.0}) == "ends at a high learning rate"


def test_what_a_command_must_leave_out_for_an_override_to_be_added_is_said():
    config = {"regularizer": {"dropout": {"p": 0.95}}}
    info = {
        "config": config,
        "probe": PROBE,
        "typed": ["regularizer=[dropout]", "regularizer.dropout.p=0.95", "epochs=3"],
    }
    record = written([2.3, 2.2, 2.1], info)
    finding = diagnose(record.rows, record.snapshots, record.dataset_info)[0]
    assert finding.attempt[0] == "regularizer=[]"
    assert finding.meaning.endswith("To try regularizer=[], remove regularizer.dropout.p=0.95 from the command.")


def test_the_most_upstream_cause_is_reported_and_the_others_as_its_consequences():
    record = written([2.31, 2.3, 2.3], {"probe": PROBE}, input_mean=77.0, input_std=95.0, batch_loss=50.0)
    (cause,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert cause.name == "inputs not normalized"
    assert "Its consequences: high initial loss and underfitting." in cause.meaning


def test_a_finding_says_what_makes_the_short_trainings_that_were_left_out():
    record = written([2.3, 2.2, 2.1], {"probe": {**PROBE, "enough": 0.4}})
    (finding,) = diagnose(record.rows, record.snapshots, record.dataset_info)
    assert "Not all short trainings that tell causes apart were made" in finding.meaning
    assert "observer.diagnosis.probe_fraction=0.4 makes them" in finding.meaning


def test_the_rule_of_an_initialization_of_the_user_is_not_that_of_the_option_of_the_same_name():
    from trainer.analysis.diagnosis.advice import applicable

    for target, expected in (("trainer.initialization.Initialization", ()), ("mine.Biased", ("initialization=auto",))):
        config = {"initialization": {"_target_": target, "rule": "auto"}}
        assert applicable(("initialization=auto",), config) == expected


def test_a_suggestion_that_is_no_override_is_told_as_an_action():
    record = written([1.7, 1.6, 1.5], {"contradictory": 40})
    found = {f.name: f for f in diagnose(record.rows, record.snapshots, record.dataset_info)}
    text = finding_in_markdown(found["contradictory labels"].as_dict())
    assert text.endswith(" Correct the labels, or remove the images.")
    assert "Try" not in text
