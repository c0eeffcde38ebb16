"""Jobs after training, of every kind of task; each number against one computed from the outputs of the network."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import load, result_of
from sklearn import metrics
from torch import nn

from trainer import build, fit, load_config, load_run
from trainer.architectures.layers import Parallel
from trainer.builder import load_splits
from trainer.data.targets import Target
from trainer.data_constraints import check_geometry
from trainer.engine.evaluation import evaluate
from trainer.errors import ConfigError
from trainer.inference import predictions, trained, use_averaged
from trainer.jobs import Fit
from trainer.jobs.evaluate.details import SplitImages
from trainer.jobs.evaluate.run import details_of_tasks
from trainer.jobs.evaluate.scores import check_tta, collect_outputs, scores
from trainer.tasks import Multitask
from trainer.tasks.restrict import at_test, without_other_outputs

DATA = ("data=mnist5k_multitask", "data.limit=150")
SMALL = (
    *DATA, "architecture.widths=[4]", "epochs=0.5", "device=cpu", "precision=float32", "augmentation=none",
    "observer=[checkpoint,history_file]",
)  # fmt: skip
TASKS = ("digit", "parity", "loops", "properties", "slant", "ink")


def learn(output, *overrides):
    """Train into a directory of this name; return the result."""
    return fit(build(load_config([*SMALL, *overrides, f"output={output}"])))


def checkpoint_of(directory):
    config = load_config(["job=evaluate", f"checkpoint={directory}"])
    return config, trained(config, "best")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind of task; tests only read them."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("runs")
    several = "task=multitask"
    for name, overrides in {
        "several": (several,),
        "main": (several, "task.main=digit"),
        "soft": (several, "task.main=digit", "task.sharing=soft"),
        "labels": ("task=multilabel", "task.target=properties"),
        "slant": ("task=regression", "task.target=slant"),
        "digit": ("task.target=digit", "task.loss=bce"),
    }.items():
        learn(place / name, *overrides)
    return place


@pytest.fixture(scope="module")
def images():
    test = load_splits(load_config(list(DATA))).test
    return test.subset(np.arange(0, len(test), 25))


def write_images(images, place):
    place.mkdir()
    for i, image in enumerate(images):
        cv2.imwrite(str(place / f"{i:03}.png"), image)


def outputs_of(directory, images):
    """The task and the outputs of the network of a checkpoint."""
    _, model = checkpoint_of(directory)
    x = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (model.info.mean, model.info.std))
    with torch.no_grad():
        return model.task, model.model((x - mean) / std).double()


# Evaluate


def test_evaluate_has_the_scores_of_the_run_and_a_table_for_each_task(train, runs):
    assert train("job=evaluate", f"checkpoint={runs / 'several'}", "output=e")[0] == 0
    result, run = result_of("e"), result_of(runs / "several")
    for name, value in run["test"].items():
        assert result["test"][name] == pytest.approx(value, rel=1e-5), name
    assert list(result["tasks"]) == list(TASKS)
    assert np.sum(result["tasks"]["parity"]["confusion"]) == 1000
    assert [row["label"] for row in result["tasks"]["properties"]["labels"]] == ["even", "prime", "loop", "above_4"]
    assert {"digit_top5", "digit_ece", "properties_f1", "slant_r2", "ink_rmse"} < set(result["test"])
    files = {path.name for path in Path("e").glob("*.png")}
    assert {
        "confusion_digit.png",
        "reliability_loops.png",
        "labels_properties.png",
        "predicted_slant.png",
        "largest_errors_ink.png",
    } < files


def test_the_table_of_labels_is_that_of_scikit_learn(train, runs):
    assert train("job=evaluate", f"checkpoint={runs / 'labels'}", "output=e")[0] == 0
    test = load_splits(load_config(list(DATA))).test
    _, outputs = outputs_of(runs / "labels", test.images)
    p, truth = outputs.sigmoid().numpy(), test.target("properties")
    stored = load(runs / "labels", "best")["thresholds"]["model"][""]
    for k, row in enumerate(result_of("e")["labels"]):
        predicted = p[:, k] >= stored[k]
        assert row["threshold"] == stored[k]
        assert row["precision"] == pytest.approx(metrics.precision_score(truth[:, k], predicted, zero_division=0))
        assert row["recall"] == pytest.approx(metrics.recall_score(truth[:, k], predicted))
        ap = metrics.average_precision_score(truth[:, k], p[:, k])
        assert row["average_precision"] == pytest.approx(ap, rel=1e-4)
    worst = result_of("e")["misclassified"][0]
    loss = nn.functional.binary_cross_entropy_with_logits(outputs, torch.from_numpy(truth).double(), reduction="none")
    wrong = ((p >= np.array(stored)) != (truth > 0.5)).any(1)
    assert worst["index"] == np.where(wrong, loss.mean(1).numpy(), 0).argmax()


def test_the_errors_of_numbers_are_in_original_units(train, runs):
    assert train("job=evaluate", f"checkpoint={runs / 'slant'}", "job.worst=3", "output=e")[0] == 0
    test, result = load_splits(load_config(list(DATA))).test, result_of("e")
    spec = load(runs / "slant", "best")["info"]["targets"][0]
    _, outputs = outputs_of(runs / "slant", test.images)
    predicted = outputs[:, 0].numpy() * 0.1 * spec["std"][0] + spec["mean"][0]
    truth = test.target("slant")[:, 0]
    assert result["test"]["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted), rel=1e-5)
    assert result["test"]["r2"] == pytest.approx(metrics.r2_score(truth, predicted), abs=1e-5)
    largest = np.argsort(-np.abs(truth - predicted))[:3]
    assert [row["index"] for row in result["largest_errors"]] == largest.tolist()
    assert result["largest_errors"][0]["predicted"] == pytest.approx(predicted[largest[0]], abs=1e-5)


def test_images_without_a_label_do_not_count(runs):
    config, model = checkpoint_of(runs / "main")
    splits = load_splits(config)
    labels = splits.test.labels
    labels[::2] = -1
    task, outputs, targets = collect_outputs(config, model, splits, ["test"])
    known = labels >= 0
    values = scores(task, outputs, targets, 5)
    assert values["accuracy"] == pytest.approx((outputs.argmax(1).numpy() == labels)[known].mean())
    loss = nn.functional.cross_entropy(outputs[known], torch.from_numpy(labels[known]))
    assert values["loss"] == pytest.approx(float(loss), rel=1e-5)
    details = details_of_tasks(task, outputs, targets, SplitImages(splits, ["test"]), 5)[""]
    assert all(row["index"] % 2 == 1 for row in details.content["misclassified"])
    assert sum(row["images"] for row in details.content["classes"]) == known.sum()
    labels[:] = -1
    task, outputs, targets = collect_outputs(config, model, splits, ["test"])
    assert np.isnan([scores(task, outputs, targets, 5)[name] for name in ("loss", "accuracy")]).all()
    assert details_of_tasks(task, outputs, targets, SplitImages(splits, ["test"]), 5) == {}


def test_data_without_the_target_is_refused_and_a_single_target_may_have_any_name(train, runs):
    code, _, err = train("job=evaluate", f"checkpoint={runs / 'slant'}", "data=mnist5k")
    assert code == 2
    assert "has classes as target label, the checkpoint predicts numbers" in err
    code, _, err = train("job=evaluate", f"checkpoint={runs / 'several'}", "data=mnist5k")
    assert code == 2
    assert "has no target digit, which the checkpoint predicts; it has label" in err
    code, _, err = train("job=evaluate", f"checkpoint={runs / 'main'}", "data=mnist5k", "output=e")
    assert code == 0, err


def test_mirror_images_are_refused_where_they_may_change_a_number(runs):
    with pytest.raises(ConfigError, match=r"job\.tta=mirror moves pixels, and what that does to slant is not known"):
        check_tta(checkpoint_of(runs / "several")[1].task, "mirror")
    check_tta(checkpoint_of(runs / "several")[1].task, "none")
    check_tta(checkpoint_of(runs / "main")[1].task, "mirror")
    own = [*SMALL, "task=regression", "task.target=ink"]
    for overrides, count in (([], 1), (["task.geometry=invariant"], 0)):
        config = load_config([*own, *overrides])
        mirrored = dataclasses.replace(config, job=Fit(tta="mirror"))
        assert len(check_geometry(mirrored, build(config).task)) == count
        assert check_geometry(config, build(config).task) == []


# Predict


def test_predict_has_columns_for_each_task(train, runs, images, tmp_path):
    write_images(images.images, tmp_path / "own")
    call = ("job=predict", f"checkpoint={runs / 'several'}", "job.images=own")
    code, out, err = train(*call, "job.top=2", "output=p")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    task, outputs = outputs_of(runs / "several", images.images)
    own = {part.name: part.own(outputs) for part in task.parts}
    stored = load(runs / "several", "best")["thresholds"]["model"]["properties"]
    specs = {spec["name"]: spec for spec in load(runs / "several", "best")["info"]["targets"]}
    assert len(rows) == len(images)
    for i, row in enumerate(rows):
        digits = own["digit"][i].softmax(0)
        first, second = digits.argsort(descending=True)[:2].tolist()
        assert (row["digit_class"], row["digit_class_2"]) == (str(first), str(second))
        assert float(row["digit_probability"]) == pytest.approx(float(digits[first]), abs=1e-4)
        p = own["properties"][i].sigmoid().tolist()
        chosen = [n for n, v, t in zip(("even", "prime", "loop", "above_4"), p, stored, strict=True) if v >= t]
        assert row["properties_labels"] == ";".join(chosen)
        assert float(row["properties_probability_prime"]) == pytest.approx(p[1], abs=1e-4)
        number = outputs[i, -1] * 0.1 * specs["ink"]["std"][0] + specs["ink"]["mean"][0]
        assert float(row["ink"]) == pytest.approx(float(number), rel=1e-4)
    _, out, _ = train(*call, "job.format=jsonl", "output=j")
    line = json.loads(out.splitlines()[3])
    assert line["digit"]["class"] == rows[3]["digit_class"]
    assert list(line["properties"]["probabilities"]) == ["even", "prime", "loop", "above_4"]
    assert line["slant"]["numbers"]["slant"] == pytest.approx(float(rows[3]["slant"]), rel=1e-4)


def test_a_single_task_has_columns_without_its_name(train, runs, images, tmp_path):
    write_images(images.images[:3], tmp_path / "own")
    for name, header in {
        "main": "file,class,probability",
        "labels": "file,labels,probability_even,probability_prime,probability_loop,probability_above_4",
        "slant": "file,slant",
    }.items():
        _, out, err = train("job=predict", f"checkpoint={runs / name}", "job.images=own", f"output={name}")
        assert out.splitlines()[0] == header, err


# The main task


@pytest.mark.parametrize("name", ["main", "soft"])
def test_only_the_network_of_the_main_task_runs(name, runs, images):
    config, model = checkpoint_of(runs / name)
    sharing = "soft" if name == "soft" else "hard"
    run = build(load_config([*SMALL, "task=multitask", "task.main=digit", f"task.sharing={sharing}"]))
    run.model.load_state_dict(load(runs / name, "best")["model"])
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        whole = run.model.eval()(x)
        assert torch.allclose(model.model(x), whole[:, :10], atol=1e-6)
    assert whole.shape == (3, 21)
    assert model.task.classes == tuple("0123456789")
    count = sum(p.numel() for p in model.model.parameters())
    alone = sum(p.numel() for p in build(load_config([*SMALL, "task.target=digit"])).model.parameters())
    assert count == alone
    assert config.task.main == "digit"


@pytest.mark.parametrize("name", ["main", "soft"])
def test_a_run_tests_the_main_task_alone_as_job_evaluate_does(name, train, runs):
    result = result_of(runs / name)
    for tested in (result["test"], result["last"]["test"]):
        assert set(tested) == {"digit_loss", "digit_accuracy"}
    assert {f"{task}_loss" for task in TASKS} < set(result["validation"])
    assert train("job=evaluate", f"checkpoint={runs / name}", "output=e")[0] == 0
    assert result_of("e")["test"]["accuracy"] == pytest.approx(result["test"]["digit_accuracy"])
    assert result_of("e")["test"]["loss"] == pytest.approx(result["test"]["digit_loss"], rel=1e-4)


def test_the_other_networks_of_soft_sharing_do_not_run_on_test_images():
    run = build(load_config([*SMALL, "task=multitask", "task.main=slant", "task.sharing=soft", "averaging=ema"]))
    assert isinstance(run.model, Parallel)
    assert run.averaged is not None
    for model in (run.model, run.averaged):
        task, network = at_test(run.task, model)
        whole = model.module if model is run.averaged else model
        assert network is whole.network("slant")
        assert set(evaluate(network, run.test, run.precision, task)) == {"slant_loss", "slant_mae"}


def test_without_validation_images_the_predictions_of_test_images_are_those_of_the_main_task(train):
    alone = ("data.validation=0", "regularizer=[]", "observer=[checkpoint,history_file,predictions]")
    code, _, err = train(*SMALL, "task=multitask", "task.main=slant", *alone, "output=r")
    assert code == 0, err
    written = json.loads(Path("r/predictions.json").read_text())
    assert written["split"] == "test"
    assert list(written["tasks"]) == ["slant"]


def test_outputs_are_selected_where_the_last_layer_cannot_be_reduced():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.register = nn.Linear(4, 3), 1.0

        def forward(self, x):
            return self.head(x.flatten(1)).softmax(1)  # depends on all rows

    model = Mixing()
    x = torch.rand(5, 1, 2, 2)
    chosen = without_other_outputs(model, slice(1, 3), 3, (1, 2, 2))
    assert torch.equal(chosen(x), model(x)[:, 1:3])
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    reduced = without_other_outputs(plain, slice(1, 3), 3, (1, 2, 2))
    assert torch.allclose(reduced(x), plain(x)[:, 1:3])
    assert [m.out_features for m in reduced.modules() if isinstance(m, nn.Linear)] == [2]
    assert plain[1].out_features == 3, "the given network stays as it is"


# Export


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's and onnx's own
def test_an_exported_file_has_an_output_for_each_task(train, runs, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, _, err = train("job=export", f"checkpoint={runs / 'several'}", "job.format=both", "output=x")
    assert code == 0, err
    session = onnxruntime.InferenceSession("x/model.onnx")
    assert [output.name for output in session.get_outputs()] == list(TASKS)
    x = images.images.transpose(0, 3, 1, 2).copy()
    answer = dict(zip(TASKS, session.run(None, {"images": x}), strict=True))
    expected = load_run(runs / "several").model().predict(images.images)
    other = torch.export.load("x/model.pt2").module()(torch.from_numpy(x))
    for name in TASKS:
        assert answer[name] == pytest.approx(expected[name], abs=1e-5)
        assert other[name].detach().numpy() == pytest.approx(expected[name], abs=1e-5)
    about = {item["output"]: item for item in json.loads(session.get_modelmeta().custom_metadata_map["tasks"])}
    stored = load(runs / "several", "best")["thresholds"]["model"]["properties"]
    assert about["properties"]["thresholds"] == stored
    assert about["slant"]["kind"] == "regression"


def test_an_exported_main_task_of_soft_sharing_is_as_small_as_a_network_of_its_own(train, runs, images):
    sizes = {}
    for name in ("soft", "digit"):
        assert train("job=export", f"checkpoint={runs / name}", "job.format=torch", f"output={name}")[0] == 0
        sizes[name] = result_of(name)["torch"]["bytes"]
    assert sizes["soft"] == pytest.approx(sizes["digit"], rel=0.05)
    _, several = checkpoint_of(runs / "soft")
    assert not isinstance(several.model, Parallel)
    answer = torch.export.load("digit/model.pt2").module()(torch.from_numpy(images.images.transpose(0, 3, 1, 2).copy()))
    _, outputs = outputs_of(runs / "digit", images.images)
    assert answer.detach().numpy() == pytest.approx(outputs.sigmoid().numpy(), abs=1e-5), "a sigmoid per class with bce"


# Python


def test_a_predictor_returns_a_dict_by_the_names_of_the_tasks(runs, images):
    assert list(load_run(runs / "several").model().predict(images.images)) == list(TASKS)
    single = load_run(runs / "main").model()
    assert single.classes == tuple("0123456789")
    assert single.predict(images.images).shape == (len(images), 10)
    numbers = load_run(runs / "slant").model().predict(images.images)
    spec = load(runs / "slant", "best")["info"]["targets"][0]
    _, outputs = outputs_of(runs / "slant", images.images)
    assert numbers["slant"] == pytest.approx(outputs.numpy() * 0.1 * spec["std"][0] + spec["mean"][0], abs=1e-5)
    labels = load_run(runs / "labels").model()
    assert labels.tasks["properties"].thresholds == load(runs / "labels", "best")["thresholds"]["model"][""]


# Ensembles


def test_an_ensemble_averages_each_task_in_its_own_form(train, images):
    members = ("job=ensemble", "job.kind=folds", "job.models=2", *SMALL, "task=multitask", "output=e")
    code, _, err = train(*members)
    assert code == 0, err
    own = [load_run(f"e/member_{i}").model() for i in range(2)]
    means = [own[i].tasks["slant"].mean for i in range(2)]
    assert means[0] != means[1], "the members standardize by their own training images"
    each = [model.predict(images.images) for model in own]
    _, whole = checkpoint_of("e")
    found = predictions(whole, images.images, False, 64)
    for name in TASKS:
        assert found[name].numpy() == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-4), name
    stored = [load(f"e/member_{i}", "best")["thresholds"]["model"]["properties"] for i in range(2)]
    assert whole.task.parts[3].thresholds == pytest.approx(np.mean(stored, 0))
    result = result_of("e")
    assert result["metric"] == "loss"
    assert result["gain"] == pytest.approx(np.mean([m["loss"] for m in result["members"]]) - result["test"]["loss"])
    assert train("job=evaluate", "checkpoint=e", "output=v")[0] == 0
    assert result_of("v")["test"]["slant_mae"] == pytest.approx(result["test"]["slant_mae"], rel=1e-4)


def test_the_main_task_of_an_ensemble_and_the_lowest_error_are_selected(train, images):
    call = ("job=ensemble", "job.models=3", "job.top=2", *SMALL, "task=multitask", "task.main=slant", "output=e")
    code, _, err = train(*call)
    assert code == 0, err
    errors = {f"seed {i}": result_of(f"e/member_{i}")["validation"]["slant_mae"] for i in range(3)}
    assert {m["name"] for m in result_of("e")["members"]} == set(sorted(errors, key=errors.get)[:2])
    assert result_of("e")["metric"] == "mae"
    _, whole = checkpoint_of("e")
    assert [part.spec.target for part in whole.task.parts] == ["slant"]
    chosen = [int(m["name"].split()[1]) for m in result_of("e")["members"]]
    each = [predictions(checkpoint_of(f"e/member_{i}")[1], images.images, False, 64)[""] for i in chosen]
    found = predictions(whole, images.images, False, 64)[""]
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-5)


def test_runs_that_share_in_different_ways_are_an_ensemble_of_the_main_task(train, runs):
    members = f"runs=[{runs / 'main'},{runs / 'soft'}]"
    code, _, err = train("job=ensemble", "job.kind=runs", members, *DATA, "device=cpu", "output=e")
    assert code == 0, err
    assert set(result_of("e")["test"]) >= {"loss", "accuracy"}
    members = f"runs=[{runs / 'main'},{runs / 'several'}]"
    code, _, err = train("job=ensemble", "job.kind=runs", members, *DATA, "device=cpu", "output=f")
    assert code == 2
    assert "was trained on other classes than" in err
    code, _, err = train("job=ensemble", "job.kind=runs", f"runs=[{runs / 'main'},{runs / 'soft'}]", "data=digits")
    assert code == 2
    assert "differs from the data of the runs: images of (1, 8, 8) instead of (1, 28, 28)" in err


# Checkpoints


def test_a_checkpoint_from_before_there_were_targets_classifies(train, images, tmp_path):
    result = learn("r", "data=mnist5k")
    path = tmp_path / "r" / "checkpoints" / "best.pt"
    content = torch.load(path, weights_only=True)
    del content["info"]["targets"], content["info"]["config"]["task"]
    torch.save(content, "old.pt")
    assert train("job=evaluate", "checkpoint=old.pt", "output=e")[0] == 0
    assert result_of("e")["test"]["accuracy"] == pytest.approx(result["test"]["accuracy"])
    write_images(images.images[:2], tmp_path / "own")
    _, out, err = train("job=predict", "checkpoint=old.pt", "job.images=own", "output=p")
    assert out.splitlines()[0] == "file,class,probability", err


@pytest.mark.parametrize(("metric", "row", "expected"), [
    ("auto", {"averaged_slant_mae": 0.2, "validation_slant_mae": 0.3}, True),
    ("auto", {"averaged_slant_mae": 0.3, "validation_slant_mae": 0.2}, False),
    ("validation_digit_accuracy", {"averaged_digit_accuracy": 0.9, "validation_digit_accuracy": 0.8}, True),
    ("validation_digit_accuracy", {"averaged_digit_accuracy": 0.7, "validation_digit_accuracy": 0.8}, False),
    ("auto", {"averaged_slant_mae": float("nan"), "validation_slant_mae": 0.2}, False),
])  # fmt: skip
def test_averaged_weights_are_used_where_they_are_as_good_by_the_metric_of_the_run(metric, row, expected):
    task = build(load_config([*SMALL, "task=multitask", "task.main=slant"])).task
    info = {"classes": [], "shape": [1, 28, 28], "mean": [0.0], "std": [1.0], "config": {"metric": metric}}
    content = {"format": 1, "info": info, "row": row, "model": {}, "averaged": {}}
    assert use_averaged(content, task, "auto") is expected


@pytest.mark.parametrize(("name", "text"), [
    ("f1_score", "'f1' is the name of a metric"), ("slant_mae", "'mae' is the name"), ("eye color", "letters, digits and _"),
])  # fmt: skip
def test_names_that_would_change_the_direction_of_a_metric_are_refused(name, text):
    with pytest.raises(ValueError, match=text):
        Multitask(tasks={name: {"target": "digit"}, "other": {"target": "parity"}})
    with pytest.raises(ConfigError, match=text):
        Multitask().parts((Target(name, "regression", ("x",)), Target("b", "regression", ("x",))))
