"""A step that does not fit into memory: the run fails and names what fits, or continues with smaller micro-batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUIET, STATEFUL, load, result_of, same, same_run
from torch import nn

import trainer.engine.step as step
from trainer.engine.evaluation import logits
from trainer.errors import is_out_of_memory, memory_text
from trainer.hardware import Precision

RUN = (*STATEFUL, QUIET)
CPU = Precision(torch.device("cpu"))


@pytest.fixture
def room_for(monkeypatch) -> Callable[..., None]:
    """``room_for(images, epoch)``: from an epoch on, a forward pass of more images fails, after it has drawn its dropout and
    changed the statistics of batch normalization. ``room_for(None)`` gives the memory back.
    """
    real = step.forward_backward

    def limit(images: int | None, epoch: int = 0) -> None:
        def forward_backward(run: Any, x: Any, *rest: Any, first: bool) -> Any:
            if images is not None and len(x) > images and run.clock.epoch >= epoch:
                run.forward(x)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore text")
            return real(run, x, *rest, first=first)

        monkeypatch.setattr(step, "forward_backward", forward_backward)

    return limit


def without_micro_batch(folder: str) -> dict[str, Any]:
    state = load(folder)["state"]
    return {k: v for k, v in state.items() if k not in ("micro_batch", "history")}


@pytest.mark.parametrize("overrides", [(), ("optimizer=adam", "averaging=swa"), ("engine.on_nan=skip",)])
def test_a_run_that_shrinks_at_its_first_step_equals_one_with_that_micro_batch(overrides, train, room_for):
    assert train(*RUN, *overrides, "micro_batch=4", "output=set")[0] == 0
    room_for(5)
    code, _, err = train(*RUN, *overrides, "engine.on_oom=shrink", "output=shrunk")
    assert code == 0
    assert err.count("from here on micro_batch=4") == 1
    assert same(without_micro_batch("shrunk"), without_micro_batch("set"))
    assert (load("shrunk")["state"]["micro_batch"], result_of("shrunk")["micro_batch"]) == (4, 4)
    assert "micro_batch" not in result_of("set")


def test_a_run_that_has_shrunk_is_resumed_with_the_same_micro_batches(train, room_for, monkeypatch):
    import trainer.engine.loop as loop

    real = loop.train_step

    def killed(run: Any, *batch: Any) -> None:
        if run.clock.epoch == 2:
            raise RuntimeError("killed")
        real(run, *batch)

    run = (*RUN, "engine.on_oom=shrink", "engine.graph=off")  # a replayed step would not ask for memory
    room_for(8, epoch=1)
    assert train(*run, "output=whole")[0] == 0
    monkeypatch.setattr(loop, "train_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(*run, "output=broken")
    monkeypatch.setattr(loop, "train_step", real)
    room_for(None)  # a larger GPU does not change the run
    assert train("resume=broken")[0] == 0
    assert same_run("whole", "broken")
    assert result_of("broken")["micro_batch"] == 8


def test_a_resume_with_another_micro_batch_uses_that(train, room_for):
    room_for(8)
    assert train(*RUN, "engine.on_oom=shrink", "epochs=2", "schedule=constant", "output=run")[0] == 0
    room_for(None)
    code, out, _ = train("resume=run", "epochs=3", "micro_batch=6", "observer=[console,checkpoint,history_file]")
    assert code == 0
    assert "changed: epochs 2 -> 3, micro_batch" in out
    assert "micro_batch" not in result_of("run")
    assert "micro_batch" not in load("run")["state"]


def test_shrinking_changes_no_bit_of_a_run_that_fits(train):
    assert train(*RUN, "output=fail")[0] == 0
    assert train(*RUN, "engine.on_oom=shrink", "output=shrink")[0] == 0
    assert same_run("fail", "shrink")


def test_a_step_that_does_not_fit_names_the_micro_batch_that_does_and_the_command_works(train, room_for):
    assert train(*RUN, "micro_batch=4", "output=set")[0] == 0
    room_for(5)
    code, _, err = train(*RUN, "output=run")
    assert code == 1
    assert err.startswith(
        "error: out of memory: a training step of 16 images did not fit (CUDA out of memory. Tried to"
    )
    assert "micro_batch=4 fits" in err
    assert "engine.on_oom=shrink" in err
    assert "resume=run micro_batch=4 continues the run" in err
    assert "Traceback" not in err
    assert result_of("run")["status"] == "failed"
    assert train("resume=run", "micro_batch=4")[0] == 0
    assert same(without_micro_batch("run"), without_micro_batch("set"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fail", "shrink"])
def test_a_step_of_which_nothing_fits_says_so(mode, train, room_for):
    room_for(0)
    code, _, err = train(*RUN, f"engine.on_oom={mode}", "output=run")
    assert code == 1
    assert "no micro_batch fits" in err


@pytest.mark.parametrize("mode", ["fail", "shrink"])
def test_no_micro_batch_leaves_batch_normalization_a_single_image(mode, train, room_for):
    """On images of 8 x 8 pixels its last layer sees a single value per channel."""
    room_for(5)
    run = ("data.size=8", "architecture.widths=[4,4,4,4]", "data.count=171", "data.validation=0.1", "batch_size=16")
    code, _, err = train(*RUN, *run, f"engine.on_oom={mode}", "output=run")
    assert "of one image" not in err
    assert "micro_batch=1 " not in err
    assert code == (1 if mode == "fail" else 0)


def test_memory_that_the_optimizer_lacks_is_an_error_in_words(train, monkeypatch):
    def lacking(run: Any) -> None:
        raise MemoryError("Unable to allocate 7.00 GiB")

    monkeypatch.setattr(step, "update", lacking)
    code, _, err = train(*RUN, "engine.on_oom=shrink", "device=cpu", "output=run")
    assert (code, "out of memory: Unable to allocate 7.00 GiB" in err, "batch_size" in err) == (1, True, True)
    assert "resume=run continues the run" in err


def test_a_failed_job_of_a_sweep_states_the_micro_batch_and_the_next_job_runs(train, room_for):
    room_for(10)
    code, _, err = train("-m", *RUN, "epochs=1", "batch_size=16,8", "output=sweep")
    assert code == 1
    assert "micro_batch=8 fits" in err
    assert "Traceback" not in err
    statuses = sorted(result_of(path.parent)["status"] for path in Path("sweep").glob("*/result.json"))
    assert statuses == ["failed", "finished"]


def test_the_report_and_the_console_state_that_a_run_has_shrunk(train, room_for):
    room_for(8)
    code, out, _ = train(*STATEFUL, "epochs=1", "engine.on_oom=shrink", "observer=[console,report]", "output=run")
    text = "a step did not fit into memory: from then on micro_batch=8"
    assert (
        code,
        text in out,
        text.replace("_", "") in Path("run/report.md").read_text().replace("\\_", "").replace("_", ""),
    ) == (0, True, True)


def test_ranks_may_not_shrink_each_for_itself(train):
    code, _, err = train("engine=ddp", "engine.on_oom=shrink")
    assert code == 2
    assert "engine.on_oom = 'shrink': needs one process" in err


class Limited(nn.Module):
    """Fails on batches of more than ``images``."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images, self.sizes = images, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.images:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return x.flatten(1)


