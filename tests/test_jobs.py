"""Jobs after training: evaluate, ensemble, predict, export; each number against one computed independently."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import QUIET, load, result_of

from trainer import jobs
from trainer.architectures.ensemble import Ensemble, average_outputs
from trainer.builder import load_splits
from trainer.config.load import load_config
from trainer.data.folds import fold
from trainer.engine.metrics import calibration, top_accuracy

SMALL = (
    "data=fake", "data.size=12", "data.count=300", "data.num_classes=6", "architecture.widths=[4,8]", "batch_size=32",
    "device=cpu", "precision=float32", "epochs=2", QUIET,
)  # fmt: skip
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(train):
    """Train into the directory ``run``; return its test images (N, H, W, C) and labels."""
    code, _, err = train(*SMALL, "output=run")
    assert code == 0, err
    splits = load_splits(load_config(list(SMALL[:4])))
    return splits.test.images, splits.test.labels


def probabilities(folder, images):
    """The network's probabilities, computed from the checkpoint's weights with a network built here."""
    from trainer.activations import Activation
    from trainer.architectures import CNN

    content = load(folder, "best")
    info = content["info"]
    model = CNN(widths=(4, 8)).build(tuple(info["shape"]), len(info["classes"]), Activation("relu")).eval()
    model.load_state_dict(content["model"])
    x = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(info[k]).view(1, -1, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        return model((x - mean) / std).double().softmax(1).numpy()


def calibration_error(p, labels, bins=15):
    """Expected calibration error by a loop over the images of every bin, as in the paper."""
    confidence, correct, total = p.max(1), p.argmax(1) == labels, 0.0
    for i in range(bins):
        inside = [j for j in range(len(p)) if i / bins < confidence[j] <= (i + 1) / bins]
        if inside:
            total += len(inside) / len(p) * abs(np.mean(correct[inside]) - np.mean(confidence[inside]))
    return total


def test_evaluate_gives_the_scores_computed_by_hand(train, run):
    images, labels = run
    assert train("job=evaluate", "checkpoint=run", "job.top=3", "output=e")[0] == 0
    p, scores = probabilities("run", images), result_of("e")["test"]
    assert scores["accuracy"] == pytest.approx((p.argmax(1) == labels).mean())
    assert scores["loss"] == pytest.approx(-np.log(p[np.arange(len(p)), labels]).mean(), rel=1e-4)
    ranks = (-p).argsort(1)[:, :3]
    assert scores["top3"] == pytest.approx(np.mean([y in row for y, row in zip(labels, ranks, strict=True)]))
    assert scores["ece"] == pytest.approx(calibration_error(p, labels), abs=1e-4)
    worst = result_of("e")["misclassified"][0]
    losses = -np.log(p[np.arange(len(p)), labels]) * (p.argmax(1) != labels)
    assert worst["index"] == losses.argmax()
    for name in ("confusion", "misclassified", "reliability"):
        assert (Path("e") / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_evaluate_accepts_the_keys_of_the_checkpoints_data(train, run):
    """And not those of the default data set, which this run does not use."""
    assert "count" not in load_config([]).tree["data"]
    code, _, err = train("job=evaluate", "checkpoint=run", "data.count=400", "output=evaluated")
    assert code == 0, err
    code, _, err = train("job=evaluate", "checkpoint=run", "data.cuont=40")
    assert code == 2
    assert "data.cuont = 40: unknown key" in err
    assert "did you mean 'count'?" in err


@pytest.mark.parametrize(("arguments", "message"), [
    (("checkpoint=notes.txt",), "checkpoint = 'notes.txt': "),
    (("checkpoint=run", "~data"), "cannot be removed from the saved config"),
    (("checkpoint=run", "data._target_=3"), "data._target_ = 3: "),
])  # fmt: skip
def test_a_file_that_is_no_checkpoint_and_impossible_data_are_errors(arguments, message, train, run):
    Path("notes.txt").write_text("nothing\n")
    code, _, err = train("job=evaluate", *arguments)
    assert code == 2
    assert message in err


def test_all_splits_can_be_evaluated_together(train, run):
    for split in ("train", "validation", "test", "all"):
        assert train("job=evaluate", "checkpoint=run", f"job.split={split}", f"output={split}")[0] == 0
    counts = {s: np.sum(result_of(s)["confusion"]) for s in ("train", "validation", "test", "all")}
    assert counts["all"] == counts["train"] + counts["validation"] + counts["test"] == 300
    hits = sum(result_of(s)[s]["accuracy"] * counts[s] for s in ("train", "validation", "test"))
    assert result_of("all")["all"]["accuracy"] == pytest.approx(hits / 300)


def test_the_calibration_error_is_zero_for_calibrated_and_large_for_overconfident_predictions():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, 4, generator=generator).pow(3)
    p /= p.sum(1, keepdim=True)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    assert calibration(p.log(), labels)[0] < 0.02
    assert calibration(5 * p.log(), labels)[0] > 0.2
    assert top_accuracy(p.log(), labels, 4) == 1.0


def write_images(images, labels, place, names=None):
    """Write images as PNG files, one directory per class."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = place / (names[label] if names else str(label)) / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1] if image.shape[2] == 3 else image)


