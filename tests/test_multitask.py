"""Several tasks in whole runs: sharing, resume, recorded steps, several processes, and what composes with them."""

from __future__ import annotations

import json
import math
import shlex
import subprocess

import numpy as np
import pytest
import torch
from conftest import history_of, load, result_of, same, without_clock
from recording import GraphOnCPU
from torch import nn

from trainer.architectures.layers import Parallel, find_head, trainable_names, weight_layers
from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine.cuda_graph import CUDAGraphStep
from trainer.engine.distributed import StopFlag
from trainer.engine.loop import fit
from trainer.engine.step import gradients, update
from trainer.tasks.sharing import shared_weights, squared_distance, trace_norm

SMALL = (
    "data=mnist5k_multitask", "data.limit=60", "data.validation=40", "data.test=40", "architecture.widths=[4]", "batch_size=16",
    "epochs=2", "device=cpu", "precision=float32", "regularizer=[]", "optimizer.lr=0.01",
)  # fmt: skip
TWO = "task.tasks={digit:{},slant:{geometry:invariant}}"


def run_of(*overrides):
    return build(load_config([*SMALL, "task=multitask", *overrides]))


def trained(*overrides):
    run = run_of(*overrides)
    fit(run)
    return run


# Sharing


def test_squared_distance_and_trace_norm_equal_numpys():
    torch.manual_seed(0)
    weights = [torch.randn(4, 5) for _ in range(3)]
    stacked = torch.stack([w.flatten() for w in weights]).double().numpy()
    assert float(squared_distance(weights)) == pytest.approx(((stacked - stacked.mean(0)) ** 2).sum(), rel=1e-5)
    assert float(trace_norm(weights)) == pytest.approx(np.linalg.svd(stacked, compute_uv=False).sum(), rel=1e-4)


def test_equal_networks_have_no_distance_and_a_finite_gradient():
    w = torch.ones(2, 3, requires_grad=True)
    for distance in (squared_distance, trace_norm):
        w.grad = None
        distance([w, w.detach()]).backward()
        assert w.grad is not None
        assert bool(torch.isfinite(w.grad).all())
    assert float(squared_distance([w, w]).detach()) == 0


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 3))


def test_neither_heads_norms_nor_biases_are_shared():
    groups = shared_weights([network(), network()], 1.0)
    assert [tuple(group[0].shape) for group in groups] == [(2, 1, 3, 3), (4, 8)]
    assert [tuple(group[0].shape) for group in shared_weights([network(), network()], 0.5)] == [(2, 1, 3, 3)]


def test_layers_and_heads_of_networks_side_by_side_count_by_depth():
    model = Parallel({"a": network(), "b": network()})
    assert [len(layer) for layer in weight_layers(model)] == [2 * n for n in map(len, weight_layers(network()))]
    heads = {f"networks.task_{name}.4.{kind}" for name in "ab" for kind in ("weight", "bias")}
    assert trainable_names(model, "head") == heads


def test_soft_sharing_without_strength_trains_each_network_as_it_would_be_trained_alone():
    both = trained("task.sharing=soft", "task.strength=0", TWO, "augmentation=none")
    for task, overrides in (("digit", ["task=classification"]), ("slant", ["task=regression"])):
        alone = build(load_config([*SMALL, *overrides, f"task.target={task}"]))
        fit(alone)
        assert isinstance(both.model, Parallel)
        own = both.model.networks[f"task_{task}"].state_dict()
        for name, value in alone.model.state_dict().items():  # the gradients have other strides: the last bits differ
            torch.testing.assert_close(value, own[name], rtol=1e-4, atol=1e-6, msg=f"{task}: {name}")


def test_the_stronger_the_sharing_the_nearer_the_networks():
    def distance(strength):
        run = trained("task.sharing=soft", f"task.strength={strength}", TWO, "epochs=4")
        assert isinstance(run.model, Parallel)
        groups = shared_weights(list(run.model.networks.values()), 1.0)
        return sum(squared_distance(group).item() for group in groups)

    alone, weak, strong = distance(0), distance(0.1), distance(5)
    assert strong < 0.5 * weak
    assert weak < alone


def test_hard_sharing_has_one_network_with_the_heads_in_its_last_layer():
    run = run_of()
    assert find_head(run.model)[1].weight.shape[0] == 10 + 2 + 3 + 4 + 1 + 1
    assert run.task.num_outputs == 21


