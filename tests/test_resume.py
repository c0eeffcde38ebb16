"""Kill the process at any instant and resume: the result is that of the uninterrupted run, bit for bit."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUIET, STATEFUL, history_of, load, result_of, same_run, start

from trainer.engine import checkpoint
from trainer.interrupt import Interrupt

WAYS = {
    "in_memory": ("data.loading=in_memory",),
    "workers_0": ("data.loading=streaming", "data.num_workers=0"),
    "workers_2": ("data.loading=streaming", "data.num_workers=2"),
}


def dies_at(moment: str, tmp_path: Path) -> str:
    """A script that runs ``train`` and kills its process with SIGKILL at a moment."""
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    body = {
        # the second epoch's fourth step
        "mid-epoch": f"""
import trainer.engine.loop as loop
def step(run, *batch, real=loop.train_step):
    if run.clock.epoch == 1 and run.clock.batch == 3: {kill}
    real(run, *batch)
loop.train_step = step""",
        # half of the third last.pt, that of the second epoch, has been written to a temporary file
        "during a checkpoint write": f"""
import trainer.engine.checkpoint as checkpoint, torch
count = [0]
def save(content, file, real=torch.save):
    count[0] += "state" in content
    if count[0] == 3:
        import io
        whole = io.BytesIO(); real(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2]); file.flush(); {kill}
    real(content, file)
checkpoint.torch.save = save""",
        # best.pt is of the new epoch, last.pt of the previous one
        "between best and last": f"""
import trainer.engine.checkpoint as checkpoint
count = [0]
def contents(run, real=checkpoint.contents):
    count[0] += 1
    if count[0] == 3: {kill}
    return real(run)
checkpoint.contents = contents""",
        "between epochs": f"""
import trainer.observers.history_file as history_file
def line(row, real=history_file.json_line):
    if row["epoch"] == 2: {kill}
    return real(row)
history_file.json_line = line""",
        "before the first checkpoint": f"""
import trainer.engine.loop as loop
def step(run, *batch, real=loop.train_step):
    if run.clock.step == 2: {kill}
    real(run, *batch)
