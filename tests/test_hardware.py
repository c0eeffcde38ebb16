"""The number of usable cores: CPU affinity, a container's quota, and other processes of the same run."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from trainer import hardware
from trainer.config.load import load_config
from trainer.engine.process import slow
from trainer.errors import ConfigError
from trainer.hardware import accumulator_dtype, resolve_device, resolve_precision, usable_cores


def machine(root: Path, groups: str, **files: str) -> Path:
    """A root directory with ``/proc/self/cgroup`` and files under ``/sys/fs/cgroup`` (``a__b`` is a/b)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/a/b\n", {"a__b__cpu.max": "max 100000", "a__cpu.max": "50000 100000"}, 0.5),
        ("3:cpuset:/x\n2:cpu,cpuacct:/x\n0::/\n",
         {"cpu,cpuacct__x__cpu.cfs_quota_us": "400000\n", "cpu,cpuacct__x__cpu.cfs_period_us": "100000\n"}, 4.0),
        ("2:cpu:/\n", {"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
    ],
    ids=["version 2", "no limit", "no file", "parent group", "version 1", "version 1, no limit", "unreadable"],
)  # fmt: skip
def test_the_quota_is_that_of_the_control_groups(groups, files, expected, tmp_path):
    assert hardware.quota(machine(tmp_path, groups, **files)) == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert hardware.quota(tmp_path) == math.inf


@pytest.mark.parametrize(("bound", "quota", "processes", "expected"), [
    (8, math.inf, 1, 8), (8, 2.5, 1, 3), (8, 0.5, 1, 1), (2, 64.0, 1, 2), (8, math.inf, 4, 2), (2, math.inf, 3, 1),
])  # fmt: skip
def test_the_processes_of_a_run_divide_the_usable_cores(bound, quota, processes, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    monkeypatch.setattr(hardware, "quota", lambda: quota)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert hardware.usable_cores() == expected


def test_mps_is_refused_with_the_reason_where_it_is_absent(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    with pytest.raises(ConfigError, match="built without MPS"):
        resolve_device("mps", "auto")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="needs Apple silicon"):
        resolve_device("mps", "gpu")


def test_mps_is_taken_where_it_is_named_and_computes_in_float32_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device = resolve_device("mps", "gpu")
    assert device == torch.device("mps")
    names = [resolve_precision(device, name, True).name for name in ("auto", "fp16", "bf16")]
    assert names == ["float32", "fp16", "bf16"]
    assert accumulator_dtype(device) is torch.float32, "it has no float64"
    with pytest.raises(ConfigError, match="contradicts engine=cpu"):
        resolve_device("mps", "cpu")
    assert resolve_device("auto", "auto").type != "mps"


def test_mps_is_refused_before_torch_is_imported_unless_this_is_a_mac(monkeypatch):
    with pytest.raises(ConfigError, match="device = 'mps': is the GPU of a Mac"):
        load_config(["device=mps"], here=True)
    monkeypatch.setattr("sys.platform", "darwin")
    assert load_config(["device=mps"], here=True).device == "mps"


def test_more_processes_than_gpus_are_refused_before_nccl_does(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(hardware, "world_size", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="torchrun has started 3 processes on this machine, and there are 2 GPUs"):
        resolve_device("auto", "auto")
    assert resolve_device("cpu", "auto").type == "cpu"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of three machines
    assert str(resolve_device("auto", "auto")) == "cuda:0"


def test_more_threads_than_cores_and_fp16_on_a_cpu_are_said_to_be_slow():
    device = torch.device("cpu")
    cores = usable_cores()
    assert slow(cores, resolve_precision(device, "float32", True)) == []
    many, fp16 = slow(cores + 1, resolve_precision(device, "fp16", True))
    assert many.startswith(f"{cores + 1} threads on {cores} cores")
    assert "fp16" in fp16