# Runs


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "task.weighting=uncertainty", "task.weighting=dwa", "task.weighting=gradnorm", "task.sharing=soft averaging=ema",
        "task.weighting=uncertainty regularizer=[mixup,label_smoothing] data.sampling=balanced",
    ],
)  # fmt: skip
def test_an_interrupted_run_continues_bit_for_bit(words, train, tmp_path, monkeypatch):
    """Interrupted in the middle of the second of three epochs."""
    common = (*SMALL, "task=multitask", *words.split(), "epochs=3", "observer=[checkpoint,history_file]")
    assert train(*common, f"output={tmp_path / 'whole'}")[0] == 0
    calls = iter([False] * 5)
    with monkeypatch.context() as patch:
        patch.setattr(StopFlag, "__call__", lambda self: next(calls, True))
        assert train(*common, f"output={tmp_path / 'cut'}")[0] == 130
    assert train(f"resume={tmp_path / 'cut'}")[0] == 0
    a, b = (load(tmp_path / name)["state"] for name in ("whole", "cut"))
    assert same(a["model"], b["model"])
    assert same(a["task"], b["task"])
    assert without_clock(history_of(tmp_path / "cut")) == without_clock(history_of(tmp_path / "whole"))
    results = [result_of(tmp_path / name) for name in ("whole", "cut")]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.parametrize("words", ["", "task.weighting=uncertainty", "task.weighting=gradnorm", "task.sharing=soft"])
def test_a_recorded_step_equals_an_eager_one(words):
    eager, recorded = (run_of(*words.split(), "epochs=2", "data.drop_last=true") for _ in range(2))
    recorded.capture = CUDAGraphStep(gradients, update, recorded.notes.append, GraphOnCPU())
    fit(eager)
    fit(recorded)
    assert any("captured in a CUDA graph" in note for note in recorded.notes), recorded.notes
    assert same(eager.model.state_dict(), recorded.model.state_dict())
    assert same(eager.task.state_dict(), recorded.task.state_dict())


def test_micro_batches_give_the_gradients_of_the_whole_batch():
    whole, parts = (run_of("architecture.norm=none", "epochs=1", f"micro_batch={n}") for n in ("null", "4"))
    fit(whole)
    fit(parts)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_every_task_has_its_columns_and_the_loss_is_their_sum():
    run = trained("task.weighting=uncertainty", "averaging=ema")
    row = run.history[-1]
    names = ("digit", "parity", "loops", "properties", "slant", "ink")
    for split in ("train", "validation", "averaged"):
        assert row[f"{split}_loss"] == pytest.approx(sum(row[f"{split}_{name}_loss"] for name in names))
    assert all(row[f"weight_{name}"] > 0 for name in names)
    assert 0 <= row["validation_digit_accuracy"] <= 1
    assert 0 <= row["validation_properties_map"] <= 1
    assert row["validation_slant_mae"] > 0


def test_the_main_task_selects_the_best_epoch_and_early_stopping(train, tmp_path):
    words = (
        *SMALL,
        "task=multitask",
        "task.main=slant",
        "regularizer=[early_stopping]",
        "observer=[history_file,checkpoint]",
    )
    assert train(*words, f"output={tmp_path / 'run'}")[0] == 0
    result = result_of(tmp_path / "run")
    assert result["metric"] == "validation_slant_mae"
    rows = history_of(tmp_path / "run")
    best = min(range(len(rows)), key=lambda i: rows[i]["validation_slant_mae"])
    assert result["best_epoch"] == rows[best]["epoch"]


def test_thresholds_of_labels_are_chosen_on_validation_images_and_kept_with_the_weights(train, tmp_path):
    words = (*SMALL, "task=multilabel", "task.target=properties", "task.metrics=[f1]", "averaging=ema")
    assert train(*words, "observer=[history_file,checkpoint]", f"output={tmp_path / 'run'}")[0] == 0
    best = load(tmp_path / "run", "best")
    assert set(best["thresholds"]) == {"model", "averaged"}
    assert len(best["thresholds"]["model"][""]) == 4
    assert best["thresholds"]["model"] != best["thresholds"]["averaged"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data=digits task=multitask", "needs at least two targets"),
        ("task=classification", "task.target: must name one of the targets of the data: digit, parity"),
        ("task=classification task.target=digt", "did you mean 'digit'"),
        ("task=regression task.target=digit", "task=classification"),
        ("task=multitask metric=validation_accuracy", "must be a column of the history"),
        ("task=multitask metric=validation_digit_auc", "did you mean 'validation_digit_auroc'"),
        (
            "task.target=digit metric=validation_auc",
            "computed if it is named, validation_ and one of balanced_accuracy",
        ),
        ("task.target=digit metric=auroc", "did you mean 'validation_auroc'"),
        ("task.target=digit metric=validation_recall_7", "task.metrics=[recall_per_class]' has a column per class"),
        (
            "task=multitask task.tasks={digit:{target:7},ink:{}}",
            "task.tasks.digit.target = 7: must be the name of a target",
        ),
        ("task=multitask task.weighting=gradnorm task.sharing=soft", "needs a shared layer"),
        ("task=multitask task.temperature=1", "has an effect with task.weighting=dwa only"),
        ("task=classification task.gamma=2 task.target=digit", "has an effect with task.loss=focal only"),
        ("task=regression task.target=slant augmentation=crop", "crop moves pixels"),
        ("task=classification task.target=digit task.metrics=[acuracy]", "did you mean 'accuracy'"),
        (
            "task=classification task.target=digit task.class_weights=[1,2]",
            "task.class_weights = [1.0, 2.0]: must hold 10 weights",
        ),
        ("task=multitask task.tasks={digit:{class_weights:[1,2]},ink:{}}", "task.tasks.digit.class_weights"),
        ("task=regression task.target=ink regularizer=[label_smoothing]", "has neither classes nor labels"),
        ("task=classification task.target=digit data.sampling=sqrt task.class_weights=balanced", "raises rare classes"),
        ("task=classification task.target=digit task.loss={_target_: nowhere.Loss}", "nowhere.Loss"),
    ],
)
def test_mistakes_are_answered_with_the_key_and_what_is_allowed(words, message, train):
    code, _, err = train(
        "data=mnist5k_multitask",
        "data.limit=60",
        "epochs=0.1",
        *shlex.split(words.replace("{", "'{").replace("}", "}'")),
    )
    assert code == 2
    assert message in err
    assert "Traceback" not in err