loop.train_step = step""",
    }[moment]
    folder = tmp_path / "killer"
    folder.mkdir(exist_ok=True)
    (folder / "killer.py").write_text("import os, signal" + body + "\n")
    (folder / "run.py").write_text("import killer, sys\nfrom trainer.cli import main\nsys.exit(main(sys.argv[1:]))\n")
    return str(folder / "run.py")


def killed(moment: str, folder: Path, *overrides: str) -> None:
    command = [sys.executable, dies_at(moment, folder.parent), *STATEFUL, QUIET, *overrides, f"output={folder}"]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


WATCHED = "observer=[checkpoint,diagnosis,filters,histograms,history_file,predictions,profile,report,tensorboard]"

MOMENTS = ["mid-epoch", "during a checkpoint write", "between best and last", "between epochs"]
# CI runs all pairs; by default one of each way of loading in one process, because every kill costs a process.
BY_DEFAULT = {("during a checkpoint write", "in_memory"), ("mid-epoch", "workers_0")}
PAIRS = [
    pytest.param(*pair, marks=[] if pair in BY_DEFAULT else pytest.mark.slow)
    for pair in itertools.product(MOMENTS, WAYS)
]


@pytest.mark.parametrize(("moment", "way"), PAIRS)
def test_resume_after_sigkill_equals_the_uninterrupted_run_bit_for_bit(moment, way, tmp_path, train):
    assert train(*STATEFUL, QUIET, *WAYS[way], f"output={tmp_path / 'whole'}")[0] == 0
    killed(moment, tmp_path / "broken", *WAYS[way])
    assert not (tmp_path / "broken" / "result.json").exists()
    assert train(f"resume={tmp_path / 'broken'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "broken")
    assert not list((tmp_path / "broken" / "checkpoints").glob(".*.tmp")), (
        "temporary files of the killed process are removed"
    )


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_restarts_from_scratch(tmp_path, train):
    assert train(*STATEFUL, QUIET, f"output={tmp_path / 'whole'}")[0] == 0
    killed("before the first checkpoint", tmp_path / "broken")
    assert train(f"resume={tmp_path / 'broken'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_resume_from_the_middle_of_an_epoch_is_exact_with_every_steps(tmp_path, train):
    every = "observer.checkpoint.every_steps=2"
    assert train(*STATEFUL, QUIET, every, f"output={tmp_path / 'whole'}")[0] == 0
    killed("mid-epoch", tmp_path / "broken", every)
    clock = torch.load(tmp_path / "broken/checkpoints/last.pt", weights_only=True)["state"]["clock"]
    assert clock["batch"] > 0
    assert train(f"resume={tmp_path / 'broken'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_first_interrupt_saves_evaluates_and_exits_130_and_resume_is_exact(number, tmp_path, train):
    long = [*STATEFUL, "epochs=40", "data.count=400", "observer=[checkpoint,history_file,console]"]
    assert train(*long, f"output={tmp_path / 'whole'}")[0] == 0
    process = start(*long, f"output={tmp_path / 'broken'}", cwd=tmp_path)
    wait_for(tmp_path / "broken/checkpoints/last.pt")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    result = result_of(tmp_path / "broken")
    assert result["status"] == "interrupted"
    assert 0 <= result["validation"]["accuracy"] <= 1
    assert 0 <= result["test"]["accuracy"] <= 1
    assert f"train resume={tmp_path / 'broken'}" in out
    assert len(history_of(tmp_path / "broken")) < 40
    assert train(f"resume={tmp_path / 'broken'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(
    "phases", [(), ("recipe=finetune", "recipe.head_epochs=1", "recipe.lr=0.01")], ids=["one phase", "two phases"]
)
@pytest.mark.parametrize(
    "watch", [QUIET, pytest.param(WATCHED, marks=pytest.mark.slow)], ids=["quiet", "all observers"]
)
def test_resume_is_exact_wherever_in_an_epoch_the_interrupt_comes(watch, phases, tmp_path, train, monkeypatch):
    """Also after the last step of an epoch, when only its evaluation and its row are left."""
    overrides = [*STATEFUL, "epochs=2", watch, *phases]
    assert train(*overrides, f"output={tmp_path / 'whole'}")[0] == 0
    rows = history_of(tmp_path / "whole")
    per_epoch, steps = rows[0]["step"], rows[-1]["step"]
    after_an_epoch = (per_epoch, steps)
    anywhere = (1, per_epoch - 1, *after_an_epoch, per_epoch + 1, steps - 1)
    for at in anywhere if watch == QUIET else after_an_epoch:
        folder = tmp_path / f"at_{at}"
        assert stopped_at(at, monkeypatch, train, *overrides, f"output={folder}")[0] == 130
        assert load(folder)["state"]["clock"]["step"] == at
        assert train(f"resume={folder}")[0] == 0
        assert same_run(tmp_path / "whole", folder), f"interrupted after step {at} of {steps}, {per_epoch} an epoch"


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, train: Any, *overrides: str) -> Any:
    """``train`` with a stop requested during step number ``step``."""
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "requested", RequestedAt(step), raising=False)
        return train(*overrides)


class RequestedAt:
    """Replaces ``Interrupt.requested``: a stop is requested during step number ``step``."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __get__(self, instance: object, owner: type) -> bool:
        self.left -= 1
        return self.left == 0

    def __set__(self, instance: object, value: bool) -> None:
        pass


@pytest.mark.parametrize("more", [
    ("epochs=1.4",), ("epochs=0.3",), ("epochs=2", "recipe=finetune", "recipe.head_epochs=0.5", "recipe.lr=0.01"),
    ("epochs=2.5", "recipe=gradual", "recipe.stages=2", "recipe.stage_epochs=0.5", "recipe.lr=0.01"),
], ids=["one phase", "less than an epoch", "two phases", "four phases"])  # fmt: skip
def test_resume_is_exact_after_an_incomplete_epoch_at_the_end_of_a_phase(more, tmp_path, train, monkeypatch):
    overrides = [*STATEFUL, QUIET, *more]
    assert train(*overrides, f"output={tmp_path / 'whole'}")[0] == 0
    for at in {row["step"] for row in history_of(tmp_path / "whole")}:
        folder = tmp_path / f"at_{at}"
        assert stopped_at(at, monkeypatch, train, *overrides, f"output={folder}")[0] == 130
        assert train(f"resume={folder}")[0] == 0
        assert same_run(tmp_path / "whole", folder), at