@pytest.mark.parametrize("tta", ["none", "mirror"])
def test_an_evaluation_splits_batches_that_do_not_fit(tta):
    x = torch.arange(44.0).view(11, 1, 2, 2)
    assert torch.equal(logits(Limited(3), x, CPU, tta), logits(Limited(11), x, CPU, tta))
    with pytest.raises(RuntimeError, match="can't allocate"):
        logits(Limited(0), x, CPU, tta)


def test_errors_of_other_kinds_pass(train, monkeypatch):
    calls = []

    def wrong(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(step, "forward_backward", wrong)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(*RUN, "engine.on_oom=shrink", "output=run")
    assert len(calls) == 1


def test_the_errors_of_the_libraries_are_recognized():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60)
    with pytest.raises(MemoryError) as of_python:
        bytearray(2**62)
    for error in (
        of_torch.value,
        of_python.value,
        torch.OutOfMemoryError("x"),
        RuntimeError("CUDA error: out of memory"),
    ):
        assert is_out_of_memory(error)
        assert memory_text(error).startswith("out of memory: ")


LIMITED = """
import resource, sys
from pathlib import Path
from trainer.cli import main
assert main([*sys.argv[2:], "epochs=0.01", "output=warm"]) == 0
size = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]) * 2**20,) * 2)
sys.exit(main([*sys.argv[2:], "batch_size=2048", "epochs=1", "output=run"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fail", "shrink"])
def test_a_process_with_little_memory_fails_or_shrinks(mode, tmp_path):
    """The limit is that of the address space, as of ``ulimit -v``."""
    arguments = [
        "data=fake", "data.size=32", "data.count=4000", "device=cpu", "precision=float32", "engine.keep_memory=false",
        "architecture.widths=[16,32]", "batch_size=64", f"engine.on_oom={mode}", QUIET,
    ]  # fmt: skip
    command = [sys.executable, "-c", LIMITED, "500", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    if mode == "fail":
        assert done.returncode == 1
        assert "micro_batch=" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert result_of(tmp_path / "run")["micro_batch"] < 2048