# Combined with everything else

COMBINED = (
    "regularizer=[mixup] averaging=ema schedule=[warmup,cosine]",
    "regularizer=[cutmix,label_smoothing,dropout] optimizer=adamw",
    "regularizer=[cutout,l2,soft_sharing] averaging=swa averaging.start=1",
    "regularizer=[early_stopping] schedule=[plateau] optimizer=nesterov optimizer.clip_norm=1",
    "architecture=resnet20 architecture.depth=8 regularizer=[stochastic_depth]",
    "architecture=mlp initialization=lsuv optimizer=muon",
    "recipe=gradual recipe.stage_epochs=0.3 epochs=1.5",
    "data.loading=streaming micro_batch=8 augmentation=[gaussian_noise]",
)


@pytest.mark.slow
@pytest.mark.parametrize("words", COMBINED)
@pytest.mark.parametrize(
    "task",
    ["task=multitask", "task=multitask task.sharing=soft task.weighting=dwa", "task=multilabel task.target=properties",
     "task=regression task.target=ink task.loss=huber",
     "task=classification task.target=loops task.loss=bce"],
)  # fmt: skip
def test_every_task_trains_with_every_other_option(task, words):
    if "task=regression" in task:  # label smoothing is refused, because numbers have no classes
        words = words.replace("label_smoothing,", "")
    small = [o for o in SMALL if not (o.startswith("architecture.") and "architecture=" in words)]
    run = build(load_config([*small, "epochs=0.5", *task.split(), *words.split()]))
    before = [p.detach().clone() for p in run.model.parameters()]
    fit(run)
    assert math.isfinite(run.history[-1]["train_loss"])
    assert all(bool(torch.isfinite(p).all()) for p in run.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "",
        "task.weighting=uncertainty task.main=digit",
        "task.weighting=gradnorm",
        "task.tasks={digit:{metrics:[auroc,kappa,recall_per_class,ece]},properties:{metrics:[f1,map]},ink:{metrics:[r2]}}",
    ],
)
def test_two_processes_equal_one(words, tmp_path):
    from test_distributed import ALONE, command, weights

    given = (*SMALL, "task=multitask", "architecture.norm=none", "observer=[checkpoint,history_file]", *words.split())
    for count, name in ((1, "one"), (2, "two")):
        engine = ("engine=ddp",) if count > 1 else ()
        words_given = [*given, *engine, f"output={tmp_path / name}"]
        done = subprocess.run(command(count, *words_given), capture_output=True, text=True, timeout=300, env=ALONE)
        assert done.returncode == 0, done.stderr[-2000:]
    for (name, a), b in zip(weights(tmp_path / "one").items(), weights(tmp_path / "two").values(), strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-3, msg=name)
    a, b = (json.loads((tmp_path / n / "history.jsonl").read_text().splitlines()[-1]) for n in ("one", "two"))
    for column in (c for c in a if c.startswith(("validation_", "train_", "weight_"))):
        assert a[column] == pytest.approx(b[column], abs=2e-3, rel=2e-3), column


def test_a_metric_that_the_config_names_is_computed_without_being_asked_for():
    words = ("metric=validation_digit_balanced_accuracy", "regularizer=[early_stopping]", "epochs=1")
    run = trained(*words)
    assert run.metric == "validation_digit_balanced_accuracy"
    assert 0 <= run.history[-1]["validation_digit_balanced_accuracy"] <= 1
    single = build(load_config([*SMALL, "task.target=digit", "metric=validation_auroc", "epochs=1"]))
    fit(single)
    assert 0 <= single.history[-1]["validation_auroc"] <= 1


def test_gradnorm_leaves_the_weights_as_they_are_while_shared_layers_are_frozen():
    run = trained("task.weighting=gradnorm", "recipe=transfer", "epochs=1")
    assert run.task.weighting is not None
    assert run.task.weighting.weights.tolist() == [1.0] * 6
