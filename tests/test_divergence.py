"""Training that becomes NaN or Inf: it stops, skips the step or rewinds, and never costs the weights of before."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import QUIET, STATEFUL, history_of, load, result_of, same, same_run, without_clock

from trainer.engine import divergence
from trainer.engine.divergence import CHECK, MAX_REWINDS, LossCheck
from trainer.engine.guard import all_finite
from trainer.history import History

PLAIN = (
    "data=fake", "data.size=12", "data.count=150", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16",
    "schedule=constant", "augmentation=[crop,flip]", "epochs=3", "regularizer=[]", QUIET,
)  # fmt: skip


@pytest.fixture
def nan_at(monkeypatch) -> Callable[..., None]:
    """``nan_at(epoch, batch, times)`` makes the images of a step NaN, the first times that training comes to it."""

    def inject(epoch: int, batch: int | None, times: int = 10**6, step: Any = None) -> None:
        import trainer.engine.loop as loop

        left = [times]

        def train_step(run: Any, x: Any, y: Any, *weight: Any, real=step or loop.train_step) -> None:
            here = run.clock.epoch == epoch and batch in (None, run.clock.batch) and left[0] > 0
            left[0] -= here
            real(run, x * math.nan if here else x, y, *weight)

        monkeypatch.setattr(loop, "train_step", train_step)

    return inject


def finite(tree: Any) -> bool:
    if isinstance(tree, torch.Tensor):
        return bool(all_finite([tree]))
    return (
        all(map(finite, tree.values() if isinstance(tree, dict) else tree)) if isinstance(tree, dict | list) else True
    )


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("averaging=none", "micro_batch=5"),
        ("recipe=finetune", "recipe.head_epochs=1", "epochs=3"),
        ("averaging=swa",),
    ],
    ids=["ema", "micro-batches", "phases", "swa"],
)
def test_a_diverged_run_stops_with_code_1_and_keeps_the_weights_of_before(overrides, train, nan_at, monkeypatch):
    overrides = [*STATEFUL, QUIET, *overrides]
    assert train(*overrides, "output=whole")[0] == 0
    with monkeypatch.context():
        nan_at(1, 2)
        assert train(*overrides, "output=run")[0] == 1
    result = result_of("run")
    assert result["status"] == "diverged"
    assert result["stop_reason"].startswith("diverged: the training loss is NaN or Inf in epoch ")
    assert result["best_epoch"] < len(history_of("run"))
    assert math.isfinite(result["test"]["loss"])
    assert history_of("run")[-1]["train_loss"] is None
    last, best = load("run"), load("run", "best")
    assert all(finite(content) for content in (last["state"]["model"], last["state"]["optimizer"], best["model"]))
    assert last["state"]["clock"]["epoch"] == 1
    sane = len(history_of("run")) - 1
    assert len(last["state"]["history"]) == sane
    assert without_clock(last["state"]["history"]) == without_clock(load("whole")["state"]["history"])[:sane]


def test_a_diverged_run_is_resumed_from_the_weights_of_before(train, nan_at):
    """As with another learning rate; here with the same one, because the cause has gone."""
    assert train(*STATEFUL, QUIET, "output=whole")[0] == 0
    nan_at(1, 2, times=1)
    assert train(*STATEFUL, QUIET, "output=run")[0] == 1
    assert train("resume=run")[0] == 0
    assert same_run("whole", "run")
    assert result_of("run")["status"] == "finished"


def test_nan_within_a_long_epoch_ends_it(train, nan_at):
    nan_at(0, 3)
    # A CPU, whose numbers need not be waited for.
    assert train(*PLAIN, "data.count=3000", "batch_size=8", "device=cpu", "output=run")[0] == 1
    (row,) = history_of("run")
    assert row["step"] == CHECK
    assert not Path("run/checkpoints/best.pt").exists()
    assert load("run")["state"]["clock"]["step"] == 0
    assert "best_epoch" not in result_of("run")
    assert result_of("run")["last_epoch"] == row["epoch"]


def test_checkpoints_within_an_epoch_never_hold_nan(train, nan_at):
    nan_at(0, 3)
    assert train(*PLAIN, "observer.checkpoint.every_steps=1", "output=run")[0] == 1
    assert load("run")["state"]["clock"]["step"] == 3
    assert finite(load("run")["state"]["model"])


def test_weights_that_become_nan_in_the_last_step_of_an_epoch_are_noticed(train, monkeypatch):
    """The loss of the epoch is still finite."""
    import trainer.engine.loop as loop

    def step(run: Any, *batch: Any, real=loop.train_step) -> None:
        real(run, *batch)
        if run.clock.epoch == 1 and run.clock.batch == run.steps_in_epoch - 1:
            next(run.model.parameters()).data[0] = math.inf

    monkeypatch.setattr(loop, "train_step", step)
    assert train(*PLAIN, "output=run")[0] == 1
    assert "weights are NaN or Inf in epoch 2" in result_of("run")["stop_reason"]
    assert finite(load("run")["state"]["model"])


@pytest.mark.parametrize("metric", ["validation_accuracy", "validation_loss"])
def test_a_row_without_a_finite_loss_is_never_the_best(metric):
    """A network of NaN predicts class 0, which may be the most frequent one."""
    rows: Any = [
        {"train_loss": 1.0, "validation_loss": 2.0, "validation_accuracy": 0.3},
        {"train_loss": 1.0, "validation_loss": math.nan, "validation_accuracy": 0.6},
        {"train_loss": None, "validation_loss": 1.0, "validation_accuracy": 0.7},  # as read from a file
        {"train_loss": 1.0, "validation_loss": 1.5, "validation_accuracy": 0.2, "averaged_loss": math.inf},
    ]
    assert History(rows).best(metric) == 0
    assert History(rows[1:]).best(metric) is None


@pytest.mark.parametrize(
    "overrides", [(), ("micro_batch=5",), ("optimizer=adam",)], ids=["sgd", "micro-batches", "adam"]
)
def test_a_skipped_step_leaves_weights_and_statistics_as_they_are(overrides, train, nan_at, monkeypatch):
    import trainer.engine.loop as loop

    real = loop.train_step
    overrides = [*PLAIN, *(overrides or ("optimizer=sgd",)), "averaging=ema", "epochs=2"]
    weights: dict[str, list[Any]] = {"before": [], "after": []}

    def step(run: Any, *batch: Any) -> None:
        here = run.clock.epoch == 1 and run.clock.batch == 2
        if here:
            weights["before"].append({k: v.clone() for k, v in run.model.state_dict().items()})
        real(run, *batch)
        if here:
            weights["after"].append({k: v.clone() for k, v in run.model.state_dict().items()})

    nan_at(1, 2, step=step)
    assert train(*overrides, "engine.on_nan=skip", "output=run")[0] == 0
    assert same(weights["before"], weights["after"])
    assert [row["skipped_steps"] for row in history_of("run")] == [0, 1]
    assert result_of("run")["status"] == "finished"
    if "optimizer=sgd" not in overrides:
        return
    # Without state in the optimizer, all is as if there had been no such step.
    monkeypatch.setattr(
        loop, "train_step", lambda run, *b: (run.clock.epoch, run.clock.batch) == (1, 2) or real(run, *b)
    )
    assert train(*overrides, "output=without")[0] == 0
    assert same(load("run")["state"]["model"], load("without")["state"]["model"])
    assert same(load("run")["state"]["averaged"], load("without")["state"]["averaged"])
    assert history_of("run")[1]["train_loss"] == history_of("without")[1]["train_loss"]


def test_skip_and_rewind_change_no_bit_of_a_sane_run(train):
    assert train(*STATEFUL, QUIET, "micro_batch=5", "output=stop")[0] == 0
    for mode in ("skip", "rewind"):
        assert train(*STATEFUL, QUIET, "micro_batch=5", f"engine.on_nan={mode}", f"output={mode}")[0] == 0
        ours, theirs = load(mode)["state"], load("stop")["state"]
        assert same(ours["model"], theirs["model"])
        assert same(ours["optimizer"], theirs["optimizer"])
        assert same(ours["averaged"], theirs["averaged"])


def test_an_epoch_of_skipped_steps_alone_has_diverged(train, nan_at):
    nan_at(1, None)
    assert train(*PLAIN, "engine.on_nan=skip", "output=run")[0] == 1
    assert "the gradient of every step of the epoch is NaN or Inf" in result_of("run")["stop_reason"]
    assert finite(load("run")["state"]["model"])


def test_rewind_repeats_the_epoch_with_half_the_learning_rate(train, nan_at):
    nan_at(1, 2, times=1)
    code, _, err = train(*PLAIN, "engine.on_nan=rewind", "optimizer.lr=0.1", "output=run")
    assert code == 0
    assert "the epoch starts again with 0.5 times the learning rate" in err
    assert [row["lr"] for row in history_of("run")] == [0.1, 0.05, 0.05]
    assert train(*PLAIN, "optimizer.lr=0.1", "epochs=1", "output=by_hand")[0] == 0
    assert train("resume=by_hand", "epochs=3", "optimizer.lr=0.05")[0] == 0
    assert same(load("run")["state"]["model"], load("by_hand")["state"]["model"])
    assert same(load("run")["state"]["optimizer"]["state"], load("by_hand")["state"]["optimizer"]["state"])


def test_a_run_that_rewinds_is_resumed_exactly_from_within_the_epoch(train, nan_at, monkeypatch):
    """The checkpoint within the epoch holds the state at its beginning, too."""
    import trainer.engine.loop as loop

    real = loop.train_step
    overrides = [*STATEFUL, QUIET, "engine.on_nan=rewind", "observer.checkpoint.every_steps=1"]
    nan_at(1, 4, times=1)
    assert train(*overrides, "output=whole")[0] == 0

    def step(run: Any, *batch: Any) -> None:
        if run.clock.epoch == 1 and run.clock.batch == 3:
            raise KeyboardInterrupt
        real(run, *batch)

    nan_at(1, 4, times=0, step=step)
    assert train(*overrides, "output=run")[0] == 130
    nan_at(1, 4, times=1, step=real)
    assert train("resume=run")[0] == 0
    assert same_run("whole", "run")
    assert load("run")["state"]["rewinds"] == 1


def test_a_run_that_diverges_again_and_again_stops_in_the_end(train, nan_at):
    nan_at(1, 2)
    code, _, err = train(*PLAIN, "engine.on_nan=rewind", "output=run")
    assert code == 1
    assert err.count("the epoch starts again") == MAX_REWINDS
    assert result_of("run")["status"] == "diverged"
    assert finite(load("run")["state"]["model"])


def test_a_sweep_reports_a_diverged_job_and_does_not_repeat_it(train, nan_at):
    nan_at(0, 2)
    command = ("-m", *PLAIN, "epochs=1", "seed=1,2", "output=sweep")
    code, _, err = train(*command)
    assert code == 1
    assert "2 of 2 jobs diverged" in err
    assert "0 to run" in train(*command)[1]


def test_on_a_gpu_the_check_reads_an_answer_only_once_it_has_arrived(monkeypatch):
    """No step waits for the device."""
    arrived = [False]
    event = SimpleNamespace(record=lambda: None, query=lambda: arrived[0])
    monkeypatch.setattr(divergence.torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(divergence.torch, "empty", lambda *size, dtype, pin_memory: torch.zeros((), dtype=dtype))
    check = LossCheck(SimpleNamespace())  # pyright: ignore[reportArgumentType]
    answers = []
    for is_finite, has_arrived in [(True, False), (False, False), (False, True), (True, False), (True, True)]:
        arrived[0] = has_arrived
        answers.append(check._later(torch.tensor(is_finite)))
    assert answers == [False, False, False, False, True]


def test_a_captured_step_is_skipped_without_reading_the_device(monkeypatch, nan_at):
    """The recorder refuses whatever reads a number, and repeats the same operations on the same memory."""
    from test_engine import captured, run_of

    from trainer.engine.loop import fit

    nan_at(1, 3)
    runs = [run_of("engine.on_nan=skip", "optimizer=momentum", "averaging=ema") for _ in range(2)]
    recorder = captured(runs[0])
    for run in runs:
        torch.manual_seed(1)
        fit(run)
    assert recorder.replays > 3
    assert "training step captured in a CUDA graph" in runs[0].notes
    for run in runs:
        assert [row["skipped_steps"] for row in run.history][:2] == [0, 1]
        assert run.diverged is None
    assert same(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert finite(runs[0].model.state_dict())
    assert runs[0].history[1]["train_loss"] == pytest.approx(runs[1].history[1]["train_loss"], rel=1e-9)