@pytest.mark.parametrize("stop", [(), ("regularizer=[early_stopping]", "regularizer.early_stopping.patience=1")])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a bug"), SystemExit])
def test_resuming_writes_the_result_that_is_missing_after_the_last_epoch(error, stop, tmp_path, train, monkeypatch):
    """The weights are the final ones; only the result is missing."""
    overrides = [*STATEFUL, QUIET, "epochs=8", *stop]
    assert train(*overrides, f"output={tmp_path / 'whole'}")[0] == 0
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.jobs.fit.summary", raising(error))
        with contextlib.suppress(RuntimeError, SystemExit):
            assert train(*overrides, f"output={broken}")[0] == 130
    assert result_of(broken)["status"] == ("interrupted" if error is KeyboardInterrupt else "failed")
    assert "test" not in result_of(broken)
    assert train(f"resume={broken}")[0] == 0
    assert same_run(tmp_path / "whole", broken)
    assert result_of(broken)["test"] == result_of(tmp_path / "whole")["test"]
    assert result_of(broken)["stop_reason"] == result_of(tmp_path / "whole")["stop_reason"]
    code, out, _ = train(f"resume={broken}")
    assert code == 0
    assert "nothing to resume: the run is complete" in out


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_ended_before_its_first_checkpoint_restarts_from_scratch(status, tmp_path, train, monkeypatch):
    """As by a second Ctrl-C in the first epoch: its result.json has no metrics."""
    overrides = [*STATEFUL, QUIET]
    assert train(*overrides, f"output={tmp_path / 'whole'}")[0] == 0
    error = KeyboardInterrupt if status == "interrupted" else RuntimeError("a bug")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.engine.loop.train_step", raising(error))
        with contextlib.suppress(RuntimeError):
            assert train(*overrides, f"output={tmp_path / 'broken'}")[0] == 130
    assert result_of(tmp_path / "broken")["status"] == status
    assert train(f"resume={tmp_path / 'broken'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "broken")


def test_the_result_is_written_after_the_checkpoints(tmp_path, train, monkeypatch):
    from trainer import files
    from trainer.jobs import fit

    def slow_sync(path, real=files.sync):
        if ".pt." in path.name:
            time.sleep(0.3)
        real(path)

    checkpoints = []

    def write_json(path, content, real=fit.write_json):
        checkpoints.append(sorted(file.name for file in (path.parent / "checkpoints").iterdir()))
        real(path, content)

    monkeypatch.setattr(files, "sync", slow_sync)
    monkeypatch.setattr(fit, "write_json", write_json)
    assert train(*STATEFUL, QUIET, "epochs=0.6", f"output={tmp_path / 'run'}")[0] == 0
    assert checkpoints == [["best.pt", "last.pt", "previous.pt"]] * 2


def raising(error: BaseException | type[BaseException]) -> Any:
    def call(*arguments: object) -> None:
        raise error

    return call


def test_an_interrupt_in_the_last_evaluation_waits_for_it_and_ends_the_sweep(tmp_path, train, monkeypatch):
    import trainer.jobs.fit as fit

    def summary(*arguments, real=fit.summary):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(fit, "summary", summary)
    assert train("-m", *STATEFUL, QUIET, "seed=1,2", f"output={tmp_path / 'sweep'}")[0] == 130
    (first,) = [folder for folder in (tmp_path / "sweep").iterdir() if (folder / "result.json").is_file()]
    assert result_of(first)["status"] == "finished"
    assert result_of(first)["test"]["accuracy"] >= 0


@pytest.mark.slow
def test_the_second_interrupt_stops_at_once(tmp_path):
    overrides = [*STATEFUL, "epochs=1000", "data.count=3000", f"output={tmp_path / 'run'}"]
    process = start(*overrides, QUIET, cwd=tmp_path)
    wait_for(tmp_path / "run/checkpoints/last.pt")
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_longer_run_continues_a_finished_one(tmp_path, train):
    constant = [o for o in STATEFUL if not o.startswith("schedule")] + ["schedule=constant"]
    assert train(*constant, QUIET, f"output={tmp_path / 'short'}")[0] == 0
    assert train(*constant, QUIET, "epochs=5", f"output={tmp_path / 'long'}")[0] == 0
    assert train(f"resume={tmp_path / 'short'}", "epochs=5")[0] == 0
    assert same_run(tmp_path / "short", tmp_path / "long")
    assert result_of(tmp_path / "short")["last_epoch"] == 5


def test_an_incomplete_epoch_is_continued(tmp_path, train):
    constant = [o for o in STATEFUL if not o.startswith("schedule")] + ["schedule=constant"]
    assert train(*constant, QUIET, "epochs=1.5", f"output={tmp_path / 'short'}")[0] == 0
    assert train(*constant, QUIET, "epochs=2", f"output={tmp_path / 'long'}")[0] == 0
    assert train(f"resume={tmp_path / 'short'}", "epochs=2")[0] == 0
    short, long = (
        torch.load(tmp_path / n / "checkpoints/last.pt", weights_only=True)["state"] for n in ("short", "long")
    )
    assert all(torch.equal(short["model"][k], long["model"][k]) for k in long["model"])


def test_a_resume_says_what_it_changes_and_the_report_lists_all_of_them(tmp_path, train):
    run = tmp_path / "run"
    constant = [o for o in STATEFUL if not o.startswith(("schedule", "epochs"))]
    assert train(*constant, "observer=[checkpoint,history_file,console,report]", "epochs=1", f"output={run}")[0] == 0
    _, out, _ = train(f"resume={run}", "epochs=2", "optimizer.lr=0.01")
    assert "resuming after 1 epoch," in out
    (changed,) = re.findall(r"^changed: (.*); the run continues with the new settings$", out, re.MULTILINE)
    assert sorted(re.sub(r"\S+ ->", "->", part) for part in changed.split(", ")) == [
        "epochs -> 2",
        "optimizer.lr -> 0.01",
    ]
    _, out, _ = train(f"resume={run}", "epochs=3")
    assert "changed: epochs 2 -> 3" in out
    lines = [json.loads(line) for line in (run / "resumed.jsonl").read_text().splitlines()]
    assert [(line["epochs"], line["overrides"][1:]) for line in lines] == [
        (1, ["epochs=2", "optimizer.lr=0.01"]), (2, ["epochs=3"]),
    ]  # fmt: skip
    assert lines[0]["changes"]["epochs"] == ["1", "2"]
    report = (run / "report.md").read_text()
    commands = [line.strip() for line in report.splitlines() if line.startswith("    train ")]
    assert commands[0].endswith(f"epochs=1 output={run}")
    assert commands[1:] == [f"train resume={run} epochs=2 optimizer.lr=0.01", f"train resume={run} epochs=3"]
    assert "epochs 1 → 2" in report


ON_ANOTHER_MACHINE = {"threads": "64", "torch": "1.0", "CPU": "Pentium"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "overrides", "said"),
    [
        ({}, [], ""),
        ({}, ["observer.checkpoint.every_epochs=2"], "every_epochs 1 -> 2; the results are bit-identical to"),
        (ON_ANOTHER_MACHINE, [], "the results differ in their last bits from those without a change"),
        ({"code": "0"}, ["data.num_workers=1"], "code 0 -> "),
        ({"processes": "2"}, [], "the batches and their order are the same, the last bits of the results and"),
        ({}, ["precision=bf16"], "precision float32 -> bf16; the run continues with the new settings"),
        ({"later": "1"}, [], ""),
        (None, [], ""),
    ],
    ids=["nothing", "observer", "machine", "code", "ranks", "precision", "unknown", "earlier release"],
)
def test_a_resume_under_other_conditions_says_so_once_and_what_that_means(then, overrides, said, train):
    run = [*STATEFUL, "precision=float32", "observer=[console,checkpoint,history_file,report]"]
    with pytest.MonkeyPatch.context() as patch:
        kill_in_epoch(1, patch)
        with pytest.raises(RuntimeError):
            train(*run, "output=run")
    file = Path("run/checkpoints/last.pt")
    content: Any = torch.load(file, weights_only=True)
    conditions = content.pop("numerics")
    assert {"threads", "precision", "device", "processes", "torch", "code"} <= conditions.keys()
    if then is not None:
        content["numerics"] = {**conditions, **then}
    checkpoint.save(content, file)
    code, out, _ = train("resume=run", *overrides)
    assert code == 0
    changed = [line for line in out.splitlines() if line.startswith("changed: ")]
    assert len(changed) == bool(said)
    assert all(said in line for line in changed)
    (line,) = [json.loads(line) for line in Path("run/resumed.jsonl").read_text().splitlines()]
    named = {} if then is None else {k: v for k, v in then.items() if k != "later"}
    expected = {**named, **({"precision": "float32"} if "precision=bf16" in overrides else {})}
    assert {key: before for key, (before, _) in line.get("numerics", {}).items()} == expected
    assert all(f"{key} {value} →" in Path("run/report.md").read_text() for key, value in named.items())


def kill_in_epoch(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Make training raise at the first step of an epoch."""
    import trainer.engine.loop as loop

    real = loop.train_step

    def step(run: Any, *batch: Any) -> None:
        if run.clock.epoch == epoch:
            raise RuntimeError("killed")
        real(run, *batch)

    patch.setattr(loop, "train_step", step)


def wait_for(file: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} was not created"
        time.sleep(0.02)