def test_evaluating_a_directory_of_the_same_images_gives_the_same_scores_and_names_the_errors(train, run, tmp_path):
    images, labels = run
    write_images(images, labels, tmp_path / "own")
    assert train("job=evaluate", "checkpoint=run", "output=a")[0] == 0
    own = ("data=folder", "data.root=own", "data.size=12", "data.test=0", "data.validation=0", "job.split=all")
    code, out, err = train("job=evaluate", "checkpoint=run", *own, "output=b")
    assert code == 0, err
    assert result_of("b")["all"] == pytest.approx(result_of("a")["test"], abs=1e-6)
    if result_of("b")["misclassified"]:
        assert result_of("b")["misclassified"][0]["file"] in out


def test_other_classes_of_the_same_number_are_an_error(train, run, tmp_path):
    images, labels = run
    write_images(images, labels, tmp_path / "one", names="abcdef")
    write_images(images, labels, tmp_path / "two", names="uvwxyz")
    data = ("data=folder", "data.size=12", *SMALL[4:])
    assert train(*data, "data.root=one", "output=named")[0] == 0
    code, _, err = train("job=evaluate", "checkpoint=named", "data=folder", "data.root=two", "data.size=12")
    assert code == 2
    assert "contains classes that the checkpoint does not contain: u, v, w, x, y, ... (1 more)" in err
    assert "the checkpoint has a, b, c, d, e, f" in err


def test_predict_gives_the_networks_probabilities_and_skips_unreadable_files(train, run, tmp_path):
    images, labels = run
    write_images(images[:20], labels[:20], tmp_path / "own")
    (tmp_path / "own" / "broken.png").write_bytes(b"not an image")
    code, out, err = train("job=predict", "checkpoint=run", "job.images=own", "job.top=2", "output=p")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert Path("p/predictions.csv").read_text() == out
    assert len(rows) == 20
    assert "skipped own/broken.png: not an image that can be decoded" in err
    p = probabilities("run", images[:20])
    for row in rows:
        i = int(Path(row["file"]).stem)
        first, second = (-p[i]).argsort()[:2]
        assert (row["class"], row["class_2"]) == (str(first), str(second))
        assert float(row["probability"]) == pytest.approx(p[i, first], abs=2e-4)


def test_predict_crops_the_center_as_training_did(train, run, tmp_path):
    images, labels = run
    framed = [np.pad(image, ((9, 9), (9, 9), (0, 0)), constant_values=255) for image in images[:40]]
    write_images(framed, labels[:40], tmp_path / "framed")
    overrides = ("data=folder", "data.root=framed", "data.size=12", f"data.crop_pct={12 / 30}", "data.test=0")
    code, _, err = train(*overrides, *SMALL[4:-2], "epochs=1", "observer=[checkpoint]", "output=middle")
    assert code == 0, err
    code, out, err = train("job=predict", "checkpoint=middle", "job.images=framed", "output=p")
    assert code == 0, err
    p = probabilities("middle", images[:40])
    for row in csv.DictReader(io.StringIO(out)):
        assert float(row["probability"]) == pytest.approx(p[int(Path(row["file"]).stem)].max(), abs=2e-3)


