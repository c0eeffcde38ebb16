"""The engine compared with a hand-written loop, and each part of a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recording import GraphOnCPU
from torch.nn import functional as F

from trainer.builder import build
from trainer.config.load import load_config, prepare
from trainer.config.options import OptionFiles
from trainer.engine.cuda_graph import CUDAGraphStep
from trainer.engine.evaluation import evaluate
from trainer.engine.loop import fit
from trainer.engine.observer import Observer
from trainer.engine.step import gradients, train_step, update
from trainer.errors import ConfigError

SMALL = (
    "data=fake", "data.size=8", "data.count=100", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16", "epochs=2",
    "regularizer=[]", "device=cpu", "precision=float32",
)  # fmt: skip


def run_of(*overrides: str, drop: tuple[str, ...] | list[str] = ()):
    """A run of ``SMALL`` and ``words``, without the keys that another architecture lacks."""
    small = [word for word in SMALL if word.partition("=")[0] not in drop]
    return build(load_config([*small, *(word for word in overrides if word[0] != "~")]))


def test_the_engine_equals_a_hand_written_loop_bit_for_bit():
    """Adam, cosine schedule, weight decay and batch norm, on the same images in the order of (seed, epoch)."""
    overrides = ("optimizer=adam", "optimizer.weight_decay=0.01", "schedule=[cosine]")
    run, other = run_of(*overrides), run_of(*overrides)
    model, data = other.model.train(), other.train
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.Adam(groups, lr=0.001, fused=True)
    images, labels = data.dataset.images, torch.from_numpy(data.dataset.labels)
    steps = 0
    for epoch in range(2):
        order = np.random.default_rng([0, epoch, 0]).permutation(len(labels))
        for begin in range(0, len(order), 16):
            chosen = order[begin : begin + 16]
            x = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2).float()
            x = data.normalize(x)
            for group in optimizer.param_groups:
                group["lr"] = 0.001 * (1 + math.cos(math.pi * (steps / len(data)) / 2)) / 2
            optimizer.zero_grad()
            F.cross_entropy(model(x), F.one_hot(labels[chosen], 3).float()).backward()
            optimizer.step()
            steps += 1
    fit(run)
    assert run.clock.step == steps
    for (name, ours), theirs in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    gradients = {}
    for part in ("null", "16", "5", "1"):
        run = run_of(
            "architecture.norm=none", f"micro_batch={part}", "regularizer=[l2]", "regularizer.l2.strength=0.01"
        )
        x, y = next(iter(run.train.batches(0)))
        run.optimizer.step = lambda closure=None: None
        run.optimizer.zero_grad = lambda set_to_none=True: None
        train_step(run, x, y)
        gradients[part] = [p.grad.clone() for p in run.model.parameters()]
        assert run.sums.count == 16
    for part in ("16", "5", "1"):
        for whole, summed in zip(gradients["null"], gradients[part], strict=True):
            assert torch.allclose(whole, summed, atol=1e-6)


def test_the_gradient_norm_is_clipped():
    run = run_of("optimizer=sgd", "optimizer.lr=1", "optimizer.clip_norm=0.01", "schedule=constant", "epochs=0.1")
    before = [p.detach().clone() for p in run.model.parameters()]
    x, y = next(iter(run.train.batches(0)))
    train_step(run, x, y)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, run.model.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_full_batch_is_one_step_per_epoch():
    run = run_of("batch_size=full", "epochs=3", "architecture.norm=none")
    fit(run)
    assert run.clock.step == 3


@pytest.mark.parametrize(("epochs", "rows", "steps"), [(0.6, 1, 3), (1.6, 2, 8), (2, 2, 10)])
def test_a_fraction_of_an_epoch_is_trained_and_evaluated(epochs, rows, steps):
    run = run_of(f"epochs={epochs}")  # 72 training images: 5 batches
    fit(run)
    assert len(run.history) == rows
    assert run.clock.step == steps
    assert run.history[-1]["validation_loss"] > 0


def test_evaluation_is_the_mean_over_all_images_and_keeps_the_mode():
    run = run_of()
    run.model.train()
    found = evaluate(run.model, run.test, run.precision, run.task)
    assert run.model.training
    run.model.eval()
    x = torch.cat([x for x, _ in run.test.batches(0)])
    y = torch.cat([y for _, y in run.test.batches(0)]).argmax(1)
    with torch.no_grad():
        out = run.model(x)
    assert found["loss"] == pytest.approx(F.cross_entropy(out, y).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((out.argmax(1) == y).float().mean().item())


def test_learning_rate_and_momentum_are_the_schedules_at_the_beginning_of_each_step():
    run = run_of("schedule=[warmup,one_cycle]", "optimizer=adam")
    lrs, momenta = [], []

    class Record(Observer):
        def on_step_end(self, view):
            assert (view.lr, view.momentum) == (
                run.optimizer.param_groups[0]["lr"],
                run.optimizer.param_groups[0]["betas"][0],
            )
            lrs.append(view.lr)
            momenta.append(view.momentum)

    fit(run, [Record()])
    schedule = run.phases[0].schedule
    assert lrs == [0.001 * schedule(i / 5) for i in range(10)]
    assert momenta == [schedule.momentum_at(i / 5) for i in range(10)]


@pytest.mark.parametrize("epochs", ["2", "1.4"])
def test_the_history_has_the_mean_learning_rate_of_each_epochs_steps(epochs):
    run = run_of("schedule=[warmup,cosine]", f"epochs={epochs}")
    lrs: list[tuple[int, float]] = []

    class Record(Observer):
        def on_step_end(self, view):
            lrs.append((view.epochs_done, view.lr))

    fit(run, [Record()])
    for index, row in enumerate(run.history):
        own = [lr for epoch, lr in lrs if epoch == index]
        assert row["mean_lr"] == pytest.approx(np.mean(own), rel=1e-12)
        assert row["lr"] == own[-1]


def test_layer_decay_gives_the_first_layer_the_lowest_learning_rate():
    run = run_of("optimizer.layer_decay=0.5", "schedule=constant")
    fit(run)
    first = next(iter(run.model.parameters()))
    lrs = {id(p): group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
    head = run.model[-1].weight
    assert lrs[id(first)] == pytest.approx(lrs[id(head)] * 0.25)


def test_bf16_trains_float32_weights():
    run = run_of("precision=bf16")
    fit(run)
    assert all(p.dtype is torch.float32 for p in run.model.parameters())
    assert run.outputs.dtype is torch.bfloat16
    assert math.isfinite(run.history[-1]["train_loss"])


def test_an_epoch_with_a_nan_loss_is_never_the_best():
    run = run_of("optimizer=sgd", "optimizer.lr=1e20", "architecture.norm=none", "schedule=constant", "epochs=3")
    fit(run)
    assert run.best is None or math.isfinite(run.history[run.best["row"]]["validation_loss"]) or run.best["row"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_matches_training_on_a_cpu():
    found = {}
    for device in ("cpu", "cuda"):
        run = run_of(f"device={device}", "epochs=6", "augmentation=[crop,flip]")
        fit(run)
        found[device] = run.history[-1]["validation_accuracy"]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.15)


def test_swa_re_estimates_the_batch_norm_statistics():
    run = run_of("averaging=swa", "averaging.start=0", "batch_size=full", "schedule=constant")
    fit(run)
    averaged = run.averaged.module
    x, _ = next(iter(run.train.batches(0)))
    with torch.no_grad():
        inside = averaged[0](x)
    assert torch.allclose(averaged[1].running_mean, inside.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(averaged[1].running_var, inside.transpose(0, 1).flatten(1).var(1), rtol=1e-4)


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_both_the_plain_and_the_averaged_model_are_evaluated(averaging):
    run = run_of(f"averaging={averaging}", "averaging.start=0", "schedule=constant", "epochs=3")
    fit(run)
    row = run.history[-1]
    for model, column in ((run.model, "validation"), (run.averaged, "averaged")):
        found = evaluate(model, run.validation, run.precision, run.task)
        assert found["loss"] == pytest.approx(row[f"{column}_loss"], rel=1e-5)
    assert row["validation_loss"] != row["averaged_loss"]


def captured(run) -> GraphOnCPU:
    """Make the run capture its steps as on a GPU."""
    recorder = GraphOnCPU()
    run.capture = CUDAGraphStep(gradients, update, run.notes.append, recorder)
    return recorder


def both(*overrides: str, drop: list[str] | None = None):
    """Two equal trained runs, the first with captured steps, and its recorder."""
    run, other = (run_of(*overrides, drop=drop or []) for _ in range(2))
    recorder = captured(run)
    for one in (run, other):
        torch.manual_seed(1)
        fit(one)
    return run, other, recorder


def assert_same(run, other, tolerance: float = 0.0) -> None:
    for (name, a), b in zip(run.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=0, atol=tolerance), name
    keys = [
        k
        for k, v in run.history.rows[0].items()
        if k not in ("phase", "seconds", "images_per_second") and v is not None
    ]
    for row, expected in zip(run.history.rows, other.history.rows, strict=True):
        assert [row[k] for k in keys] == pytest.approx([expected[k] for k in keys], rel=1e-9 if not tolerance else 1e-3)


WHOLE = "training step captured in a CUDA graph"
# Learning rates that float32 represents exactly: a captured step reads them from the device as float32.
EXACT = ("optimizer.lr=0.0078125", "schedule=[step]", "schedule.step.every=1", "schedule.step.factor=0.5")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_a_captured_step_equals_an_eager_one_bit_for_bit_while_the_learning_rate_falls(optimizer):
    overrides = (
        "data.test=12",
        f"optimizer={optimizer}",
        "optimizer.clip_norm=1",
        "regularizer=[mixup,l2,dropout]",
        "averaging=ema",
    )
    run, other, recorder = both(*overrides, *EXACT)
    assert run.notes[-1] == WHOLE
    assert recorder.replays == run.clock.step - 3 - 2  # three for warmup, two batches are short
    assert_same(run, other)


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"regularizer=[{name}]"] for name in ("cutmix", "cutout", "l1", "label_smoothing", "soft_sharing")),
        ["architecture=resnet20", "~architecture.widths", "regularizer=[stochastic_depth]"],
        ["architecture=densenet", "architecture.depth=10", "~architecture.widths", "architecture.norm=group"],
        ["architecture=wide_resnet", "architecture.depth=10", "architecture.widen_factor=1", "~architecture.widths"],
        ["architecture=airbench", "initialization=whitening"],
        ["architecture=mlp", "activation=gelu"],
        ["architecture=cifar10_full", "~architecture.widths", "data.size=16"],
    ],
    ids=" ".join,
)
def test_every_regularizer_and_network_can_be_captured(overrides):
    """Nothing in their steps reads a number from the device, and random numbers are drawn at every replay."""
    run, other, recorder = both(
        *overrides, *EXACT, "data.drop_last=true", drop=[w[1:] for w in overrides if w[0] == "~"]
    )
    assert run.notes[-1] == WHOLE
    assert recorder.replays == run.clock.step - 3
    assert_same(run, other)


@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop", "adam_uncorrected", "muon"])
def test_our_own_optimizers_read_a_learning_rate_from_the_device_as_they_read_a_number(optimizer):
    run, other, recorder = both(f"optimizer={optimizer}", "optimizer.weight_decay=0.01", "schedule=[cosine]")
    assert run.notes[-1] == WHOLE
    assert recorder.replays > 3
    assert_same(run, other, 2e-5)


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adadelta",),
        ("optimizer=adagrad", "optimizer.epsilon_inside_root=false"),
        ("optimizer=momentum", "schedule=[one_cycle]"),  # moves the momentum
    ],
)
def test_an_optimizer_step_that_needs_python_numbers_is_not_captured(overrides):
    run, other, recorder = both(*overrides, "data.test=12")
    assert run.notes[-1] == WHOLE + ", without the optimizer"
    assert recorder.replays >= run.clock.step - 3 - 2 - 2
    assert_same(run, other)


def test_if_the_capture_fails_the_run_continues_eagerly_and_reports_why():
    overrides = ("optimizer=adam", "regularizer=[l2]")
    run, other = run_of(*overrides), run_of(*overrides)
    recorder = captured(run)
    forward = run.model.forward
    run.model.forward = lambda x: forward(x * max(float(x.max()), 0) / float(x.max()))  # reads a number
    for one in (run, other):
        fit(one)
    assert [n for n in run.notes if "CUDA" in n] == ["no CUDA graph: operation not permitted when stream is capturing"]
    assert (recorder.records, recorder.replays) == (1, 0)
    assert_same(run, other, 1e-6)


def test_captured_steps_continue_correctly_after_an_lr_range_test_a_checkpoint_and_a_change_of_phase():
    overrides = ("recipe=gradual", "recipe.stages=2", "recipe.lr=auto", "epochs=4", "optimizer=adam", "data.test=12")
    run, other, recorder = both(*overrides)
    assert run.suggested_lrs == other.suggested_lrs
    assert len(run.suggested_lrs) == 2
    assert recorder.records == 3 + 2  # three phases, two range tests
    assert_same(run, other, 1e-5)
    run, other = run_of("optimizer=adam", "epochs=4", *EXACT), run_of("optimizer=adam", "epochs=4", *EXACT)
    captured(run)
    fit(run)
    half = run_of("optimizer=adam", "epochs=2", *EXACT)
    captured(half)
    fit(half)
    state = half.state()
    assert all(type(g["lr"]) is float and not g.get("capturable") for g in state["optimizer"]["param_groups"])
    captured(other)
    other.load(state)
    fit(other)
    assert_same(run, other)


@pytest.mark.parametrize("engine", ["auto", "cpu", "gpu", "ddp"])
def test_every_engine_computes_deterministically_unless_told_otherwise(engine):
    tree = prepare([f"engine={engine}"], OptionFiles()).compose()
    assert tree["engine"]["deterministic"] is True
    tree = prepare([f"engine={engine}", "engine.deterministic=false"], OptionFiles()).compose()
    assert tree["engine"]["deterministic"] is False


def test_a_graph_without_a_gpu_is_an_error_and_compiling_keeps_every_name(monkeypatch):
    with pytest.raises(ConfigError, match="needs a GPU"):
        run_of("engine.graph=on")
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    run = run_of("engine.compile=max-autotune")
    assert asked == [{"mode": "max-autotune", "dynamic": False}]
    assert list(run.model.state_dict()) == list(run_of().model.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile itself emits warnings
def test_training_a_compiled_model_matches_training_an_eager_one():
    overrides = ("architecture.norm=none", "data.test=12", "data.drop_last=true")
    run, other = run_of("engine.compile=default", *overrides), run_of(*overrides)
    fit(run)
    fit(other)
    for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_the_step_is_captured_and_equals_an_eager_one():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    overrides = ("device=cuda", "data.test=12", "optimizer=adam", "regularizer=[l2]")
    run, other = run_of(*overrides), run_of(*overrides, "engine.graph=off")
    fit(run)
    fit(other)
    assert run.notes[-1] == WHOLE
    for (name, a), b in zip(run.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5), name
