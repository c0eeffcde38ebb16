"""Distributed training: equal to one process, exact on resume, one run directory."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainer.errors import ConfigError

SMALL = (
    "data=fake", "data.size=8", "data.count=103", "data.num_classes=3", "architecture.widths=[4,8]", "batch_size=16", "epochs=2",
    "regularizer=[]", "device=cpu", "precision=float32", "optimizer.lr=0.01", "observer=[console,checkpoint,history_file]",
)  # fmt: skip


def command(processes: int, *overrides: str) -> list[str]:
    """The command for torchrun; for one process, the program alone."""
    if processes == 1:
        return [sys.executable, "-m", "trainer", *overrides]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [*run, "--nproc-per-node", str(processes), "-m", "trainer", *overrides]


ALONE = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {"OMP_NUM_THREADS": "1"}


def train(processes: int, folder: Path, *overrides: str, engine: tuple[str, ...] | None = None) -> str:
    engine = engine if engine is not None else (("engine=ddp",) if processes > 1 else ())
    given = [*SMALL, *engine, f"output={folder}", *overrides]
    done = subprocess.run(command(processes, *given), capture_output=True, text=True, timeout=180, env=ALONE)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]["model"]


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_near(one: Path, many: Path) -> None:
    """Equal up to the order of additions; the history, too, counts every image once."""
    for (name, a), b in zip(weights(one).items(), weights(many).values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=2e-5), name
    for a, b in zip(history(one), history(many), strict=True):
        for column in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert a[column] == pytest.approx(b[column], abs=1e-5), column


@pytest.mark.slow
def test_three_processes_equal_one_even_if_the_last_batch_has_no_images_for_two_of_them(tmp_path):
    """65 training images in batches of 16: the fifth has one, and the 18 validation images are not divisible by three."""
    overrides = (
        "architecture.norm=none",
        "data.test=20",
        "data.validation=18",
        "averaging=ema",
        "optimizer.clip_norm=0.5",
    )
    output = train(3, tmp_path / "three", *overrides)
    train(1, tmp_path / "one", *overrides)
    assert "65 training, 18 validation, 20 test" in output
    assert "3 processes" in output
    assert output.count("finished, after") == 1  # rank 0 alone prints
    assert_near(tmp_path / "one", tmp_path / "three")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "three"]


@pytest.mark.slow
def test_synchronized_batch_norm_and_micro_batches_equal_one_process(tmp_path):
    train(2, tmp_path / "two", engine=("engine=ddp", "engine.sync_batch_norm=true"))
    train(1, tmp_path / "one")
    assert_near(tmp_path / "one", tmp_path / "two")
    overrides = ("architecture.norm=none", "micro_batch=3", "regularizer=[l2]")
    train(2, tmp_path / "parts", *overrides)
    train(1, tmp_path / "whole", "architecture.norm=none", "regularizer=[l2]")
    assert_near(tmp_path / "whole", tmp_path / "parts")


HARD = ("epochs=60", "regularizer=[dropout,mixup]", "augmentation=[crop]", "averaging=swa", "averaging.start=3")


@pytest.mark.slow
def test_three_processes_stop_together_and_resume_bit_for_bit(tmp_path):
    """Batch norm per rank, dropout, mixup and crops, each rank with random numbers of its own."""
    train(3, tmp_path / "uninterrupted", *HARD)
    cut = [*SMALL, *HARD, "engine=ddp", f"output={tmp_path / 'cut'}"]
    process = subprocess.Popen(command(3, *cut), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE)
    rows = tmp_path / "cut" / "history.jsonl"
    while not (rows.exists() and len(rows.read_text().splitlines()) >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    state = torch.load(tmp_path / "cut" / "checkpoints" / "last.pt", weights_only=True)["state"]
    assert 0 < state["clock"]["step"] < 60 * 5
    assert json.loads((tmp_path / "cut" / "result.json").read_text())["stop_reason"] == "interrupted"
    done = subprocess.run(
        command(3, f"resume={tmp_path / 'cut'}"), capture_output=True, text=True, timeout=180, env=ALONE
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for (name, a), b in zip(
        weights(tmp_path / "uninterrupted").items(), weights(tmp_path / "cut").values(), strict=True
    ):
        assert torch.equal(a, b), name
    for a, b in zip(history(tmp_path / "uninterrupted"), history(tmp_path / "cut"), strict=True):
        assert a["train_loss"] == b["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stop", "rewind"])
def test_all_ranks_end_a_diverged_run_together_and_keep_the_weights_of_before(mode, tmp_path):
    overrides = (*SMALL, "optimizer.lr=1e30", "architecture.norm=none", "engine=ddp", f"engine.on_nan={mode}")
    given = command(2, *overrides, f"output={tmp_path / 'run'}")
    done = subprocess.run(given, capture_output=True, text=True, timeout=180, env=ALONE)
    assert done.returncode == 1, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "diverged"
    assert all(bool(w.isfinite().all()) for w in weights(tmp_path / "run").values())
    assert done.stderr.count("the epoch starts again with") == (8 if mode == "rewind" else 0)


@pytest.mark.slow
def test_another_number_of_processes_can_resume_and_reports_what_differs(tmp_path):
    train(2, tmp_path / "run")
    overrides = ("epochs=3", f"resume={tmp_path / 'run'}", "engine=auto")
    done = subprocess.run(command(1, *overrides), capture_output=True, text=True, timeout=120, env=ALONE)
    assert done.returncode == 0, done.stderr
    assert "processes 2 -> 1" in re.sub(r"\s+", " ", done.stdout)
    assert "the batches and their order are the same" in re.sub(r"\s+", " ", done.stdout)
    assert len(history(tmp_path / "run")) == 3


@pytest.mark.slow
def test_a_checkpoint_of_several_processes_is_used_in_one(tmp_path, monkeypatch):
    """And a resume in one process, which is refused, names both ways to continue."""
    from trainer.config.load import load_config

    monkeypatch.chdir(tmp_path)
    train(2, tmp_path / "a run", "epochs=1", "engine.sync_batch_norm=true")
    for job in ("evaluate", "export", "predict"):
        config = load_config([f"job={job}", "checkpoint=a run", *(["job.images=."] if job == "predict" else [])])
        assert (config.engine.distributed, config.engine.sync_batch_norm) == ("none", False)
    done = subprocess.run(
        command(1, "job=evaluate", "checkpoint=a run", "output=evaluated"), capture_output=True, text=True, env=ALONE
    )
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "a run" / "result.json").read_text())["test"]
    evaluated = json.loads((tmp_path / "evaluated" / "result.json").read_text())["test"]
    assert evaluated | trained == pytest.approx(evaluated, abs=1e-5)
    with pytest.raises(ConfigError, match=r"torchrun .* resume='a run'\n.*engine=auto"):
        load_config(["resume=a run", "epochs=2"])
    assert load_config(["resume=a run", "epochs=2", "engine=auto"]).engine.distributed == "none"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "overrides", "text"),
    [
        (1, ("engine=ddp",), "torchrun --nproc-per-node 2 -m trainer engine=ddp"),
        (1, ("engine.sync_batch_norm=true",), "has no effect on one process"),
        (2, (), "engine=ddp makes them train together"),
        (2, ("engine=ddp", "job=plan"), "runs in one process"),
        (2, ("engine=ddp", "batch_size=1"), "must be >= 2, the number of processes"),
        (2, ("engine=ddp", "batch_size=2", "architecture=mlp"), "leaves a batch of one image"),
        (2, ("engine=ddp", "-m", "seed=1,2"), "torchrun started several"),
    ],
)
def test_wrong_starts_are_reported_once(processes, overrides, text, tmp_path):
    given = command(processes, *SMALL, f"output={tmp_path / 'run'}", *overrides)
    done = subprocess.run(given, capture_output=True, text=True, timeout=120, env=ALONE)
    assert done.returncode != 0
    ours = done.stderr if processes == 1 else done.stderr.split("ChildFailedError")[0]
    assert ours.count(text) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_broken_image_on_another_rank_is_named_and_ends_all_ranks(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(260):
            Image.new("RGB", (8, 8), (i % 256, 0, 0)).save(tmp_path / "pictures" / name / f"{i:03}.png")
    for file in (tmp_path / "pictures" / "a").glob("*.png"):  # more than are tried before training
        file.write_bytes(b"none")
    root = f"data.root={tmp_path / 'pictures'}"
    overrides = ("data=folder", root, "data.size=8", "data.normalize=none", "engine=ddp", "epochs=1", "device=cpu")
    done = subprocess.run(command(2, *overrides), capture_output=True, text=True, timeout=120, env=ALONE, cwd=tmp_path)
    assert done.returncode != 0
    assert "is not an image that can be decoded" in done.stderr
    assert "Traceback" not in done.stderr.split("ChildFailedError")[0].split("elastic")[0]


def test_converting_to_synchronized_batch_norm_keeps_names_parameters_statistics_and_subclasses():
    from trainer.engine.distributed import SyncBatchNorm, convert_sync_batch_norm

    class Special(torch.nn.BatchNorm2d):
        pass

    shared = torch.nn.BatchNorm2d(3, affine=False)
    inner = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3, momentum=0.3), shared)
    model = torch.nn.Sequential(inner, Special(3), shared, torch.nn.Flatten(), torch.nn.BatchNorm1d(12)).eval()
    x = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    state, parameters, before = model.state_dict(), dict(model.named_parameters()), model(x)
    converted = convert_sync_batch_norm(model, torch.device("cpu"))
    assert list(converted.state_dict()) == list(state)
    assert all(converted.state_dict()[name].data_ptr() == value.data_ptr() for name, value in state.items())
    assert [(name, id(p)) for name, p in converted.named_parameters()] == [
        (name, id(p)) for name, p in parameters.items()
    ]
    assert [type(m) for m in converted.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)].count(
        Special
    ) == 1
    assert isinstance(converted[0][1], SyncBatchNorm)
    assert converted[0][1].momentum == 0.3
    assert not converted[0][1].training
    assert torch.equal(converted(x), before)
    assert isinstance(convert_sync_batch_norm(torch.nn.BatchNorm2d(3), torch.device("cpu")), SyncBatchNorm)