def test_predict_accepts_globs_lists_and_standard_input_and_writes_json_lines(train, run, tmp_path, monkeypatch):
    images, labels = run
    write_images(images[:8], labels[:8], tmp_path / "my images")
    files = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "my images").rglob("*.png"))
    call = ("job=predict", "checkpoint=run", "job.format=jsonl")
    _, globbed, err = train(*call, "job.images=my images/**/*.png", "output=a")
    assert [json.loads(line)["file"] for line in globbed.splitlines()] == files, err
    _, listed, err = train(*call, f"job.images=['{files[0]}','{files[3]}']", "output=b")
    assert listed.splitlines() == [globbed.splitlines()[0], globbed.splitlines()[3]], err
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*files, "nowhere.png", ""])))
    code, piped, err = train(*call, "job.images=-", "output=c")
    assert (code, piped) == (0, globbed)
    assert "skipped nowhere.png: no such file" in err


def test_wrong_uses_of_predict_are_errors(train, run, tmp_path):
    (tmp_path / "x.png").write_bytes(b"not an image")
    for overrides, text in (
        ((), "job.images: must be given"),
        (("job.images=nowhere",), "job.images = 'nowhere': no such file or directory"),
    ):
        code, _, err = train("job=predict", "checkpoint=run", *overrides)
        assert code == 2
        assert text in err
    assert train("job=predict", "checkpoint=run", "job.images=x.png", "output=p")[0] == 1


def test_an_ensemble_of_seeds_averages_the_probabilities_of_its_members(train, run):
    images, labels = run
    assert train("job=ensemble", *SMALL, "job.models=3", "output=e")[0] == 0
    each = [probabilities(f"e/member_{i}", images) for i in range(3)]
    averaged_p, result = np.mean(each, 0), result_of("e")
    assert [m["accuracy"] for m in result["members"]] == pytest.approx([(p.argmax(1) == labels).mean() for p in each])
    assert result["test"]["accuracy"] == pytest.approx((averaged_p.argmax(1) == labels).mean())
    assert result["test"]["loss"] == pytest.approx(
        -np.log(averaged_p[np.arange(len(averaged_p)), labels]).mean(), rel=1e-4
    )
    assert result["test"]["ece"] == pytest.approx(calibration_error(averaged_p, labels), abs=1e-4)
    mean = np.mean([m["accuracy"] for m in result["members"]])
    assert result["gain"] == pytest.approx(result["test"]["accuracy"] - mean)
    assert result["seconds"] == pytest.approx(sum(m["seconds"] for m in result["members"]))
    seed_one = ("seed=1", "output=alone")
    assert train(*SMALL, *seed_one)[0] == 0
    assert probabilities("alone", images) == pytest.approx(each[1])


def test_evaluate_predict_and_export_work_on_an_ensemble_as_on_a_single_network(train, run, tmp_path):
    images, labels = run
    assert train("job=ensemble", *SMALL, "job.models=2", "job.average=logits", "output=e")[0] == 0
    assert train("job=evaluate", "checkpoint=e", "output=v")[0] == 0
    assert result_of("v")["test"]["accuracy"] == pytest.approx(result_of("e")["test"]["accuracy"])
    assert result_of("v")["weights"] == "ensemble of 2"
    write_images(images[:5], labels[:5], tmp_path / "own")
    _, out, _ = train("job=predict", "checkpoint=e", "job.images=own", "output=p")
    logs = np.mean([np.log(probabilities(f"e/member_{i}", images[:5])) for i in range(2)], 0)
    whole = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    for row in csv.DictReader(io.StringIO(out)):
        assert float(row["probability"]) == pytest.approx(whole[int(Path(row["file"]).stem)].max(), abs=2e-4)
    assert train("job=export", "checkpoint=e", "job.format=torch", "output=x")[0] == 0
    answer = torch.export.load("x/model.pt2").module()(torch.from_numpy(images[:5].transpose(0, 3, 1, 2).copy()))
    assert answer.detach().numpy() == pytest.approx(whole, abs=1e-5)


