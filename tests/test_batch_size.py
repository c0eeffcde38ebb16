"""``batch_size=auto``: which size is chosen, by durations and memory that are replaced, and that the run keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import load, same

from trainer.builder import build
from trainer.config.load import load_config
from trainer.engine import batch_size
from trainer.engine.batch_size import choose_batch_size, saved_bytes
from trainer.errors import OutOfMemory
from trainer.hardware import available_memory

SMALL = (
    "data=fake", "data.size=8", "data.num_classes=3", "architecture.widths=[4]", "device=cpu", "precision=float32",
    "regularizer=[dropout]",
)  # fmt: skip


@pytest.fixture
def duration(monkeypatch):
    """Lets a step of n images take 1 + n/16 seconds, which is hardly faster per image from 256 on."""
    monkeypatch.setattr(batch_size, "seconds", lambda run, x, y: 1 + len(x) / 16)
    monkeypatch.setattr(batch_size, "available_memory", lambda: None)


def run_of(count: int):
    return build(load_config([*SMALL, f"data.count={count}", "data.validation=0"]))


def test_the_size_grows_while_twice_the_images_are_a_tenth_faster(duration):
    size, reason = choose_batch_size(run_of(8000))
    assert size == 128, "16, 32, 64, 128, 256 images take 2, 3, 5, 9, 17 seconds: 8, 10.7, 12.8, 14.2, 15.1 images/s"
    assert reason == "256 images per step are hardly faster: 15 and 14 images/s"


@pytest.mark.parametrize(("count", "size"), [(12, 1), (600, 16), (1000, 32)])
def test_an_epoch_keeps_twenty_steps(duration, count, size):
    run = run_of(count)
    largest = len(run.train.dataset) // 20
    chosen = choose_batch_size(run).size
    assert chosen == size if count > 12 else chosen >= 1
    assert chosen <= max(1, largest)


def test_a_size_that_does_not_fit_into_memory_is_not_chosen(duration, monkeypatch):
    run = run_of(8000)
    forward = run.model.forward

    def limited(x):
        if len(x) > 48:
            raise MemoryError("no memory for it")
        return forward(x)

    monkeypatch.setattr(run.model, "forward", limited)
    assert choose_batch_size(run) == (32, "64 images per step do not fit into memory")
    monkeypatch.setattr(run.model, "forward", lambda x: limited(x.repeat(49, 1, 1, 1)))
    monkeypatch.setattr(batch_size, "saved_bytes", lambda run, size: 1)
    with pytest.raises(OutOfMemory, match="a training step of 16 images"):
        choose_batch_size(run)


def test_on_a_cpu_a_size_is_not_tried_if_its_activations_do_not_fit_four_times(duration, monkeypatch):
    run = run_of(8000)
    monkeypatch.setattr(batch_size, "available_memory", lambda: 4 * 70 * saved_bytes(run, 1))
    size, reason = choose_batch_size(run)
    assert size == 64
    assert reason.startswith("128 images per step would need more than the ")


def test_the_run_directory_has_the_number_and_the_run_equals_one_with_it(duration, train):
    words = [*SMALL, "data.count=1500", "epochs=1", "observer=[checkpoint,history_file]"]
    code, out, err = train(*words, "batch_size=auto", "observer=[console,checkpoint,history_file]", "output=auto")
    assert code == 0, err
    size = yaml.safe_load(Path("auto/config.yaml").read_text())["batch_size"]
    assert size == 32
    assert "batch_size = 32, by trying: more would leave fewer than 20 steps per epoch" in out
    assert train(*words, "batch_size=32", "output=typed")[0] == 0
    assert same(load("auto")["state"]["model"], load("typed")["state"]["model"])
    assert train("resume=auto", "epochs=2")[0] == 0
    assert yaml.safe_load(Path("auto/config.yaml").read_text())["batch_size"] == 32


@pytest.mark.parametrize(
    ("more", "text"), [(["micro_batch=8"], "is what one pass takes"), (["batch_size=atuo"], "or full")]
)
def test_what_does_not_go_together_with_auto_is_answered(more, text, train):
    code, _, err = train(*SMALL, "data.count=600", "batch_size=auto", *more, "output=run")
    assert (code, text in err) == (2, True), err


def test_the_available_memory_is_at_most_what_the_control_group_leaves(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:  2000 kB\n")
    assert available_memory(tmp_path) == 2000 * 1024
    group = tmp_path / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("500\n")
    assert available_memory(tmp_path) == 2000 * 1024
    (group / "memory.max").write_text("1500\n")
    assert available_memory(tmp_path) == 1000
    assert available_memory(tmp_path / "proc") is None
