"""Training on a GPU: captured steps equal eager ones, options equal those on a CPU, runs resume exactly, memory runs out."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUIET, STATEFUL, load, result_of, same_run
from test_engine import WHOLE, run_of
from test_matrix import random_overrides
from test_resume import stopped_at

from trainer.builder import build
from trainer.config.load import load_config
from trainer.config.options import OptionFiles
from trainer.engine.loop import fit
from trainer.engine.run import Run
from trainer.errors import ConfigError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
EXACT = ("device=cuda", "engine.tf32=false")
GROUPS = OptionFiles().groups


def trained(*words: str) -> Run:
    run = build(load_config(list(words)))
    fit(run)
    return run


def assert_close(run: Run, other: Run, tolerance: float) -> None:
    for (name, a), b in zip(run.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.allclose(a.double().cpu(), b.double().cpu(), rtol=0, atol=tolerance, equal_nan=True), name


def captures(run: Run) -> list[str]:
    return [note for note in run.notes if "CUDA graph" in note]


@pytest.mark.parametrize("optimizer", sorted(GROUPS["optimizer"]))
def test_every_optimizer_computes_on_a_gpu_what_it_computes_on_a_cpu(optimizer):
    words = ("epochs=2", f"optimizer={optimizer}", "optimizer.clip_norm=1", "schedule=[cosine]", "engine.tf32=false")
    fitted = []
    for device in ("cpu", "cuda"):
        run = run_of(*words, f"device={device}")
        fit(run)
        fitted.append(run)
    on_cpu, on_gpu = fitted
    assert captures(on_gpu)[-1].startswith(WHOLE)
    assert_close(on_gpu, on_cpu, 2e-3)
    for row, expected in zip(on_gpu.history.rows, on_cpu.history.rows, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)


@pytest.mark.parametrize("seed", range(100))
def test_a_captured_step_of_random_options_equals_an_eager_one(seed):
    words = [*random_overrides(seed), *EXACT, "precision=float32", "epochs=3", "observer=[]"]
    words = [word for word in words if word != "device=cpu"]
    try:
        run = build(load_config(words))
    except ConfigError:
        pytest.skip("these options contradict each other")
    other = build(load_config([*words, "engine.graph=off"]))
    for one in (run, other):
        torch.manual_seed(1)
        fit(one)
    assert captures(run), run.notes
    assert not captures(run)[-1].startswith("no CUDA graph"), captures(run)
    assert_close(run, other, 1e-4)


@pytest.mark.filterwarnings("ignore:avg_pool3d_backward_cuda")  # local response normalization, of cifar10_full
@pytest.mark.parametrize("name", sorted(GROUPS["architecture"]))
def test_every_architecture_is_captured_and_trains_twice_to_the_same_weights(name):
    words = ["data=fake", "data.size=32", "data.count=80", "data.num_classes=3", "batch_size=8", "epochs=1"]
    words += [f"architecture={name}", "device=cuda", "data.validation=0", "regularizer=[]", "observer=[]"]
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(trained(*words))
    for run in runs:
        assert captures(run) == [WHOLE]
        assert math.isfinite(run.history[-1]["train_loss"])
    for (key, a), b in zip(runs[0].model.state_dict().items(), runs[1].model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("optimizer=adam",),
        ("schedule=[one_cycle]",),
        ("optimizer=muon",),
        ("averaging=swa", "averaging.start=0.3"),
        ("data.loading=streaming", "data.num_workers=2"),
        ("precision=float32", "recipe=finetune", "recipe.head_epochs=1", "recipe.lr=0.01"),
        ("engine.on_nan=skip",),
        ("micro_batch=4",),
        ("precision=fp16",),
    ],
    ids=" ".join,
)
def test_a_run_on_a_gpu_resumes_exactly_wherever_it_is_interrupted(words, tmp_path, train, monkeypatch):
    overrides = [*STATEFUL, QUIET, *EXACT, *words]
    assert train(*overrides, f"output={tmp_path / 'whole'}")[0] == 0
    assert train(*overrides, f"output={tmp_path / 'again'}")[0] == 0
    assert same_run(tmp_path / "whole", tmp_path / "again"), "the same command twice"
    steps = load(tmp_path / "whole")["state"]["clock"]["step"]
    for at in (2, steps // 3, steps // 3 + 2, steps - 3):
        folder = tmp_path / f"at_{at}"
        assert stopped_at(at, monkeypatch, train, *overrides, f"output={folder}")[0] == 130
        code, _, err = train(f"resume={folder}")
        assert code == 0, err
        assert same_run(tmp_path / "whole", folder), f"interrupted after step {at} of {steps}"


@pytest.fixture
def little_memory() -> Any:
    """Leave this process half a gibibyte of the GPU."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**29 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