def test_each_image_is_in_the_validation_split_of_exactly_one_fold():
    splits = load_splits(load_config(list(SMALL[:4])))
    splits.train.images[:, 0, 0, 0] = np.arange(len(splits.train)) % 256
    parts = fold(splits, 4, seed=0)
    whole = len(splits.train) + len(splits.validation)
    assert sum(len(p.validation) for p in parts) == whole
    assert all(len(p.train) + len(p.validation) == whole for p in parts)
    for part in parts:
        counts = np.bincount(part.validation.labels, minlength=6)
        assert counts.max() - counts.min() <= 2
    seen = np.concatenate([p.validation.images.reshape(len(p.validation), -1) for p in parts])
    both = np.concatenate([p.images.reshape(len(p), -1) for p in (splits.train, splits.validation)])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, both))


def test_the_best_folds_are_selected(train):
    assert train("job=ensemble", "job.kind=folds", *SMALL, "job.models=3", "job.top=2", "output=e")[0] == 0
    scores = {f"fold {i}": result_of(f"e/member_{i}")["validation"]["accuracy"] for i in range(3)}
    selected = [m["name"] for m in result_of("e")["members"]]
    assert len(selected) == 2
    assert min(scores[name] for name in selected) >= min(scores.values())
    assert max(scores, key=scores.get) in selected or sorted(scores.values())[-1] == scores[selected[0]]


def test_snapshots_are_the_weights_at_the_ends_of_the_cycles(train):
    """The first one equals the last weights of a run that ends there."""
    cycles = ("schedule=warm_restarts", "schedule.warm_restarts.cycle=2", "regularizer=[]")
    assert train("job=ensemble", "job.kind=snapshots", *SMALL, *cycles, "epochs=6", "output=e")[0] == 0
    members = load("e", "best")["members"]
    assert [m["name"] for m in members] == ["epoch 2", "epoch 4", "epoch 6"]
    assert train(*SMALL, *cycles, "epochs=2", "output=short")[0] == 0
    last = load("short")["state"]["model"]
    assert all(torch.equal(last[k], members[0]["model"][k]) for k in last)


def test_snapshots_cost_one_training_and_seeds_one_each():
    from trainer.jobs.ensemble.scores import page

    scores = {"accuracy": 0.9, "loss": 0.3, "ece": 0.02}
    rows = [{"name": f"epoch {t}", **scores, "seconds": 2.0 * t} for t in (1, 2, 3)]
    assert "no training beyond its last member's" in page(
        "test", [*rows, {"name": "all", **scores, "seconds": 6.0}], one_run=True
    )
    rows = [{**row, "seconds": 2.0} for row in rows]
    assert "3.0 times the training" in page("test", [*rows, {"name": "all", **scores, "seconds": 6.0}])


def test_neither_an_ensemble_nor_a_damaged_file_can_initialize_a_network(train, run):
    assert train("job=ensemble", *SMALL, "job.models=2", "epochs=1", "output=e")[0] == 0
    Path("text.pt").write_text("no checkpoint")
    for path, message in (("e", "is an ensemble"), ("text.pt", "is cut short or damaged")):
        code, _, err = train(*SMALL, "recipe=transfer", "initialization=pretrained", f"initialization.path={path}")
        assert code == 2
        assert f"initialization.path = '{path}': {message}" in err


def test_images_of_another_size_than_in_training_are_reported(train, run):
    own = ("data=fake", "data.size=16", "data.num_classes=6", "data.count=300")
    code, out, err = train("job=evaluate", "checkpoint=run", *own, "output=larger")
    assert code == 0, err
    assert "these images are 16 x 16; the network was trained on 12 x 12" in out


def test_runs_on_different_data_cannot_form_an_ensemble(train):
    assert train(*SMALL, "output=a")[0] == 0
    assert train(*SMALL, "data.num_classes=5", "output=b")[0] == 0
    assert train(*SMALL, "seed=4", "averaging=ema", "output=c")[0] == 0
    for overrides, text in (
        (("runs=[a,b]",), "was trained on other classes than"),
        (("runs=[a,c]", "data.num_classes=5"), "differs from the data of the runs"),
        (("runs=[a]",), "names only one run"),
    ):
        code, _, err = train("job=ensemble", "job.kind=runs", *SMALL, *overrides)
        assert code == 2
        assert text in err
    code, _, err = train("job=ensemble", "job.kind=snapshots", *SMALL)
    assert code == 2
    assert "has 0 cycles in 2 epochs" in err
    assert train("job=ensemble", "job.kind=runs", *SMALL, "runs=[a,c]", "output=e")[0] == 0


def test_members_with_another_normalization_keep_their_own(train, run):
    images, _ = run
    assert train(*SMALL, "data.limit=60", "output=few")[0] == 0
    assert load("few", "best")["info"]["mean"] != load("run", "best")["info"]["mean"]
    assert train("job=ensemble", "job.kind=runs", *SMALL, "runs=[run,few]", "output=e")[0] == 0
    whole = (probabilities("run", images) + probabilities("few", images)) / 2
    assert train("job=export", "checkpoint=e", "job.format=torch", "output=x")[0] == 0
    answer = torch.export.load("x/model.pt2").module()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    assert answer.detach().numpy() == pytest.approx(whole, abs=1e-5)


CLASSES = [(slice(0, 4), "softmax")]