LARGE = (
    "data=fake", "data.size=64", "data.count=2048", "data.num_classes=3", "architecture.widths=[64,64]", "batch_size=512",
    "epochs=1", "device=cuda", QUIET, "architecture.norm=none", "regularizer=[]", "precision=float32", "data.drop_last=true",
)  # fmt: skip


def test_a_step_that_does_not_fit_into_the_memory_of_a_gpu_names_what_fits(tmp_path, train, little_memory):
    code, _, err = train(*LARGE, f"output={tmp_path / 'large'}")
    gc.collect()  # the error holds the network
    assert code != 0
    assert "Traceback" not in err
    assert "micro_batch=" in err, err
    fitting = next(word for word in err.replace(",", " ").split() if word.startswith("micro_batch="))
    code, _, err = train(*LARGE, fitting, f"output={tmp_path / 'fits'}")
    assert code == 0, (fitting, err)


def test_a_step_that_does_not_fit_into_the_memory_of_a_gpu_shrinks(tmp_path, train, little_memory):
    code, _, err = train(*LARGE, "engine.on_oom=shrink", f"output={tmp_path / 'shrunk'}")
    assert code == 0, err
    assert result_of(tmp_path / "shrunk")["micro_batch"] < 512


@pytest.mark.parametrize("on_nan", ["stop", "skip", "rewind"])
def test_a_run_that_diverges_on_a_gpu_is_noticed(on_nan, tmp_path, train):
    words = [*STATEFUL, QUIET, "device=cuda", "optimizer.lr=1e30", f"engine.on_nan={on_nan}", "regularizer=[]"]
    on_gpu = train(*words, f"output={tmp_path / 'gpu'}")
    on_cpu = train(*words, "device=cpu", f"output={tmp_path / 'cpu'}")
    assert on_gpu[0] == on_cpu[0], on_gpu[2]
    assert result_of(tmp_path / "gpu")["status"] == result_of(tmp_path / "cpu")["status"]


def test_a_run_of_a_gpu_is_evaluated_and_resumed_on_a_cpu(tmp_path, train):
    folder = tmp_path / "run"
    assert train(*STATEFUL, QUIET, "device=cuda", "precision=float32", f"output={folder}")[0] == 0
    found = result_of(folder)["test"]
    code, _, err = train("job=evaluate", f"checkpoint={folder}", "device=cpu")
    assert code == 0, err
    code, _, err = train(f"resume={folder}", "device=cpu", "epochs=4")
    assert code == 0, err
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.filterwarnings("ignore")  # torch.compile itself emits warnings
def test_a_compiled_model_trains_on_a_gpu_as_an_eager_one(mode):
    words = ("architecture.norm=none", "data.test=12", "data.drop_last=true", "device=cuda", "engine.tf32=false")
    run, other = run_of(*words, f"engine.compile={mode}"), run_of(*words)
    fit(run)
    fit(other)
    assert_close(run, other, 1e-3)


def test_the_memory_of_a_gpu_does_not_grow_from_epoch_to_epoch(tmp_path):
    words = ["data=fake", "data.size=16", "data.count=200", "batch_size=16", "device=cuda", "observer=[]"]
    peaks = []
    for epochs in (2, 8):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run = trained(*words, f"epochs={epochs}", "regularizer=[dropout,mixup]", "averaging=ema")
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del run
    assert peaks[1] < 1.1 * peaks[0] + 2**20


def test_streaming_to_a_gpu_gives_the_images_of_memory(tmp_path: Path):
    words = ("data.loading=streaming", "data.num_workers=2")
    run, other = run_of(*EXACT, *words), run_of(*EXACT)
    fit(run)
    fit(other)
    assert_close(run, other, 1e-6)