def test_averaging_is_over_the_members():
    logits = [torch.randn(3, 4) for _ in range(3)]
    p = torch.stack([each.softmax(1) for each in logits]).mean(0)
    assert torch.allclose(average_outputs(logits, CLASSES, "probabilities").softmax(1), p, atol=1e-6)
    model = Ensemble([torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)], CLASSES, "logits")
    x = torch.randn(5, 2)
    assert torch.allclose(model(x), (model.members[0](x) + model.members[1](x)) / 2, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # torch's and onnx's own
@pytest.mark.parametrize("overrides", [(), ("architecture.norm=batch",), ("data.normalize=channel",)])
def test_an_exported_network_gives_the_same_probabilities_with_onnxruntime_alone(train, overrides, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert train(*SMALL, *overrides, "output=r")[0] == 0
    code, out, err = train("job=export", "checkpoint=r", "job.format=both", "output=x")
    assert code == 0, err
    assert "16 images of the data" in out
    session = onnxruntime.InferenceSession("x/model.onnx")
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["classes"]) == list("012345")
    assert (json.loads(meta["shape"]), meta["colours"]) == ([3, 12, 12], "RGB")
    images = load_splits(load_config(list(SMALL[:4]))).test.images
    for count in (1, 7):
        x = images[:count].transpose(0, 3, 1, 2).copy()
        (answer,) = session.run(None, {"images": x})
        write_images(images[:count], np.zeros(count, int), tmp_path / f"own{count}")
        code, table, _ = train("job=predict", "checkpoint=r", f"job.images=own{count}", f"output=p{count}")
        for row in csv.DictReader(io.StringIO(table)):
            assert float(row["probability"]) == pytest.approx(answer[int(Path(row["file"]).stem)].max(), abs=2e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_example_script_runs_the_file_with_onnxruntime_alone(train, run, tmp_path):
    pytest.importorskip("onnxruntime")
    images, labels = run
    write_images(images[:1], labels[:1], tmp_path / "own")
    assert train("job=export", "checkpoint=run", "output=x")[0] == 0
    image = next((tmp_path / "own").rglob("*.png"))
    example = REPOSITORY / "scripts" / "run_onnx.py"
    assert len(example.read_text().splitlines()) <= 22
    done = subprocess.run(
        [sys.executable, example, "x/model.onnx", image], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    p = probabilities("run", images[:1])[0]
    name, probability = done.stdout.split()
    assert name == str(p.argmax())
    assert float(probability) == pytest.approx(p.max(), abs=2e-3)


def test_an_exported_file_that_differs_from_the_network_is_removed(train, run, monkeypatch):
    from trainer.jobs import export

    def wrong(module, x, metadata, run_dir):
        (run_dir / "model.pt2").write_bytes(b"another function")
        return run_dir / "model.pt2", [module(x).detach().numpy() * 0.9]

    monkeypatch.setattr(export, "to_torch", wrong)
    code, _, err = train("job=export", "checkpoint=run", "job.format=torch", "job.fuse=false", "output=x")
    assert code == 2
    assert "differs from the network by" in err
    assert not Path("x/model.pt2").exists(), "somebody would use the file"


def test_a_checkpoint_for_a_job_that_does_not_read_one_is_an_error(train, run):
    code, _, err = train("job=range_test", "checkpoint=run")
    assert code == 2
    assert "is not read by this job" in err
    code, _, err = train("job=range_test", "resume=run")
    assert code == 2
    assert "is not the job of the run that resume=... continues" in err
    for job in ("predict", "export"):
        code, _, err = train(f"job={job}")
        assert code == 2
        assert "checkpoint: must be given" in err


@pytest.mark.slow
def test_the_table_of_ensembles_has_a_row_per_repetition(monkeypatch, capsys):
    import importlib.util

    spec = importlib.util.spec_from_file_location("ensemble_table", REPOSITORY / "scripts" / "ensemble_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["x", "--repetitions", "2", "--models", "2", "--epochs", "1", "batch_size=64"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip(" %") for cell in line.split("|")[1:-1]] for line in lines if line.startswith(("| 0", "| 1"))]
    assert [row[0] for row in rows] == ["0", "1"]
    for row in rows:
        assert float(row[4]) == pytest.approx(float(row[3]) - float(row[1]), abs=0.011)
        assert float(row[2]) >= float(row[1])
    assert "of 2; mean gain" in lines[-1]


def test_jobs_can_be_swept(train, run):
    code, out, err = train("-m", "job=range_test", *SMALL[:-2], "optimizer=momentum,adam", "job.steps=40", "output=s")
    assert code in (0, 1), err
    assert len(list(Path("s").rglob("range_test.json"))) == 2
    table, results = out[out.rindex("overrides") :], [result_of(p) for p in sorted(Path("s").glob("[01]_*"))]
    assert "best epoch" not in table
    for result in results:
        if result["range_test"]:
            assert f"{result['range_test']['suggested_lr']:.3g}" in table
    code, _out, err = train("-m", "job=evaluate", "checkpoint=run", "job.split=test,validation", "output=t")
    assert code == 0, err
    assert sorted(result_of(p.parent)["split"] for p in Path("t").rglob("result.json")) == ["test", "validation"]


def test_jobs_declare_the_attributes_that_the_front_end_reads():
    classes = [getattr(jobs, name) for name in jobs.__all__ if name != "Job"]
    assert {c for c in classes if c.trains} == {jobs.Fit}
    assert {c for c in classes if c.needs_checkpoint} == {jobs.Evaluate, jobs.Predict, jobs.Export}
    assert all(hasattr(c, "prefer") == c.needs_checkpoint for c in classes)
    assert {c for c in classes if c.keeps_auto_keys} == {jobs.RangeTest}


def test_the_parameters_of_jobs_are_read_without_torch_and_every_class_has_an_implementation():
    code = "import sys, trainer.jobs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    source = (Path(jobs.__file__).parent / "options.py").read_text()
    for module, name in re.findall(r'implemented_by\("([\w.]+):(\w+)"\)', source):
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(("job", "parameter", "value"), [
    ("RangeTest", "steps", 19), ("RangeTest", "stop", 1e-7), ("RangeTest", "smoothing", 0.3), ("Ensemble", "models", 1),
    ("Ensemble", "top", 1), ("Compare", "confidence", 1.0), ("Doctor", "steps", 10_001), ("Evaluate", "worst", -1),
    ("Export", "tolerance", 0.0), ("Plan", "images", 0), ("Predict", "top", 0),
])  # fmt: skip
def test_parameters_out_of_range_are_errors(job, parameter, value):
    with pytest.raises(ValueError, match=parameter):
        getattr(jobs, job)(**{parameter: value})
